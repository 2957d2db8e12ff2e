#!/usr/bin/env bash
# Measures a release build of the server against the bare loop, in one run and in turns, and prints
# the rows of RESULTS.md: a Markdown table on standard output, every raw result in a file.
#
#   bench/compare.sh [--quick] [--rounds N] [--raw FILE] [--server PROGRAM] [--load PROGRAM]
#
# A full run takes about 7 minutes, a quick one 2.
#
# The server and the bare loop run on the first CPU, viewers and publishers on the second.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=3 seconds=8 warmup=2 idle_seconds=10 growth="10 100 300 1000 3000" growth_seconds=6 lead=2.2
raw=bench/results.jsonl
http=18880 rtmp=11985 control=14842
quick() { rounds=1 seconds=4 warmup=1 idle_seconds=4 growth="10 300 1000" growth_seconds=3 lead=1; }
source bench/common.sh
begin "$@"

# start MERGE WINDOW_MS SHARDS [HOST]
start() {
  stop
  cat > "$dir/config.json" <<JSON
{"webrtc": {"port": 18982}, "config": {"controller": {"interface": "127.0.0.1", "port": $control},
  "protocols": [{"connector": "HTTP", "interface": "127.0.0.1", "port": $http},
    {"connector": "RTMP", "interface": "127.0.0.1", "port": $rtmp},
    {"connector": "FLV"}, {"connector": "HTTPTS"}, {"connector": "MP4"}]},
 "limits": {"connections_max": 10000},
 "delivery": {"merge": "$1", "merge_ms_max": $2},
 "streams": {"live": {"source": "push://", "DVR": 2000}}}
JSON
  printf '[shards]\nmedia = %s\nhost = "%s"\n' "$3" "${4:-thread}" > "$dir/core-pinning.toml"
  if [ "$3" = 1 ]; then
    printf 'cpus = [%s]\n' "$server_cpu" >> "$dir/core-pinning.toml"
  fi
  RUST_LOG=warn serve
}

# streams ROW VIEWERS [OPTION...]
streams() {
  local row=$1 viewers=$2
  shift 2
  measure "$row" streams --rtmp 127.0.0.1:$rtmp --http 127.0.0.1:$http \
    --control 127.0.0.1:$control --pid "$pid" --viewers "$viewers" \
    --seconds "$seconds" --warmup "$warmup" --lead "$lead" --connect-rate 400 "$@"
}

# floor ROW MERGE_MS [OPTION...]
floor() {
  local row=$1 merge=$2
  shift 2
  echo "== $row" >&2
  "$load" --cpu "$server_cpu" floor --sink-cpu "$client_cpu" --merge-ms "$merge" \
    --seconds "$seconds" --warmup "$warmup" "$@" 2> "$dir/load.log" | keep "$row"
}

ticks() { awk '{ sum += $1 } END { print sum }' /proc/"$pid"/task/*/schedstat; }

idle() {
  echo "== idle" >&2
  start adaptive 100 "$1"
  sleep 1
  local before after
  before=$(ticks)
  sleep "$idle_seconds"
  after=$(ticks)
  awk -v ns=$((after - before)) -v s="$idle_seconds" \
    'BEGIN { printf "{\"kind\":\"idle\",\"server_cpu_share\":%.6f}\n", ns / s / 1e9 }' | keep idle
}

idle 1
for _ in $(seq "$rounds"); do
  floor "bare loop" 0
  start off 0 1
  for kind in rtmp flv ts mp4; do
    streams "off, 300 $kind" "$kind=300"
  done
  start off 0 1 glommio
  streams "off, 300 flv, glommio" flv=300
  floor "bare loop, 50 ms" 50
  start fixed 50 1
  streams "50 ms, 300 flv" flv=300
  floor "bare loop, 100 ms" 100
  start fixed 100 1
  streams "100 ms, 300 flv" flv=300
  start adaptive 100 1
  streams "adaptive, 300 mixed" rtmp=75,flv=75,ts=75,mp4=75
done

seconds=$growth_seconds
start off 0 1
for count in $growth; do
  streams "growth, $count flv" "flv=$count"
done
# Memory is taken from a server that has had no viewer before, once the publisher has filled the
# stream's window and the receive buffers have all been used.
lead=6
for kind in rtmp flv ts mp4; do
  start off 0 1
  streams "memory, 300 $kind" "$kind=300"
done
for kind in rtmp flv; do
  start off 0 1
  streams "memory, 1000 $kind" "$kind=1000" --publish synthetic:400,10,1000,0
done
start off 0 1
streams "one shard, 300 flv of 2 streams" flv=300 --publishers 2
start off 0 2
streams "two shards, 600 flv of 2 streams" flv=600 --publishers 2

table() {
  jq -rs "$statistics"'
    (group_by(.row) | map({row: .[0].row, at: 0, runs: .})) as $rows
    | (reduce .[].row as $r ([]; if index([$r]) then . else . + [$r] end)) as $order
    | ($order[] as $name | $rows[] | select(.row == $name) | .runs
      | [ $name, (length | tostring),
          (column(.cpu_s_per_gb) | show(3)),
          (column(.cpu_us_per_viewer_s) | show(0)),
          (column(.server_cpu_share) | if . == null then null else . * 100 end | show(2)),
          (column(.delivery_gap_ms.p50) | show(1)), (column(.delivery_gap_ms.p99) | show(1)),
          (column(.added_latency_ms.p50) | show(2)), (column(.added_latency_ms.p99) | show(2)),
          (column(.server.added_latency_ms.p50) | show(2)), (column(.server.added_latency_ms.p99) | show(2)),
          (column(.first_frame_ms.p50) | show(1)), (column(.first_frame_ms.p99) | show(1)),
          (column(.rss_per_viewer) | if . == null then null else . / 1000 end | show(1)),
          (map((.errors // 0) + (.disconnects // 0) + (.stalls // 0) + (.dropped_sends // 0)) | add | tostring)
        ] | "| " + join(" | ") + " |")
  ' "$raw"
}

echo "| row | runs | CPU-s/GB | CPU-µs per viewer and s | CPU % | gap p50 ms | gap p99 ms | latency p50 ms | latency p99 ms | server's own p50 ms | p99 ms | first picture p50 ms | p99 ms | RSS kB per viewer | failures |"
echo "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
table
echo
echo "| ratio of CPU per GB | |"
echo "|---|---|"
for kind in rtmp flv ts mp4; do
  ratio "off, 300 $kind" "bare loop" cpu_s_per_gb
done
ratio "off, 300 flv, glommio" "off, 300 flv" cpu_s_per_gb
ratio "50 ms, 300 flv" "bare loop, 50 ms" cpu_s_per_gb
ratio "100 ms, 300 flv" "bare loop, 100 ms" cpu_s_per_gb
ratio "two shards, 600 flv of 2 streams" "one shard, 300 flv of 2 streams" cpu_s_per_gb
