# The stages of a recipe that asks how much drawn lips help a recogniser of filmed ones. A recipe's augmentation.sh
# sources loop.sh and this file, names its test_set, says in `augmentation_paths` where the arms are, in `stage_students`
# what is learned of filmed clips and in `stage_draw` what is drawn, and runs after run.sh, whose corpus it uses. What is
# compared, and what is fair about it: conf/augmentation.yaml and `python -m benchmarks.augmentation --help`.

stages=(students draw plan train measure results)
stage=students
stop_stage=results
percents=(2 10)     # of the training clips that are filmed, beside none and all
renditions=4        # of each clip that is drawn
controls=(shuffled static)  # motion that must not help: another utterance's, and none
control_percent=10  # share of filmed clips beside which controls are drawn
motion_noise=0.25   # of drawn motion, as a share of its own deviation
student_passes=2    # times an epoch of a student would go through all the clips; with fewer it is as long
seeds="0 1 2"       # of the recognisers

# Sets arms, whose manifests are said as the plan's overrides.
augmentation_paths() { fail "the recipe defines no augmentation_paths"; }

recipe_paths() {
  exp=$exp/augmentation
  shares=$data/shares
  sound=$data/train/manifest.jsonl
  filmed="$shares/train_{percent}/manifest.jsonl"
  cells=$exp/augmentation/$test_set
  augmentation_paths
  "$dry_run" || [ -f "$sound" ] || fail "no clips in $data: run egs/$(basename "$recipe")/run.sh --preset $preset first"
}

# Nested parts of the training clips.
make_shares() { run python "$root/egs/grid/local/share.py" "$sound" --percent "${percents[@]}" 100 --out "$shares"; }

# student PERCENT MANIFEST [key=value ...]: learns the motion of a share of the clips.
student() {
  local percent=$1 manifest=$2; shift 2
  beside "$exp/log/student_$percent.log" train talking3d "$root/egs/mini/conf/audio2mesh.yaml" \
    "out=$exp/student_$percent" "data.train=[$(repeated $((student_passes * 100 / percent)) "$manifest")]" \
    "data.valid=[$manifest]" "$@"
}

# move NAME CHECKPOINT [OPTION...]: motion for the sound of all training clips.
move() {
  local name=$1 checkpoint=$2; shift 2
  run talking3d predict "$sound" --checkpoint "$checkpoint" --seed "$seed" --out "$exp/motion/$name" "$@"
}

# draw NAME [OPTION...]: lips of that motion, in so many renditions.
draw() {
  local name=$1 number; shift
  for ((number = 0; number < renditions; number++)); do
    beside "$exp/log/draw_${name}_$number.log" run talking3d draw "$exp/motion/$name/manifest.jsonl" \
      --motion_noise "$motion_noise" --seed $((seed + number)) --out "$exp/drawn/${name}_$number" "$@"
  done
}

stage_plan() {
  run python -m benchmarks.augmentation plan --preset "$preset" --out "$cells" "$recipe/conf/augmentation.yaml" \
    "config=$recipe/conf/recognizer.yaml" "sound=$sound" "filmed=$filmed" "valid=$data/$valid_set/manifest.jsonl" \
    "tokenizer=$data/$tokenizer" "seeds=[${seeds// /,}]" "${arms[@]}"
}

# Trainings of one wave run side by side; each starts from those of the waves before.
stage_train() {
  local wave name
  for wave in 1 2 3; do
    if "$dry_run"; then launch benchmarks.augmentation train "$cells" "EACH_OF_WAVE_$wave"; continue; fi
    for name in $(python -m benchmarks.augmentation list "$cells" --wave "$wave"); do
      beside "$exp/log/$name.log" launch benchmarks.augmentation train "$cells" "$name"
    done
    together
  done
}

stage_measure() {
  local test=$data/$test_set/manifest.jsonl
  run avsr noise "$test" --kind babble --snr_db "${snrs_db[@]}" --seed "$seed" \
    --babble "$sound" --out "$data/noise/${test_set}_babble"
  run python -m benchmarks.augmentation measure "$cells" "$test" --noise "$data/noise/${test_set}_babble" --nj "$nj"
}
