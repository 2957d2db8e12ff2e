#!/usr/bin/env bash
# Measures spaces on a release build of the server and prints the rows of RESULTS.md: a Markdown
# table on standard output, every raw result in a file.
#
#   bench/spaces.sh [--quick] [--raw FILE] [--server PROGRAM] [--load PROGRAM] [--rows NAMES]
#
# A full run takes about 4 minutes, a quick one 2. --rows is a list out of
# "one many voice chat joins memory". Clients run on the second CPU, the server on the first.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=3 seconds=10 many=1000 worlds=50 raw=bench/spaces.jsonl
rows="one voice chat joins memory many" server="" load="" base=22140
while [ $# -gt 0 ]; do
  case $1 in
    --quick) rounds=1 seconds=5 ;;
    --raw) raw=$2; shift ;;
    --server) server=$2; shift ;;
    --load) load=$2; shift ;;
    --rows) rows=$2; shift ;;
    *) sed -n 2,9p "$0"; exit 2 ;;
  esac
  shift
done

target=${CARGO_TARGET_DIR:-target}
if [ -z "$server" ] || [ -z "$load" ]; then
  cargo build --quiet --release --workspace
fi
server=${server:-$target/release/ringside}
load=${load:-$target/release/ringside-load}
ulimit -n "$(ulimit -Hn)"
server_cpu=0
client_cpu=$(( $(nproc) > 1 ? 1 : 0 ))

http=$base control=$((base + 1)) media=$((base + 2)) spaces=$((base + 3))
dir=$(mktemp -d)
pid=""
stop() {
  if [ -n "$pid" ]; then
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    pid=""
  fi
}
trap 'stop; rm -rf "$dir"' EXIT
: > "$raw"

start() {
  stop
  cat > "$dir/config.json" <<JSON
{"config": {"controller": {"interface": "127.0.0.1", "port": $control},
  "protocols": [{"connector": "HTTP", "interface": "127.0.0.1", "port": $http},
    {"connector": "WebRTC"}]},
 "webrtc": {"interface": "127.0.0.1", "port": $media, "announced": ["127.0.0.1"],
   "sessions_max": 10000},
 "spaces": {"interface": "127.0.0.1", "port": $spaces},
 "limits": {"connections_max": 10000},
 "streams": {}}
JSON
  printf '[shards]\nmedia = 1\nhost = "thread"\ncpus = [%s]\n' "$server_cpu" > "$dir/core-pinning.toml"
  RUST_LOG=error taskset -c "$server_cpu" "$server" serve -c "$dir/config.json" \
    --pinning "$dir/core-pinning.toml" 2> "$dir/server.log" &
  pid=$!
  for _ in $(seq 100); do
    if [ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$control/readyz")" = 200 ]; then
      return
    fi
    sleep 0.05
  done
  cat "$dir/server.log" >&2
  echo "the server is not ready" >&2
  exit 1
}

wants() { [[ " $rows " == *" $1 "* ]]; }

# play ROW [OPTION...]: from a server that has had no players before.
play() {
  local row=$1
  shift
  echo "== $row" >&2
  start
  "$load" --cpu "$client_cpu" spaces --spaces 127.0.0.1:$spaces --control 127.0.0.1:$control \
    --pid "$pid" --seconds "$seconds" "$@" 2> "$dir/load.log" > "$dir/line" ||
    { echo "   something went wrong:" >&2; tail -n 3 "$dir/load.log" "$dir/line" >&2; }
  jq -c --arg row "$row" '{row: $row} + .' "$dir/line" >> "$raw"
}

for _ in $(seq "$rounds"); do
  if wants one; then play "50 players in one space"; fi
  if wants voice; then play "20 players in one space, with voice" --players 20 --voice; fi
  if wants joins; then
    play "join, 10 players in each of 10 spaces" --players 100 --worlds 10 --connect-rate 10 \
      --parallel 4
  fi
  if wants chat; then
    play "chat, 200 players in one space" --players 200 --no-media --chat 4 --connect-rate 500 \
      --parallel 64
  fi
done
if wants memory; then
  play "memory, 1000 players in pairs" --players "$many" --worlds $((many / 2)) --hz 1 --parallel 400 \
    --connect-rate 100
fi
if wants many; then
  play "1000 players in 50 spaces" --players "$many" --worlds "$worlds" --connect-rate 60 \
    --poll-us 10000
fi

echo "| row | runs | delivered/s | lost % | µs per location | messages per datagram | locations p50 ms | p99 ms | µs per chat | chat p99 ms | join to location p50 ms | p99 ms | RSS kB per player | server CPU % | client CPU % | failures |"
echo "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
jq -rs '
  def median: sort | if length == 0 then null else .[(length - 1) / 2 | floor] end;
  def column(f): map(f) | map(select(. != null)) | median;
  def show(digits): if . == null then "" else
    (. * pow(10; digits) | round / pow(10; digits) | tostring) end;
  (reduce .[].row as $r ([]; if index([$r]) then . else . + [$r] end)) as $order
  | . as $all | $order[] as $name | $all | map(select(.row == $name))
  | [ $name, (length | tostring),
      (column(.delivered_s) | show(0)), (column(.lost_percent) | show(3)),
      (column(.cpu_us_per_location) | show(2)), (column(.messages_per_datagram) | show(1)),
      (column(.location_ms.p50) | show(2)), (column(.location_ms.p99) | show(2)),
      (column(.cpu_us_per_chat) | show(2)), (column(.chat_ms.p99) | show(2)),
      (column(.join_to_location_ms.p50) | show(1)), (column(.join_to_location_ms.p99) | show(1)),
      (column(.rss_per_player) | if . then . / 1000 else null end | show(1)),
      (column(.server_cpu_share) | if . then . * 100 else null end | show(1)),
      (column(.client_cpu_share) | if . then . * 100 else null end | show(1)),
      (map(.failed // 0) | add | tostring)
    ] | "| " + join(" | ") + " |"
' "$raw"
