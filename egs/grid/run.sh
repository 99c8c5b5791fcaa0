#!/usr/bin/env bash
# Real video: GRID clips read by an audio-only, a visual-only and an audio-visual recogniser, clean and in babble; then
# the student of the embedded corpus is driven by the real speech and its drawn lips are read back.
#
#   egs/grid/run.sh --grid DIR [--stage NAME|N] [--stop_stage NAME|N] [--preset smoke|default|full] [--ngpu N] ...
#
# DIR: GRID's published layout, s*/*.mpg and alignments/s*/*.align. The split is conf/split.tsv.
# Stages: 1 data  2 noise  3 tokenizer  4 train  5 recognize  6 animate  7 readback  8 demo  9 results
# and, when it is asked for, 10 benchmark (hours: how well faces are understood, how much drawn lips help)
recipe_options="grid"
grid=
. "$(dirname "${BASH_SOURCE[0]}")/../loop.sh"

token_kind=word
test_sets=(test)
animate_sets=(test)
demo_set=test
video_passes=3

mini_exp="$root/egs/mini/exp"
recipe_paths() {
  student="$mini_exp/$preset/audio2mesh/checkpoint"
  readers=("filmed=$exp/recognizer_v/checkpoint" "drawn=$mini_exp/$preset/recognizer_v/checkpoint")
}

stage_data() {
  [ -n "$grid" ] || fail "where is GRID? give --grid DIR (s*/*.mpg and alignments/s*/*.align), or set grid in db.sh"
  run python "$recipe/local/data.py" "$grid" --split "$recipe/conf/split.tsv" --lexicon "$recipe/conf/lexicon.txt" \
    --preset "$preset" --out "$data/source"
  local set
  for set in train valid test; do
    run avsr prepare "$data/source/$set.jsonl" --out "$data/$set" --nj "$nj"
  done
}

# Word error without any language model, and where only sentences of GRID's grammar may be understood.
stage_recognize() {
  recognize test test --corruptions "$data/corruption/test" --cross
  run python "$recipe/local/grammar.py" "$recipe/conf/grammar.txt" --out "$data/grammar.arpa"
  recognize test test_grammar --lm "$data/grammar.arpa" --lm_weight 1
}

# GRID has no 3D motion: the student is the embedded corpus's, trained there if it isn't yet, and so is the reader of
# drawn lips that stands beside this recipe's reader of filmed ones.
train_student() {
  if [ ! -f "$student/config.yaml" ] || [ ! -f "$mini_exp/$preset/recognizer_v/checkpoint/config.yaml" ]; then
    together
    "$root/egs/mini/run.sh" --stop_stage train --preset "$preset" --nj "$nj" --ngpu "$ngpu" --dry_run "$dry_run"
  fi
}

loop "$@"
