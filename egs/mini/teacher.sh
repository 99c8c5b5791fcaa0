#!/usr/bin/env bash
# A 2D teacher of the embedded corpus: how well are the lips read that it draws for speakers whom it sees in one still
# only? After egs/mini/run.sh.
#
#   egs/mini/teacher.sh [--stage NAME|N] [--stop_stage NAME|N] [--preset smoke|default|full] ...
#
# Stages: 1 expert  2 teacher  3 teach  4 readback  5 results
. "$(dirname "${BASH_SOURCE[0]}")/../loop.sh"
. "$root/egs/teach.sh"

animate_sets=(test_unseen)

loop "$@"
