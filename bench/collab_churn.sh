#!/usr/bin/env bash
# Lets users of a collaborative session come and go at random, cut at every step, edit, lock, stall and
# send what they must not, and fails unless the server is left with the descriptors, connections, users
# and locks that it began with.
#
#   bench/collab_churn.sh [SECONDS [SEED]]        60 s and seed 1 by default
#
# Uses the $RINGSIDE_PROFILE (dev by default) build of the server.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60} seed=${2:-1} profile=${RINGSIDE_PROFILE:-dev}
server=${RINGSIDE:-}
if [ -z "$server" ]; then
  cargo build --quiet --locked --profile "$profile"
  server=${CARGO_TARGET_DIR:-target}/$([ "$profile" = dev ] && echo debug || echo "$profile")/ringside
fi
port=25680 control=25690
dir=$(mktemp -d)
cat > "$dir/config.json" <<JSON
{"config": {"controller": {"interface": "127.0.0.1", "port": $control}, "protocols": []},
 "collab": {"interface": "127.0.0.1", "sessions": [{"port": $port, "admin_password": "adm",
   "server_password": "pw", "versions": ["0.9.11", "0.10.2"]}]}}
JSON
RUST_LOG=warn "$server" serve -c "$dir/config.json" 2> "$dir/server.log" &
pid=$!
trap 'kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; rm -rf "$dir"' EXIT
for _ in $(seq 100); do
  curl -sf -o /dev/null "http://127.0.0.1:$control/readyz" && break
  sleep 0.1
done
if ! python3 bench/collab_churn.py "$port" "$control" "$pid" "$seconds" "$seed" \
  || grep -i panicked "$dir/server.log"; then
  cat "$dir/server.log" >&2
  exit 1
fi
