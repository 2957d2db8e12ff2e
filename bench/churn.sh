#!/usr/bin/env bash
# Lets viewers and publishers come and go at random, cut at every step, and fails unless the server
# is left with the descriptors, connections and slabs that it began with.
#
#   bench/churn.sh [webrtc] [SECONDS [SEED]]        60 s and seed 1 by default
#
# With `webrtc` they come by WHIP and WHEP, with bad networks and good ones, and leave with a word or
# by being killed; sessions, peers, addresses and routes are counted too. What was killed is held
# until its consent expires, so that this takes half a minute more.
#
# Uses $RINGSIDE_PROFILE (dev by default) builds of the server and the load tool.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=streams
if [ "${1:-}" = webrtc ]; then
  mode=webrtc
  shift
fi
seconds=${1:-60} seed=${2:-1} profile=${RINGSIDE_PROFILE:-dev}
target=${CARGO_TARGET_DIR:-target}
cargo build --quiet --workspace --locked --profile "$profile"
programs=$target/$([ "$profile" = dev ] && echo debug || echo "$profile")

http=18980 rtmp=11995 control=14942
dir=$(mktemp -d)
# A format that is named on HTTP turns those off that are not.
formats=''
if [ $mode = webrtc ]; then formats='{"connector": "WebRTC"},'; fi
cat > "$dir/config.json" <<JSON
{"webrtc": {"interface": "127.0.0.1", "port": 18981}, "config": {"controller": {"interface": "127.0.0.1", "port": $control},
  "protocols": [{"connector": "HTTP", "interface": "127.0.0.1", "port": $http},
    $formats
    {"connector": "RTMP", "interface": "127.0.0.1", "port": $rtmp}]},
 "streams": {"live": {"source": "push://", "DVR": 5000}}}
JSON
RUST_LOG=warn "$programs/ringside" serve -c "$dir/config.json" 2> "$dir/server.log" &
pid=$!
trap 'kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; rm -rf "$dir"' EXIT
# Quantities that have to be what they were, one a line, those by shard added up.
census() {
  curl -s --fail "http://127.0.0.1:$control/metrics" | awk '
    /^ringside_(webrtc_(sessions|half_open_sessions|peers|connected_peers|signalling_sockets|routes|paths)|viewers|publishers|connections|slabs_in_use)[ {]/ {
      name = $1; sub(/[{].*/, "", name); sum[name] += $NF
    }
    END { for (name in sum) print name, sum[name] }' | sort
  echo "descriptors $(find "/proc/$pid/fd" -mindepth 1 | wc -l)"
}

# Waits until nothing of `$1` is exceeded; leaves what was seen last in $now.
settled() {
  for _ in $(seq 140); do
    now=$(census)
    if [ -z "$(join <(sort <<< "$1") <(sort <<< "$now") | awk '$3 > $2')" ]; then
      return 0
    fi
    sleep 0.5
  done
  return 1
}

# Becomes a load tool, so that what is killed is that.
become_crew() {
  exec "$programs/ringside-load" whep --http 127.0.0.1:$http --lead 1 --warmup 0.2 "$@" \
    2>> "$dir/load.log" >> "$dir/load.jsonl"
}
crew() { (become_crew "$@"); }

# One crew after the other: `$1` is its lane, and `$2` its seed.
lane() {
  local round=0 failed=0 killed=0 ended=0 until=$((SECONDS + seconds)) options job
  RANDOM=$2
  while [ $SECONDS -lt $until ]; do
    round=$((round + 1))
    # A name of its own, since a publisher that was killed holds its name for half a minute.
    options=(--stream "live+$1-$round" --subscribers $((2 + RANDOM % 12)) --publishers $((1 + RANDOM % 2))
      --seed $RANDOM --seconds $((1 + RANDOM % 2)) --dtls "$((RANDOM % 2 == 0 ? 2 : 3))")
    options[-1]=1.${options[-1]}
    if [ $((RANDOM % 2)) = 0 ]; then options+=(--audio); fi
    case $((RANDOM % 4)) in
      0)
        become_crew "${options[@]}" &
        job=$!
        # At any step: while it asks, checks, shakes hands or plays.
        sleep "$((RANDOM % 4)).$((RANDOM % 10))"
        kill -KILL $job 2>/dev/null && killed=$((killed + 1))
        wait $job 2>/dev/null || true
        ;;
      1)
        crew "${options[@]}" --loss 10 --delay 20 --reorder 5 --harm both || true
        ended=$((ended + 1))
        ;;
      2) crew "${options[@]}" --leave && ended=$((ended + 1)) || failed=$((failed + 1)) ;;
      3) crew "${options[@]}" && ended=$((ended + 1)) || failed=$((failed + 1)) ;;
    esac
  done
  echo "$ended $killed $failed" > "$dir/lane$1"
}

churn_webrtc() {
  # Once, so that what is made once is there.
  crew --stream live+first --subscribers 2 --audio --seconds 1
  local empty
  empty=$(census | awk '{ print $1, ($1 ~ /webrtc|viewers|publishers|slabs/ ? 0 : $2) }')
  settled "$empty" || true
  local before=$now
  become_crew --stream live --subscribers 3 --audio --seconds "$seconds" &
  local steady=$!
  lane a "$seed" &
  local one=$!
  lane b $((seed + 1)) &
  wait $one $!
  local good=true
  wait $steady || { good=false; echo "those who stayed were disturbed" >&2; }
  settled "$before" || { good=false; echo "the server is not what it was" >&2; }
  read -r ended killed failed < <(cat "$dir"/lane? | awk '{ e += $1; k += $2; f += $3 } END { print e, k, f }')
  # One may time out on a machine that does much else; a server that refuses or forgets fails more.
  [ "$failed" -le $((1 + ended / 100)) ] || { good=false; echo "crews that nobody harmed failed" >&2; }
  jq -cn --arg before "$before" --arg after "$now" --argjson good $good --argjson seed "$seed" \
    --argjson seconds "$seconds" --argjson ended "$ended" --argjson killed "$killed" --argjson failed "$failed" '
    def table: split("\n") | map(split(" ") | {(.[0]): (.[1] | tonumber)}) | add;
    {kind: "churn-webrtc", $seed, $seconds, is_good: $good, crews: {$ended, $killed, $failed},
      before: ($before | table), after: ($after | table)}'
  if [ $good != true ]; then
    tail -n 20 "$dir/load.log" "$dir/server.log" >&2
    return 1
  fi
}

ready() { curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$control/readyz" || true; }
for _ in $(seq 100); do
  [ "$(ready)" = 200 ] && break
  sleep 0.1
done
if [ $mode = webrtc ]; then
  churn_webrtc
  exit
fi
if ! "$programs/ringside-load" churn --rtmp 127.0.0.1:$rtmp --http 127.0.0.1:$http \
  --control 127.0.0.1:$control --pid "$pid" --seconds "$seconds" --seed "$seed"; then
  cat "$dir/server.log" >&2
  exit 1
fi
