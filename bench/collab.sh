#!/usr/bin/env bash
# Measures collaborative sessions on a release build of the server against the original, in one run
# and in turns, and prints the rows of RESULTS.md.
#
#   bench/collab.sh [--quick] [--raw FILE] [--server PROGRAM] [--load PROGRAM] [--rows NAMES]
#
# A full run takes about 20 minutes, a quick one 5. --rows is a list out of
#
#   nodes10 nodes50 deltas50 latency50 join2k join1m stall idle big        by Python
#   load-nodes10 load-nodes50 load-deltas50 load-latency50 load-join2k
#   load-join1m                                                            the same by ringside-load collab
#   floor-join2k                                                           recv and send of as many bytes,
#                                                                          and nothing else
#   load-both50                                                            generations B and C in one session
#   load-four10 load-four50 load-four-join2k                               generation A, which has whole nodes only
#   log-off log-written log-synced                                         what the log costs
#
# The original has no session for two generations, and no log: its cells of those rows are empty. What
# the others measure of either server is bounded by what runs the clients, and by far more so in Python.
#
# The original comes from the environments that tests/run.sh makes for replication 0.1.26, 0.9.11 and 0.10.3.
# Servers run on the first CPU, clients on the second.
set -euo pipefail
cd "$(dirname "$0")/.."
exec python3 bench/collab.py "$@"
