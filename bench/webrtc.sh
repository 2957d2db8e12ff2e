#!/usr/bin/env bash
# Measures WebRTC on a release build of the server against the bare loop, in one run and in turns,
# and prints the rows of RESULTS.md: a Markdown table on standard output, every raw result in a file.
#
#   bench/webrtc.sh [--quick] [--rounds N] [--raw FILE] [--server PROGRAM] [--load PROGRAM] [--rows NAMES]
#
# A full run takes about 8 minutes, a quick one 3. --rows is a list out of
# "fanout sha1 audio shards saturation latency memory joins harm".
#
# The server and the bare loop run on the first CPU, clients on the second.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=3 seconds=8 warmup=2 rates="10 12 14 16 18 20 22" many=1000 joins=600 raw=bench/webrtc.jsonl
rows="fanout sha1 audio shards saturation latency memory joins harm" open=1/20
http=22040 control=22041 media=22042
quick() { rounds=1 seconds=4 warmup=1 rates="10 14 18" many=300 joins=200; }
source bench/common.sh
begin "$@"

# start [PROFILE [SHARDS]]: what media is protected with, or the server's choice; media shards, all on
# one CPU.
start() {
  stop
  local shards=${2:-1}
  cat > "$dir/config.json" <<JSON
{"config": {"controller": {"interface": "127.0.0.1", "port": $control},
  "protocols": [{"connector": "HTTP", "interface": "127.0.0.1", "port": $http},
    {"connector": "WebRTC"}]},
 "webrtc": {"interface": "127.0.0.1", "port": $media, "announced": ["127.0.0.1"],
   "srtp": "${1:-gcm}"},
 "limits": {"connections_max": 10000},
 "streams": {"live": {"source": "push://"}}}
JSON
  printf '[shards]\nmedia = %s\nhost = "thread"\n' "$shards" > "$dir/core-pinning.toml"
  RUST_LOG=error serve taskset -c "$server_cpu"
}

# whep ROW [OPTION...]
whep() {
  local row=$1
  shift
  measure "$row" whep --http 127.0.0.1:$http --control 127.0.0.1:$control --pid "$pid" \
    --seconds "$seconds" --warmup "$warmup" --open "$open" "$@"
}

# floor ROW [OPTION...]
floor() {
  local row=$1
  shift
  echo "== $row" >&2
  "$load" --cpu "$server_cpu" floor-srtp --receiver-cpu "$client_cpu" \
    --seconds "$seconds" --warmup "$warmup" "$@" 2> "$dir/load.log" | keep "$row" || true
}

# In turns, so that a noisy minute is one for both.
for _ in $(seq "$rounds"); do
  start
  if wants fanout; then
    floor "bare loop, AEAD_AES_128_GCM" --profile gcm-128
    whep "1 to 200, AEAD_AES_128_GCM"
    floor "bare loop, AEAD_AES_128_GCM, whole" --profile gcm-128 --whole
    whep "1 to 200, AEAD_AES_128_GCM, whole" --whole
  fi
  if wants audio; then
    floor "bare loop, audio" --profile gcm-128 --audio
    whep "audio, 1 to 200" --no-video --audio
  fi
  if wants shards; then
    # The same work on two shards that share the CPU: half of the subscribers are elsewhere than their
    # publisher.
    whep "1 to 200, one shard"
    start gcm 2
    whep "1 to 200, two shards on one CPU"
  fi
  if wants sha1; then
    start AES128_CM_HMAC_SHA1_80
    floor "bare loop, AES128_CM_HMAC_SHA1_80" --profile sha1-80
    whep "1 to 200, AES128_CM_HMAC_SHA1_80"
  fi
done

# The rate rises until more than 0.1 % does not arrive, or until what arrives is more than 2 % short
# of what was due: then packets queue, or the publisher lacks a processor of its own.
best=0
saturate() {
  local row=$1 rate lost share
  shift
  start
  best=0
  for rate in $rates; do
    whep "$row, rate $rate" --rate "$rate" "$@"
    lost=$(tail -n 1 "$raw" | jq '.loss_percent')
    share=$(tail -n 1 "$raw" | jq '.packets_s / (.rate * 200 / 6e-3)')
    if ! awk -v lost="$lost" -v share="$share" 'BEGIN { exit !(lost < 0.1 && share > 0.98) }'; then
      break
    fi
    best=$rate
  done
}
if wants saturation; then
  # The loopback cuts what is sent together on the server's CPU, unless the client takes it whole.
  saturate "saturation, whole" --whole
  saturate "saturation"
fi
if wants latency; then
  half=$(awk -v best="$best" 'BEGIN { print (best > 0 ? best : 16) / 2 }')
  start
  # The age of a packet is also its place among the receivers of its frame, so there are rows with
  # the same packets in a second from more publishers to fewer subscribers each.
  whep "latency, 1 to 200, rate $half" --rate "$half"
  open=1/5
  whep "latency, 20 to 10 each" --publishers 20 --rate "$half"
  open=1/20
fi
if wants memory; then
  # From a server that has had no peer before.
  start
  whep "memory, 1 to $many" --subscribers "$many" --lead 6
fi
if wants joins; then
  start
  # Sound alone, so that a join is not paid for media, and subscribers that leave at once.
  whep "joins, 100 a second" --no-video --audio --subscribers "$joins" --leave --connect-rate 100
  whep "joins, as fast as they come" --no-video --audio --subscribers "$joins" --leave \
    --connect-rate 100000 --parallel 128
fi
if wants harm; then
  start
  whep "5 % lost, 50 ms, 2 % reordered" --subscribers 20 --loss 5 --delay 50 --reorder 2
fi

echo "| row | runs | ns per packet | packets/s | CPU % | lost % | not taken here | latency p50 ms | p99 ms | p99.9 ms | join p50 ms | joins/s | CPU-µs per join | RSS kB per subscriber | sent again | failures |"
echo "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
jq -rs "$statistics"'
  (reduce .[].row as $r ([]; if index([$r]) then . else . + [$r] end)) as $order
  | . as $all | $order[] as $name | $all | map(select(.row == $name))
  | [ $name, (length | tostring),
      (column(.cpu_ns_per_packet) | show(0)), (column(.packets_s) | show(0)),
      (column(.server_cpu_share // .sender_cpu_share) | if . then . * 100 else null end | show(1)),
      (column(.loss_percent) | show(3)), (column(.client_drops) | show(0)),
      (column(.added_latency_ms.p50) | show(2)), (column(.added_latency_ms.p99) | show(2)),
      (column(.added_latency_ms.p999) | show(2)),
      (column(.join_ms.p50) | show(1)), (column(.joins_s) | show(0)),
      (column(.cpu_us_per_join) | show(0)),
      (column(.rss_per_subscriber) | if . then . / 1000 else null end | show(1)),
      (column(.retransmissions_received) | show(0)),
      (map(.failed // 0) | add | tostring)
    ] | "| " + join(" | ") + " |"
' "$raw"

echo
echo "| ratio of CPU per packet | |"
echo "|---|---|"
for profile in AEAD_AES_128_GCM "AEAD_AES_128_GCM, whole" AES128_CM_HMAC_SHA1_80; do
  ratio "1 to 200, $profile" "bare loop, $profile" cpu_ns_per_packet
done
ratio "audio, 1 to 200" "bare loop, audio" cpu_ns_per_packet
ratio "1 to 200, two shards on one CPU" "1 to 200, one shard" cpu_ns_per_packet
