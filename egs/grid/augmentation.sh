#!/usr/bin/env bash
# How much drawn lips help to recognise a real speaker of whom few clips are filmed. What is drawn knows the filmed
# clips only: the face's fit, its look and its motion come from them. After egs/grid/run.sh and egs/mini/run.sh.
#
#   egs/grid/augmentation.sh [--seeds "0 1 2"] [--stage NAME|N] [--stop_stage NAME|N] [--preset smoke|default|full] ...
#
# Stages: 1 students  2 draw  3 plan  4 train  5 measure  6 results
# Arms: learned (a student of the filmed clips that hears by run.sh's recogniser of sound, which knows the sound of all,
# as A here does), retrieved (filmed frames that follow its motion); where no clip is filmed: mini (the embedded corpus's
# student), rules (its rules, in the words' own times, on its many faces, in the style calm, which was set by validation
# clips); and as controls shuffled (learned's motion for another utterance's sound) and static (lips that don't move).
. "$(dirname "${BASH_SOURCE[0]}")/../loop.sh"
. "$root/egs/augment.sh"

test_set=test
retrieved_percent=10  # share beside which frames are retrieved
rules_noise=0.8       # on motion by rule, which else would be the same whenever a word is said
mini_student=
hearing=

augmentation_paths() {
  [ "$preset" != full ] || percents=(1 2 10)
  arms=("arms.mini.manifests=$exp/drawn/mini_{rendition}/manifest.jsonl"
    "arms.rules.manifests=$exp/drawn/rules_{rendition}/manifest.jsonl"
    "arms.learned.manifests=$exp/drawn/learned_{percent}_{rendition}/manifest.jsonl"
    "arms.shuffled.manifests=$exp/drawn/shuffled_{percent}_{rendition}/manifest.jsonl"
    "arms.static.manifests=$exp/drawn/static_{percent}_{rendition}/manifest.jsonl"
    "arms.retrieved.manifests=$exp/drawn/retrieved_{percent}/manifest.jsonl")
  hearing=$(dirname "$exp")/recognizer_a/checkpoint
  mini_student=$root/egs/mini/exp/$preset/audio2mesh/checkpoint
  "$dry_run" || [ -f "$mini_student/model.safetensors" ] || fail "no student of the embedded corpus: run egs/mini/run.sh --preset $preset first"
}

stage_students() {
  local percent fit
  make_shares
  for percent in "${percents[@]}"; do
    fit=$shares/fit_$percent
    run talking3d fit "$shares/train_$percent/manifest.jsonl" --out "$fit" --nj "$nj"
    run talking3d look "$fit/manifest.jsonl" --out "$shares/looks_$percent"
    student "$percent" "$fit/manifest.jsonl" "audio2mesh.encoder.pretrained=$hearing" \
      data.perturb.share=0 audio2mesh.encoder.dropout=0.25  # as in motion.sh
  done
  together
}

stage_draw() {
  local percent face look motion
  move mini "$mini_student"
  draw mini
  run talking3d articulate "$sound" --style calm --seed "$seed" --out "$exp/motion/rules"
  motion_noise=$rules_noise draw rules --faces "$root/egs/mini/data/$preset/templates"
  for percent in "${percents[@]}"; do
    face=$shares/fit_$percent/templates look=$shares/looks_$percent
    move "learned_$percent" "$exp/student_$percent/checkpoint" --template "$face"
    draw "learned_$percent" --look "$look"
    if [ "$percent" -eq "$control_percent" ]; then
      for motion in "${controls[@]}"; do
        move "${motion}_$percent" "$exp/student_$percent/checkpoint" --template "$face" --motion "$motion"
        draw "${motion}_$percent" --look "$look"
      done
    fi
    if [ "$percent" -eq "$retrieved_percent" ]; then
      run talking3d retrieve "$exp/motion/learned_$percent/manifest.jsonl" --frames "$shares/fit_$percent/manifest.jsonl" \
        --out "$exp/drawn/retrieved_$percent" --nj "$nj"
    fi
  done
  together
}

loop "$@"
