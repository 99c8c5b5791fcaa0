#!/usr/bin/env bash
# Learn2Talk on real speech: the student alone, with the sync expert, with a lip reader, and with both, trained on the
# motion that egs/grid/motion.sh fits to the filmed clips. Their lips are read by run.sh's reader of filmed lips.
#
#   egs/grid/learn2talk.sh [--seeds "0 1 2"] [--stage NAME|N] [--stop_stage NAME|N] [--preset smoke|default|full] ...
#
# Stages: 1 experts  2 students  3 animate  4 ablation  5 results
. "$(dirname "${BASH_SOURCE[0]}")/../loop.sh"
. "$root/egs/learn2talk.sh"

animate_sets=(test)
motion_passes=3  # times an epoch of a generator goes through the corpus, which is small

# Words are pronounced as the embedded corpus says them.
learn2talk_paths() {
  motion_train=$(repeated "$motion_passes" "$data/fit/train/manifest.jsonl")
  motion_valid=$data/fit/valid/manifest.jsonl
  lips_train=$data/fit/train/drawn/manifest.jsonl
  lips_valid=$data/fit/valid/drawn/manifest.jsonl
  system_options=(data.perturb.share=0 audio2mesh.encoder.dropout=0.25)  # as in motion.sh
  draw_options=(--look "$data/fit/looks")
  lexicon=$root/egs/mini/data/$preset/train/manifest.jsonl
  "$dry_run" || [ -f "$lips_train" ] || fail "no drawn lips in $data/fit: run egs/grid/motion.sh --preset $preset first"
}

reference_of() { echo "$data/fit/$1/manifest.jsonl"; }

loop "$@"
