#!/usr/bin/env bash
# Measures spaces on a release build of the server and prints the rows of RESULTS.md: a Markdown
# table on standard output, every raw result in a file.
#
#   bench/spaces.sh [--quick] [--rounds N] [--raw FILE] [--server PROGRAM] [--load PROGRAM] [--rows NAMES]
#
# A full run takes about 4 minutes, a quick one 2. --rows is a list out of
# "one shards many voice chat joins memory". Clients run on the second CPU, the server on the first.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=3 seconds=10 many=1000 worlds=50 raw=bench/spaces.jsonl
rows="one shards voice chat joins memory many"
http=22140 control=22141 media=22142 spaces=22143
quick() { rounds=1 seconds=5; }
source bench/common.sh
begin "$@"

# start SHARDS: media shards, all on the server's CPU.
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
  printf '[shards]\nmedia = %s\nhost = "thread"\n' "$1" > "$dir/core-pinning.toml"
  RUST_LOG=error serve taskset -c "$server_cpu"
}

# play ROW [OPTION...]: from a server of $shards shards that has had no players before.
shards=1
play() {
  local row=$1
  shift
  start "$shards"
  measure "$row" spaces --spaces 127.0.0.1:$spaces --control 127.0.0.1:$control --pid "$pid" \
    --seconds "$seconds" "$@"
}

for _ in $(seq "$rounds"); do
  if wants one; then play "50 players in one space"; fi
  if wants shards; then
    # The same work on two shards that share the CPU: what half of the players send crosses.
    shards=2 play "50 players in one space, two shards on one CPU"
  fi
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
jq -rs "$statistics"'
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
ratio "50 players in one space, two shards on one CPU" "50 players in one space" cpu_us_per_location
