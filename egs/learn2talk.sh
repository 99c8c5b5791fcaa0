# The stages of a recipe that compares Learn2Talk with what it is made of and what it competes with. A recipe's
# learn2talk.sh sources loop.sh and this file, says in `learn2talk_paths` where speech with motion and drawn lips are,
# and runs after run.sh.
# What was a loss never judges: sync is scored by a network of another width and seed than the expert, lips are read by
# run.sh's reader, and a reader trained apart is the loss.

stages=(experts students animate ablation results)
stage=experts
stop_stage=results
seeds="0 1 2"                  # of the systems' trainings; expert, judge, lip readers and motion prior have one
systems=(student sync reading learn2talk)
compared=(student:sync student:reading student:learn2talk)
system_options=()              # of the systems' trainings
draw_options=()                # of talking3d draw
judge_width=96
reader_channels="[20,40,80]"   # of the lip reader that is a loss

# Sets motion_train, motion_valid (manifests of speech with motion), lips_train, lips_valid (of drawn lips), lexicon.
learn2talk_paths() { fail "the recipe defines no learn2talk_paths"; }

# The manifest of a subset's speech with its true motion and lips.
reference_of() { echo "$data/$1/manifest.jsonl"; }

recipe_paths() {
  loop_exp=$exp
  loop_seed=$seed
  exp=$exp/learn2talk
  reader="V=$loop_exp/recognizer_v/checkpoint"
  judge="$exp/judge/checkpoint"
  learn2talk_paths
}

# motion_training NAME CONFIG [key=value ...]: one training on speech with motion.
motion_training() {
  local name=$1 config=$2; shift 2
  train talking3d "$root/egs/mini/conf/$config.yaml" "out=$exp/$name" "data.train=[$motion_train]" \
    "data.valid=[$motion_valid]" "$@"
}

stage_experts() {
  beside "$exp/log/expert.log" motion_training expert syncnet3d
  seed=$((seed + 1)) beside "$exp/log/judge.log" motion_training judge syncnet3d "syncnet3d.width=$judge_width"
  seed=$((seed + 1)) beside "$exp/log/lipreader.log" train avsr "$recipe/conf/recognizer.yaml" "recognizer.modalities=v" \
    "out=$exp/lipreader" "data.tokenizer=$data/tokenizer.model" "recognizer.visual_channels=$reader_channels" \
    "data.train=[$lips_train]" "data.valid=[$lips_valid]"
  case " ${systems[*]} " in *" codetalker "*) beside "$exp/log/motion_prior.log" motion_training motion_prior motion_prior ;; esac
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
  local system=$1 expert="learn2talk.expert=$exp/expert/checkpoint" reader="learn2talk.reader=$exp/lipreader/checkpoint"
  case "$system" in
    student) set -- audio2mesh ;;
    sync) set -- learn2talk "$expert" learn2talk.{shape,dynamics}_share=0 ;;
    reading) set -- learn2talk "$reader" learn2talk.dynamics_share=0 ;;
    learn2talk) set -- learn2talk "$expert" "$reader" ;;
    codetalker) set -- codetalker "codetalker.prior=$exp/motion_prior/checkpoint" ;;
  esac
  motion_training "${system}_$seed" "$@" "${system_options[@]}"
}

# checkpoint_of SYSTEM SEED
checkpoint_of() { echo "$exp/$1_$2/checkpoint"; }

stage_animate() {
  local set system seed
  for set in "${animate_sets[@]}"; do
    beside "$exp/log/animate_${set}_mean.log" animate_system "$set" mean mean "$(checkpoint_of student "${seeds%% *}")"
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
  run talking3d predict "$(reference_of "$set")" --checkpoint "$checkpoint" --motion "$motion" --seed "$loop_seed" \
    --out "$exp/generator/$set/$name"
  run talking3d draw "$exp/generator/$set/$name/manifest.jsonl" "${draw_options[@]}" --seed "$loop_seed" \
    --out "$exp/generator/$set/$name/drawn"
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
    run python -m benchmarks.ablation "$(reference_of "$set")" --reader "$reader" --judge "$judge" \
      --lexicon "$lexicon" --out "$exp/ablation/$set" "${options[@]}"
  done
}
