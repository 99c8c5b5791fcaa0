#!/usr/bin/env bash
# Learn2Talk on the embedded corpus, beside what it is made of and what it competes with: FaceFormer, the student alone,
# the student with the sync expert, with the lip reader, and with both. After egs/mini/run.sh, whose corpus, student and
# lip reader it uses; about 25 minutes on 2 cores (preset default).
#
#   egs/mini/learn2talk.sh [--stage NAME|N] [--stop_stage NAME|N] [--preset smoke|default|full] [--ngpu N] [--nj N] ...
#
# Stages: 1 experts  2 students  3 animate  4 readback  5 results
# What was a loss never judges: sync is scored by a network of another width and seed than the expert, lips are read by
# run.sh's reader, and a reader trained apart is the loss.
. "$(dirname "${BASH_SOURCE[0]}")/../loop.sh"

stages=(experts students animate readback results)
stage=experts
stop_stage=results
animate_sets=(test_unseen)
motions=(student sync reading learn2talk faceformer mean)
judge_width=96
reader_channels="[20,40,80]"   # of the lip reader that is a loss

recipe_paths() {
  loop_exp=$exp
  exp=$exp/learn2talk
  data_train="[$data/train/manifest.jsonl,$data/open_train/manifest.jsonl]"
  readers=("V=$loop_exp/recognizer_v/checkpoint")
  judge="$exp/judge/checkpoint"
  "$dry_run" || [ -f "$loop_exp/audio2mesh/checkpoint/model.safetensors" ] || fail "no student in $loop_exp: run egs/mini/run.sh --preset $preset first"
}

# motion_training NAME CONFIG [key=value ...]: one training on speech with motion, beside others.
motion_training() {
  local name=$1 config=$2; shift 2
  beside "$exp/log/$name.log" train talking3d "$recipe/conf/$config.yaml" "out=$exp/$name" \
    "data.train=$data_train" "data.valid=[$data/valid/manifest.jsonl]" "$@"
}

stage_experts() {
  motion_training expert syncnet3d
  seed=$((seed + 1)) motion_training judge syncnet3d "syncnet3d.width=$judge_width"
  seed=$((seed + 1)) beside "$exp/log/lipreader.log" train avsr "$recipe/conf/recognizer.yaml" "recognizer.modalities=v" \
    "out=$exp/lipreader" "data.tokenizer=$data/tokenizer.model" "recognizer.visual_channels=$reader_channels" \
    "data.train=[$data/train/manifest.jsonl]" "data.valid=[$data/valid/manifest.jsonl]"
  together
}

stage_students() {
  local expert="learn2talk.expert=$exp/expert/checkpoint" reader="learn2talk.reader=$exp/lipreader/checkpoint"
  motion_training learn2talk learn2talk "$expert" "$reader"
  motion_training faceformer faceformer
  motion_training reading learn2talk "$reader"
  motion_training sync learn2talk "$expert" learn2talk.shape_share=0
  together
}

animate() {
  local set=$1 motion=$2 checkpoint="$exp/$2/checkpoint" kind=student
  case "$motion" in
    student) checkpoint="$loop_exp/audio2mesh/checkpoint" ;;
    mean) checkpoint="$loop_exp/audio2mesh/checkpoint"; kind=mean ;;
  esac
  run talking3d predict "$data/$set/manifest.jsonl" --checkpoint "$checkpoint" --motion "$kind" --seed "$seed" \
    --out "$exp/generator/$set/$motion"
  run talking3d draw "$exp/generator/$set/$motion/manifest.jsonl" --seed "$seed" --out "$exp/generator/$set/$motion/drawn"
}

loop "$@"
