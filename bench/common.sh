# What the scripts that measure have in common. Each says what it has of its own and sources this:
#
#   rounds    how often a run is repeated, for medians
#   raw       the file for raw results
#   rows      names of the rows that --rows picks from; without it there is no --rows
#   control   the port that the server's configuration gives to its control
#   quick     a function that makes the run a short one
#
# `begin "$@"` comes first, and leaves $server, $load, $dir and both CPUs.

server="" load="" server_cpu=0
client_cpu=$(( $(nproc) > 1 ? 1 : 0 ))
pids=()

# The comment that a script begins with.
usage() {
  awk 'NR > 1 && !/^#/ { exit } NR > 1' "bench/$(basename "$0")" >&2
  exit 2
}

begin() {
  while [ $# -gt 0 ]; do
    case $1 in
      --quick) quick ;;
      --rounds) rounds=$2; shift ;;
      --raw) raw=$2; shift ;;
      --server) server=$2; shift ;;
      --load) load=$2; shift ;;
      --rows) [ -n "${rows:-}" ] || usage; rows=$2; shift ;;
      *) usage ;;
    esac
    shift
  done
  local target=${CARGO_TARGET_DIR:-target}
  if [ -z "$server" ] || [ -z "$load" ]; then
    cargo build --quiet --release --workspace
  fi
  server=${server:-$target/release/ringside}
  load=${load:-$target/release/ringside-load}
  ulimit -n "$(ulimit -Hn)"
  dir=$(mktemp -d)
  trap 'stop; rm -rf "$dir"' EXIT
  : > "$raw"
}

wants() { [[ " $rows " == *" $1 "* ]]; }

# Ends what was started, whose ids are in $pids.
stop() {
  local one
  for one in "${pids[@]}"; do kill "$one" 2>/dev/null || true; done
  for one in "${pids[@]}"; do wait "$one" 2>/dev/null || true; done
  pids=()
}

# serve [COMMAND...]: starts the server by this command, with config.json and core-pinning.toml of
# $dir; leaves its id in $pid once it is ready.
serve() {
  "$@" "$server" serve -c "$dir/config.json" --pinning "$dir/core-pinning.toml" 2> "$dir/server.log" &
  pid=$!
  pids+=("$pid")
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

# A run's line goes to the raw file with its label.
keep() { jq -c --arg row "$1" '{row: $row} + .' >> "$raw"; }

# measure ROW [OPTION...]: runs the load tool on the clients' CPU.
measure() {
  local row=$1
  shift
  echo "== $row" >&2
  "$load" --cpu "$client_cpu" "$@" 2> "$dir/load.log" > "$dir/line" ||
    { echo "   something went wrong:" >&2; tail -n 3 "$dir/load.log" "$dir/line" >&2; }
  keep "$row" < "$dir/line"
}

# Of jq: a median, that of a column, and a number with so many digits.
statistics='
  def median: sort | if length == 0 then null else .[(length - 1) / 2 | floor] end;
  def column(f): map(f) | map(select(. != null)) | median;
  def show(digits): if . == null then "" else
    (. * pow(10; digits) | round / pow(10; digits) | tostring) end;
'

# ratio OVER UNDER FIELD: a row of a table, if both rows were measured.
ratio() {
  jq -rs --arg over "$1" --arg under "$2" --arg field "$3" "$statistics"'
    (map(select(.row == $over)[$field]) | median) as $a
    | (map(select(.row == $under)[$field]) | median) as $b
    | if $a == null or $b == null then empty else
        "| \($over) / \($under) | \($a / $b * 100 | round / 100) |" end
  ' "$raw"
}
