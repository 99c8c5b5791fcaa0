#!/usr/bin/env bash
# A 2D teacher of GRID's real speaker, trained on the filmed clips: how well are the lips read that it draws for
# sentences it never heard? After egs/grid/run.sh.
#
#   egs/grid/teacher.sh [--stage NAME|N] [--stop_stage NAME|N] [--preset smoke|default|full] ...
#
# Stages: 1 expert  2 teacher  3 teach  4 readback  5 results
. "$(dirname "${BASH_SOURCE[0]}")/../loop.sh"
. "$root/egs/teach.sh"

animate_sets=(test)

loop "$@"
