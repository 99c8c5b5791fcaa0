#!/usr/bin/env bash
# How much drawn lips help on the embedded corpus, where a second face and way of drawing stands in for filming: "filmed"
# are the corpus's own lips, each speaker's face in a light of its own; for the other clips a student that learned from
# the filmed ones moves one face for all, in looks of its own. After egs/mini/run.sh.
#
#   egs/mini/augmentation.sh [--seeds "0 1 2"] [--stage NAME|N] [--stop_stage NAME|N] [--preset smoke|default|full] ...
#
# Stages: 1 students  2 draw  3 plan  4 train  5 measure  6 results
# Arms: learned (the student), and as controls shuffled (its motion for another utterance's sound) and static (lips that
# don't move).
. "$(dirname "${BASH_SOURCE[0]}")/../loop.sh"
. "$root/egs/augment.sh"

test_set=test_unseen

augmentation_paths() {
  arms=("arms.learned.manifests=$exp/drawn/learned_{percent}_{rendition}/manifest.jsonl"
    "arms.shuffled.manifests=$exp/drawn/shuffled_{percent}_{rendition}/manifest.jsonl"
    "arms.static.manifests=$exp/drawn/static_{percent}_{rendition}/manifest.jsonl")
}

stage_students() {
  local percent
  make_shares
  for percent in "${percents[@]}"; do student "$percent" "$shares/train_$percent/manifest.jsonl"; done
  together
}

stage_draw() {
  local percent motion motions options face
  face=$(first_of train template)
  for percent in "${percents[@]}"; do
    motions=(learned)
    [ "$percent" -ne "$control_percent" ] || motions+=("${controls[@]}")
    for motion in "${motions[@]}"; do
      options=(--template "$data/train/${face:-FACE_OF_FIRST_LINE}")
      [ "$motion" = learned ] || options+=(--motion "$motion")
      move "${motion}_$percent" "$exp/student_$percent/checkpoint" "${options[@]}"
      draw "${motion}_$percent"
    done
  done
  together
}

loop "$@"
