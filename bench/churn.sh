#!/usr/bin/env bash
# Lets viewers and publishers come and go at random, cut at every step, and fails unless the server
# is left with the descriptors, connections and slabs that it began with.
#
#   bench/churn.sh [SECONDS [SEED]]        60 s and seed 1 by default
#
# Uses $RINGSIDE_PROFILE (dev by default) builds of the server and the load tool.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60} seed=${2:-1} profile=${RINGSIDE_PROFILE:-dev}
target=${CARGO_TARGET_DIR:-target}
cargo build --quiet --workspace --locked --profile "$profile"
programs=$target/$([ "$profile" = dev ] && echo debug || echo "$profile")

http=18980 rtmp=11995 control=14942
dir=$(mktemp -d)
cat > "$dir/config.json" <<JSON
{"webrtc": {"port": 18981}, "config": {"controller": {"interface": "127.0.0.1", "port": $control},
  "protocols": [{"connector": "HTTP", "interface": "127.0.0.1", "port": $http},
    {"connector": "RTMP", "interface": "127.0.0.1", "port": $rtmp}]},
 "streams": {"live": {"source": "push://", "DVR": 5000}}}
JSON
RUST_LOG=warn "$programs/ringside" serve -c "$dir/config.json" 2> "$dir/server.log" &
pid=$!
trap 'kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; rm -rf "$dir"' EXIT
ready() { curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$control/readyz" || true; }
for _ in $(seq 100); do
  [ "$(ready)" = 200 ] && break
  sleep 0.1
done
if ! "$programs/ringside-load" churn --rtmp 127.0.0.1:$rtmp --http 127.0.0.1:$http \
  --control 127.0.0.1:$control --pid "$pid" --seconds "$seconds" --seed "$seed"; then
  cat "$dir/server.log" >&2
  exit 1
fi
