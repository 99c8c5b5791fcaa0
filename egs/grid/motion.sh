#!/usr/bin/env bash
# 3D motion from plain video: a face is fitted to the filmed clips, generators learn its motion from a few of them or
# from all, and lips drawn with it teach a lip reader that is tested on filmed lips. After egs/grid/run.sh and
# egs/mini/run.sh, whose corpora, lip readers and student it uses.
#
#   egs/grid/motion.sh [--stage NAME|N] [--stop_stage NAME|N] [--preset smoke|default|full] [--ngpu N] [--nj N] ...
#
# Stages: 1 fit  2 judge  3 students  4 animate  5 ablation  6 draw  7 readers  8 recognize  9 results
# Lips are drawn in the speaker's own look, as the training clips have it, with some noise on the motion that teaches.
. "$(dirname "${BASH_SOURCE[0]}")/../loop.sh"

stages=(fit judge students animate ablation draw readers recognize results)
stage=fit
stop_stage=results
percents=(1 2 10 100)      # of the training clips that a student learns from
passes=2                   # times an epoch of the student that learns from all goes through them; the others: as long
drawn_motions=(fit heard_10)  # whose lips teach a reader: the clips' own motion, and what a student makes of their sound
renditions=2               # of each clip, that vary about the speaker's look
motion_noise=0.25          # of the motion that readers learn from, as a share of its own deviation
animate_sets=(test)

recipe_paths() {
  loop_exp=$exp
  fit=$data/fit
  exp=$exp/motion
  mini_student=$root/egs/mini/exp/$preset/audio2mesh/checkpoint
  "$dry_run" || [ -f "$data/train/manifest.jsonl" ] || fail "no clips in $data: run egs/grid/run.sh --preset $preset first"
  "$dry_run" || [ -f "$mini_student/model.safetensors" ] || fail "no student to start from: run egs/mini/run.sh --preset $preset first"
}

# The speaker is known from the training clips.
stage_fit() {
  run talking3d fit "$data/train/manifest.jsonl" --out "$fit/train" --nj "$nj"
  local set
  for set in valid test; do
    run talking3d fit "$data/$set/manifest.jsonl" --speakers "$fit/train" --out "$fit/$set" --nj "$nj"
  done
  run talking3d look "$fit/train/manifest.jsonl" --out "$fit/looks"
  run python "$recipe/local/share.py" "$fit/train/manifest.jsonl" --percent "${percents[@]}" --out "$fit"
}

motion_training() {
  local name=$1 config=$2 manifests=$3; shift 3
  train talking3d "$root/egs/mini/conf/$config.yaml" "out=$exp/$name" "data.train=[$manifests]" \
    "data.valid=[$fit/valid/manifest.jsonl]" "$@"
}

stage_judge() { motion_training judge syncnet3d "$(repeated "$passes" "$fit/train/manifest.jsonl")"; }

train_student() {
  local name=$1 manifests=$2; shift 2
  motion_training "$name" audio2mesh "$manifests" data.perturb.share=0 audio2mesh.encoder.dropout=0.25 "$@"
}

# Each from nothing, from the embedded corpus's student, and from nothing but by the ears of run.sh's recogniser of sound,
# which knows this voice with its texts; all take as many steps. They hear one voice by one microphone only, which need
# not be varied; so little speech needs dropout.
stage_students() {
  local percent manifests
  for percent in "${percents[@]}"; do
    manifests=$(repeated $((passes * 100 / percent)) "$fit/train_$percent/manifest.jsonl")
    beside "$exp/log/from_$percent.log" train_student "from_$percent" "$manifests"
    beside "$exp/log/tuned_$percent.log" train_student "tuned_$percent" "$manifests" "init=$mini_student"
    beside "$exp/log/heard_$percent.log" train_student "heard_$percent" "$manifests" \
      "audio2mesh.encoder.pretrained=$loop_exp/recognizer_a/checkpoint"
  done
  together
}

systems() {
  local percent
  echo mean shuffled mini
  for percent in "${percents[@]}"; do echo "from_$percent" "tuned_$percent" "heard_$percent"; done
}

# motion_for SYSTEM MANIFEST OUT: what a system makes of a manifest's sound.
motion_for() {
  local checkpoint="$exp/$1/checkpoint" motion=student
  case "$1" in
    mean|shuffled) checkpoint=$exp/from_100/checkpoint motion=$1 ;;
    mini) checkpoint=$mini_student ;;
  esac
  run talking3d predict "$2" --checkpoint "$checkpoint" --motion "$motion" --seed "$seed" --out "$3"
}

animate_system() {
  local set=$1 system=$2
  motion_for "$system" "$fit/$set/manifest.jsonl" "$exp/generator/$set/$system"
  run talking3d draw "$exp/generator/$set/$system/manifest.jsonl" --look "$fit/looks" --seed "$seed" \
    --out "$exp/generator/$set/$system/drawn"
}

stage_animate() {
  local set system
  for set in "${animate_sets[@]}"; do
    for system in $(systems); do beside "$exp/log/animate_${set}_$system.log" animate_system "$set" "$system"; done
  done
  together
}

stage_ablation() {
  local set system options
  for set in "${animate_sets[@]}"; do
    options=()
    for system in $(systems); do options+=(--system "$system=$exp/generator/$set/$system/drawn/manifest.jsonl"); done
    run python -m benchmarks.ablation "$fit/$set/manifest.jsonl" --judge "$exp/judge/checkpoint" \
      --reader "V=$loop_exp/recognizer_v/checkpoint" --lexicon "$root/egs/mini/data/$preset/train/manifest.jsonl" \
      --compare from_10:tuned_10 --compare tuned_10:heard_10 --compare mini:from_10 --out "$exp/ablation/$set" "${options[@]}"
  done
}

# Lips of the training and validation clips, in the clips' own motion and in what a student makes of their sound.
stage_draw() {
  local set motion source
  for motion in "${drawn_motions[@]}"; do
    for set in train valid; do
      source=$fit/$set
      if [ "$motion" != fit ]; then
        source=$exp/drawn_motion/$motion/$set
        motion_for "$motion" "$fit/$set/manifest.jsonl" "$source"
      fi
      draw_renditions "$source" "$set"
    done
  done
  together
}

# The first rendition is `drawn`, the others have their number; for validation one is enough.
draw_renditions() {
  local source=$1 set=$2 number name
  for ((number = 0; number < renditions; number++)); do
    name=drawn$([ "$number" -eq 0 ] || echo "_$number")
    if [ "$set" = valid ] && [ "$number" -gt 0 ]; then continue; fi
    beside "$exp/log/draw_$(basename "$(dirname "$source")")_${set}_$number.log" \
      run talking3d draw "$source/manifest.jsonl" --look "$fit/looks" --motion_noise "$motion_noise" \
      --seed $((seed + number)) --out "$source/$name"
  done
}

drawn_lips() {
  local source=$fit number manifests
  [ "$1" = fit ] || source=$exp/drawn_motion/$1
  manifests=$source/$2/drawn/manifest.jsonl
  if [ "$2" = train ]; then
    for ((number = 1; number < renditions; number++)); do manifests+=",$source/$2/drawn_$number/manifest.jsonl"; done
  fi
  echo "$manifests"
}

stage_readers() {
  local motion
  for motion in "${drawn_motions[@]}"; do
    beside "$exp/log/reader_$motion.log" train avsr "$recipe/conf/recognizer.yaml" "recognizer.modalities=v" \
      "out=$exp/reader_$motion" "data.tokenizer=$data/$tokenizer" "data.train=[$(drawn_lips "$motion" train)]" \
      "data.valid=[$(drawn_lips "$motion" valid)]"
  done
  together
}

# Filmed lips, and those drawn with the clips' own motion, read by readers of filmed and of drawn ones: what is lost on
# filmed lips and not on drawn ones is appearance, what is lost between the readers of drawn ones is motion.
stage_recognize() {
  local motion options=(--system "filmed=$loop_exp/recognizer_v/checkpoint:v")
  for motion in "${drawn_motions[@]}"; do options+=(--system "$motion=$exp/reader_$motion/checkpoint:v"); done
  run talking3d draw "$fit/test/manifest.jsonl" --look "$fit/looks" --seed "$seed" --nj "$nj" --out "$fit/test/drawn"
  run python "$recipe/local/grammar.py" "$recipe/conf/grammar.txt" --out "$data/grammar.arpa"
  local set manifest
  for set in test drawn; do
    manifest=$data/test/manifest.jsonl
    [ "$set" = test ] || manifest=$fit/test/drawn/manifest.jsonl
    run python -m benchmarks.recognizer "$manifest" --nj "$nj" --out "$exp/recognizer/$set" "${options[@]}"
    run python -m benchmarks.recognizer "$manifest" --nj "$nj" --out "$exp/recognizer/${set}_grammar" \
      --lm "$data/grammar.arpa" --lm_weight 1 "${options[@]}"
  done
}

loop "$@"
