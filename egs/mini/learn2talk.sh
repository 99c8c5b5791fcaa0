#!/usr/bin/env bash
# Learn2Talk on the embedded corpus, beside what it is made of and what it competes with: the mean motion, FaceFormer,
# CodeTalker, SelfTalk, the student alone, with the sync expert, with the lip reader, and with both. After
# egs/mini/run.sh, whose corpus, student and lip reader it uses; about 2 hours on 2 cores (preset default, three seeds).
#
#   egs/mini/learn2talk.sh [--seeds "0 1 2"] [--stage NAME|N] [--stop_stage NAME|N] [--preset smoke|default|full] ...
#
# Stages: 1 experts  2 students  3 animate  4 ablation  5 results
. "$(dirname "${BASH_SOURCE[0]}")/../loop.sh"
. "$root/egs/learn2talk.sh"

animate_sets=(test_unseen)
systems=(student faceformer codetalker selftalk sync reading learn2talk)
compared=(faceformer:learn2talk codetalker:learn2talk selftalk:learn2talk student:learn2talk student:sync student:reading)

learn2talk_paths() {
  motion_train=$(manifests_of train open_train)
  motion_valid=$data/valid/manifest.jsonl
  lips_train=$data/train/manifest.jsonl
  lips_valid=$motion_valid
  lexicon=$lips_train
  "$dry_run" || [ -f "$loop_exp/audio2mesh/checkpoint/model.safetensors" ] || fail "no student in $loop_exp: run egs/mini/run.sh --preset $preset first"
}

# The student of run.sh is the student of its seed.
checkpoint_of() {
  if [ "$1" = student ] && [ "$2" = "$loop_seed" ]; then echo "$loop_exp/audio2mesh/checkpoint"; else echo "$exp/$1_$2/checkpoint"; fi
}

loop "$@"
