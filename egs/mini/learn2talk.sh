#!/usr/bin/env bash
# Learn2Talk on the embedded corpus, beside what it is made of and what it competes with: the mean motion, FaceFormer,
# CodeTalker, SelfTalk, the student alone, with the sync expert, with the lip reader, and with both. After
# egs/mini/run.sh, whose corpus, student and lip reader it uses; about 2 hours on 2 cores (preset default, three seeds).
#
#   egs/mini/learn2talk.sh [--seeds "0 1 2"] [--stage NAME|N] [--stop_stage NAME|N] [--preset smoke|default|full] ...
#
# Stages: 1 experts  2 students  3 animate  4 ablation  5 results
# What was a loss never judges: sync is scored by a network of another width and seed than the expert, lips are read by
# run.sh's reader, and a reader trained apart is the loss.
. "$(dirname "${BASH_SOURCE[0]}")/../loop.sh"

stages=(experts students animate ablation results)
stage=experts
stop_stage=results
seeds="0 1 2"                  # of the systems' trainings; expert, judge, lip readers and motion prior have one
animate_sets=(test_unseen)
systems=(student faceformer codetalker selftalk sync reading learn2talk)
compared=(faceformer:learn2talk codetalker:learn2talk selftalk:learn2talk student:learn2talk student:sync student:reading)
judge_width=96
reader_channels="[20,40,80]"   # of the lip reader that is a loss

recipe_paths() {
  loop_exp=$exp
  loop_seed=$seed
  exp=$exp/learn2talk
  data_train="[$data/train/manifest.jsonl,$data/open_train/manifest.jsonl]"
  reader="V=$loop_exp/recognizer_v/checkpoint"
  judge="$exp/judge/checkpoint"
  "$dry_run" || [ -f "$loop_exp/audio2mesh/checkpoint/model.safetensors" ] || fail "no student in $loop_exp: run egs/mini/run.sh --preset $preset first"
}

# motion_training NAME CONFIG [key=value ...]: one training on speech with motion.
motion_training() {
  local name=$1 config=$2; shift 2
  train talking3d "$recipe/conf/$config.yaml" "out=$exp/$name" "data.train=$data_train" \
    "data.valid=[$data/valid/manifest.jsonl]" "$@"
}

stage_experts() {
  beside "$exp/log/expert.log" motion_training expert syncnet3d
  seed=$((seed + 1)) beside "$exp/log/judge.log" motion_training judge syncnet3d "syncnet3d.width=$judge_width"
  seed=$((seed + 1)) beside "$exp/log/lipreader.log" train avsr "$recipe/conf/recognizer.yaml" "recognizer.modalities=v" \
    "out=$exp/lipreader" "data.tokenizer=$data/tokenizer.model" "recognizer.visual_channels=$reader_channels" \
    "data.train=[$data/train/manifest.jsonl]" "data.valid=[$data/valid/manifest.jsonl]"
  beside "$exp/log/motion_prior.log" motion_training motion_prior motion_prior
  together
}

stage_students() {
  local system seed
  for seed in $seeds; do
    for system in "${systems[@]}"; do
      [ -d "$(checkpoint_of "$system" "$seed")" ] || beside "$exp/log/${system}_$seed.log" train_system "$system"
    done
  done
  together
}

train_system() {
  local name=$1_$seed expert="learn2talk.expert=$exp/expert/checkpoint" reader="learn2talk.reader=$exp/lipreader/checkpoint"
  case "$1" in
    student) motion_training "$name" audio2mesh ;;
    sync) motion_training "$name" learn2talk "$expert" learn2talk.{shape,dynamics}_share=0 ;;
    reading) motion_training "$name" learn2talk "$reader" learn2talk.dynamics_share=0 ;;
    learn2talk) motion_training "$name" learn2talk "$expert" "$reader" ;;
    codetalker) motion_training "$name" codetalker "codetalker.prior=$exp/motion_prior/checkpoint" ;;
    *) motion_training "$name" "$1" ;;
  esac
}

# The student of run.sh is the student of its seed.
checkpoint_of() {
  if [ "$1" = student ] && [ "$2" = "$loop_seed" ]; then echo "$loop_exp/audio2mesh/checkpoint"; else echo "$exp/$1_$2/checkpoint"; fi
}

stage_animate() {
  local set system seed
  for set in "${animate_sets[@]}"; do
    beside "$exp/log/animate_${set}_mean.log" animate_system "$set" mean mean "$loop_exp/audio2mesh/checkpoint"
    for system in "${systems[@]}"; do
      for seed in $seeds; do
        beside "$exp/log/animate_${set}_${system}_$seed.log" \
          animate_system "$set" "${system}_$seed" student "$(checkpoint_of "$system" "$seed")"
      done
    done
  done
  together
}

# One look and head motion for all: what differs between them is the motion of the face.
animate_system() {
  local set=$1 name=$2 motion=$3 checkpoint=$4
  run talking3d predict "$data/$set/manifest.jsonl" --checkpoint "$checkpoint" --motion "$motion" --seed "$loop_seed" \
    --out "$exp/generator/$set/$name"
  run talking3d draw "$exp/generator/$set/$name/manifest.jsonl" --seed "$loop_seed" --out "$exp/generator/$set/$name/drawn"
}

stage_ablation() {
  local set system seed manifests options pair
  for set in "${animate_sets[@]}"; do
    options=(--system "mean=$exp/generator/$set/mean/drawn/manifest.jsonl")
    for system in "${systems[@]}"; do
      manifests=()
      for seed in $seeds; do manifests+=("$exp/generator/$set/${system}_$seed/drawn/manifest.jsonl"); done
      options+=(--system "$system=$(IFS=,; echo "${manifests[*]}")")
    done
    for pair in "${compared[@]}"; do options+=(--compare "$pair"); done
    run python -m benchmarks.ablation "$data/$set/manifest.jsonl" --reader "$reader" --judge "$judge" \
      --lexicon "$data/train/manifest.jsonl" --out "$exp/ablation/$set" "${options[@]}"
  done
}

loop "$@"
