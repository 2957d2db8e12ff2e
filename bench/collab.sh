#!/usr/bin/env bash
# Measures collaborative sessions on a release build of the server against the original, in one run
# and in turns, and prints the rows of RESULTS.md.
#
#   bench/collab.sh [--quick] [--raw FILE] [--server PROGRAM] [--rows NAMES]
#
# A full run takes about 9 minutes, a quick one 2. --rows is a list out of
# "nodes10 nodes50 deltas50 latency50 join2k join1m stall idle big".
#
# The original comes from the environments that tests/run.sh makes for replication 0.9.11 and 0.10.3.
# Servers run on the first CPU, clients on the second.
set -euo pipefail
cd "$(dirname "$0")/.."
exec python3 bench/collab.py "$@"
