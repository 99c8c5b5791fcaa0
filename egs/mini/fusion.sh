#!/usr/bin/env bash
# Where and how sound and lips meet: audio-visual recognisers of the embedded corpus that differ in nothing else. After
# egs/mini/run.sh, whose corpus and recognisers it uses; about 50 minutes on 2 cores (preset default).
#
#   egs/mini/fusion.sh [--seeds "0 1 2"] [--stage NAME|N] [--stop_stage NAME|N] [--preset smoke|default|full] ...
#
# Stages: 1 train  2 recognize  3 results
# gated (run.sh's), concat and cross_attention meet late, after three layers of each stream's own and before one in
# common; early meets before four common layers, gated too. All start from a recogniser of sound and one of lips.
. "$(dirname "${BASH_SOURCE[0]}")/../loop.sh"

stages=(train recognize results)
stage=train
stop_stage=results
test_sets=(test_unseen)
early=(recognizer.stream_layers=0 recognizer.layers=4)

recipe_paths() {
  loop_exp=$exp
  exp=$exp/fusion
  "$dry_run" || [ -f "$loop_exp/recognizer_av/checkpoint/model.safetensors" ] || fail "no recognisers in $loop_exp: run egs/mini/run.sh --preset $preset first"
}

stage_train() {
  local fusion
  for fusion in concat cross_attention; do for_seeds train_late "$fusion"; done
  for_seeds train_early v
  for_seeds train_early a
  together
  for_seeds train_early av
  together
}

# The start is run.sh's recognisers of this seed, what is trained goes into a folder of its own.
train_late() {
  local start exp=$exp/$1
  start=$(exp=$loop_exp; echo "init=[$(recognizer_of a)/checkpoint,$(recognizer_of v)/checkpoint]")
  train_recognizer av "recognizer.fusion=$1" "$start" "${joint_training[@]}"
}

train_early() {
  local exp=$exp/early
  if [ "$1" = av ]; then train_joint "${early[@]}"; else train_recognizer "$1" "${early[@]}"; fi
}

stage_recognize() {
  local set
  for set in "${test_sets[@]}"; do
    run python -m benchmarks.recognizer "$data/$set/manifest.jsonl" --noise "$data/noise/$set" --nj "$nj" \
      --corruptions "$data/corruption/$set" --out "$exp/recognizer/$set" \
      --system "$(exp=$loop_exp; system gated av)" --system "$(exp=$exp/concat; system concat av)" \
      --system "$(exp=$exp/cross_attention; system cross_attention av)" --system "$(exp=$exp/early; system early av)"
  done
}

loop "$@"
