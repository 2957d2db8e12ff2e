#!/usr/bin/env bash
# Installs what the tests need (Debian 12 or later with a Rust toolchain) and runs all of them.
#
#   tests/run.sh           everything
#   tests/run.sh fast      without the end-to-end tests
#   tests/run.sh install   only install
#
# What it installs: Debian packages, Python packages (a newer FFmpeg, aiortc, and three versions of
# the package replication, each in a place of its own) in virtual environments under ~/.cache/ringside-tests, and npm packages under tests/browser/node_modules.
set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS

section() { printf '\n==> %s\n' "$*"; }

section "packages"
packages=(
  # to build: glommio runs git and a C compiler
  build-essential git pkg-config ca-certificates curl
  # players and encoders
  ffmpeg vlc-bin vlc-plugin-base rtmpdump librtmp-dev
  gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
  gstreamer1.0-plugins-ugly gstreamer1.0-libav
  # GStreamer's webrtcbin, driven by Debian's Python
  gstreamer1.0-nice gir1.2-gst-plugins-bad-1.0 python3-gi
  # TLS clients, and the reverse proxy of deploy/nginx.conf
  openssl nginx-light
  # browsers, and what drives them
  chromium firefox-esr fonts-dejavu-core
  # the newer FFmpeg; the address and socket tools the doctor names
  python3 python3-venv iproute2 procps
)
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "all installed"
fi
rustup component list --installed 2>/dev/null | grep -q '^clippy' || rustup component add clippy rustfmt

section "newer FFmpeg (enhanced RTMP and FLV, WHIP) and aiortc"
venv=${XDG_CACHE_HOME:-$HOME/.cache}/ringside-tests/venv
ffmpeg9() { "$venv/bin/python" -c 'import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())'; }
if ! ffmpeg9 >/dev/null 2>&1; then
  # A python that was not built by Debian may be first in the path and have no ensurepip.
  python3 -m venv --clear "$venv" || /usr/bin/python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check 'imageio-ffmpeg>=0.8.1,<1'
fi
if ! "$venv/bin/python" -c 'import aiortc' 2>/dev/null; then
  "$venv/bin/pip" install --quiet --disable-pip-version-check 'aiortc>=1.16,<2'
fi
RINGSIDE_FFMPEG9=$(ffmpeg9)
export RINGSIDE_FFMPEG9
"$RINGSIDE_FFMPEG9" -hide_banner -version | sed -n 1p

section "the original clients of collaborative sessions"
for version in 0.1.26 0.9.11 0.10.3; do
  client=${XDG_CACHE_HOME:-$HOME/.cache}/ringside-tests/replication-$version
  if ! "$client/bin/python" -c 'import replication.interface, deepdiff' 2>/dev/null; then
    python3 -m venv --clear "$client" || /usr/bin/python3 -m venv --clear "$client"
    "$client/bin/pip" install --quiet --disable-pip-version-check "replication==$version" deepdiff==8.1.1
    if [ "$version" = 0.1.26 ]; then
      # It asks for a name that Python has moved with 3.10.
      echo 'import collections, collections.abc; collections.MutableMapping = collections.abc.MutableMapping' \
        >"$("$client/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/moved_names.pth"
    fi
  fi
done

section "browser driver"
if ! cmp -s tests/browser/package-lock.json tests/browser/node_modules/.installed; then
  (cd tests/browser && npm ci --no-audit --no-fund --loglevel=error)
  cp tests/browser/package-lock.json tests/browser/node_modules/.installed
fi
node --version

if [ "${1:-}" = install ]; then
  exit 0
fi
# A run that starts from nothing gains nothing from incremental builds.
if [ "${CI:-}" = true ]; then
  export CARGO_TERM_COLOR=never CARGO_INCREMENTAL=0
fi
.ci/check "$@"
section "all passed in $((SECONDS - started)) s"
