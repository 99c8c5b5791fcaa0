#!/usr/bin/env bash
# The whole loop on the embedded corpus: synthetic speech, a procedural face, its drawn lips, and the recogniser that
# reads them. Needs nothing but this checkout; makes .venv on first use. Half an hour to an hour on 2 cores.
#
#   egs/mini/run.sh [--stage NAME|N] [--stop_stage NAME|N] [--preset smoke|default|full] [--ngpu N] [--nj N] ...
#
# Stages: 1 data  2 noise  3 tokenizer  4 train  5 recognize  6 animate  7 readback  8 demo  9 results
# and, when it is asked for, 10 benchmark (hours: how well faces are understood, how much drawn lips help)
. "$(dirname "${BASH_SOURCE[0]}")/../loop.sh"

token_kind=word
test_sets=(test_unseen)     # test_seen is made too: known speakers, new sentences
animate_sets=(test_unseen)
student_train_sets=(train open_train)
demo_set=open_test

stage_data() { run talking3d corpus mini --out "$data" --preset "$preset" --seed "$seed" --nj "$nj"; }

loop "$@"
