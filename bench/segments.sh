#!/usr/bin/env bash
# Measures HLS, low-latency HLS and DASH on a release build, next to nginx (`sendfile`) with the same
# bytes, and prints the rows of RESULTS.md: a Markdown table on standard output, every raw result in a
# file.
#
#   bench/segments.sh [--quick] [--rounds N] [--raw FILE] [--server PROGRAM] [--load PROGRAM]
#
# A full run takes about 6 minutes, a quick one 2. The server and nginx run on the first CPU, viewers
# and publishers on the second. Without nginx its rows are left out.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=3 seconds=5 live_seconds=20 many=3000 raw=bench/segments.jsonl
http=${RINGSIDE_BENCH_PORT:-18881} rtmp=$((http + 1)) control=$((http + 2)) static=$((http + 3))
quick() { rounds=1 seconds=3 live_seconds=8 many=1000; }
source bench/common.sh
begin "$@"

start_server() {
  cat > "$dir/config.json" <<JSON
{"webrtc": {"port": 18983}, "config": {"controller": {"interface": "127.0.0.1", "port": $control},
  "protocols": [{"connector": "HTTP", "interface": "127.0.0.1", "port": $http},
    {"connector": "RTMP", "interface": "127.0.0.1", "port": $rtmp},
    {"connector": "HLS"}, {"connector": "CMAF"}]},
 "limits": {"connections_max": 10000},
 "streams": {"large": {"source": "push://"}, "small": {"source": "push://"}, "live": {"source": "push://"}}}
JSON
  printf '[shards]\nmedia = 1\ncpus = [%s]\n' "$server_cpu" > "$dir/core-pinning.toml"
  RUST_LOG=warn serve
}

start_nginx() {
  command -v nginx >/dev/null || return 0
  mkdir -p "$dir/www"
  cat > "$dir/nginx.conf" <<CONF
worker_processes 1; daemon off; pid $dir/nginx.pid; error_log $dir/nginx.log;
events { worker_connections 4096; }
http {
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;
  client_body_temp_path $dir/b; proxy_temp_path $dir/p; fastcgi_temp_path $dir/f;
  uwsgi_temp_path $dir/u; scgi_temp_path $dir/s;
  server { listen 127.0.0.1:$static; root $dir/www; }
}
user $(id -un);
CONF
  taskset -c "$server_cpu" nginx -c "$dir/nginx.conf" -p "$dir" 2>/dev/null &
  pids+=($!)
  for _ in $(seq 40); do
    nginx_pid=$(pgrep -P $! 2>/dev/null | head -n 1 || true)
    [ -n "$nginx_pid" ] && return
    sleep 0.05
  done
}

# publish STREAM KBIT: in the background, with one viewer, who keeps its renditions alive.
publish() {
  "$load" --cpu "$client_cpu" llhls --http 127.0.0.1:$http --rtmp 127.0.0.1:$rtmp --stream "$1" \
    --publish "synthetic:$2,30,2000,128,46.875" --lead 3 --viewers 1 --seconds 900 >/dev/null 2>&1 &
  pids+=($!)
}

# get ROW URL PID [OPTION...]
get() {
  local row=$1 url=$2 of=$3
  shift 3
  measure "$row" get --url "$url" --pid "$of" --seconds "$seconds" "$@"
}

# watch ROW KIND VIEWERS [OPTION...]
watch() {
  local row=$1 kind=$2 viewers=$3
  shift 3
  measure "$row" "$kind" --http 127.0.0.1:$http --rtmp 127.0.0.1:$rtmp --stream live \
    --publish synthetic --pid "$pid" --viewers "$viewers" --seconds "$live_seconds" \
    --connect-rate 400 "$@"
  # The name is free for the next publisher.
  sleep 1
}

# A whole segment and a part that stay in the window while they are asked for.
newest() { curl -s "http://127.0.0.1:$http/cmaf/$1/1/index.m3u8" | grep -o "chunk_$2" | tail -n 1; }

start_server
start_nginx
publish large 2150
publish small 690
sleep 12
base=http://127.0.0.1:$http/cmaf
for round in $(seq "$rounds"); do
  segment=$(newest large '[0-9]*\.m4s')
  part=$(newest small '[0-9]*\.[1-9]\.m4s')
  get "segment" "$base/large/1/$segment" "$pid"
  get "part" "$base/small/1/$part" "$pid"
  get "playlist" "$base/large/1/index.m3u8" "$pid"
  if [ -n "${nginx_pid:-}" ]; then
    curl -s "$base/large/1/$segment" > "$dir/www/segment.m4s"
    curl -s "$base/small/1/$part" > "$dir/www/part.m4s"
    curl -s "$base/large/1/index.m3u8" > "$dir/www/index.m3u8"
    for name in segment.m4s part.m4s index.m3u8; do
      get "nginx, ${name%.*}" "http://127.0.0.1:$static/$name" "$nginx_pid"
    done
  fi
done
stop
start_server
live_seconds=3 watch "first part" llhls 1 --lead 0
watch "300 hls" hls 300
watch "300 llhls, cmaf" llhls 300
watch "300 llhls, ts" llhls 300 --path /hls/live/index.m3u8
watch "300 dash" dash 300
watch "$many llhls waiting, ts" llhls "$many" --path /hls/live/index.m3u8 --playlists-only
stop

jq -rs "$statistics"'
  group_by(.row) | map({row: .[0].row, at: .[0], all: .}) |
  "| row | runs | CPU-s/GB | CPU-µs a GET | GET/s of one CPU | CPU-µs per viewer and part | part to answer p50 / p99 / max ms | behind the live edge p50 / p99 ms | stalls | errors |",
  "|---|---|---|---|---|---|---|---|---|---|",
  (.[] | "| \(.row) | \(.all | length) | \(.all | column(.cpu_s_per_gb) | show(3)) | \(.all | column(.cpu_us_per_get) | show(1)) | \(.all | column(.get_s_per_cpu) | show(0)) | \(.all | column(.cpu_us_per_viewer_and_part) | show(1)) | \(.at.reload_ms | if . == null or .count == 0 then "" else "\(.p50 | show(1)) / \(.p99 | show(1)) / \(.max | show(1))" end) | \(.at.live_latency_ms | if . == null or .count == 0 then "" else "\(.p50 | show(0)) / \(.p99 | show(0))" end) | \(.at.stalls // 0) | \([.all[].errors] | add) |")
' "$raw"
jq -r 'select(.row == "first part") | "\nFirst part: \(.first_media_ms.max) ms after the publisher was let in."' "$raw"
