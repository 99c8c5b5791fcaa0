# The stages of a recipe that trains a 2D teacher: speech and one still of a speaker's lips to lips. A recipe's
# teacher.sh sources loop.sh and this file, and runs after run.sh, whose corpus and lip reader it uses.

stages=(expert teacher teach readback results)
stage=expert
stop_stage=results
motions=(taught shuffled)  # the teacher's lips, and the control: its lips for another utterance's sound

recipe_paths() {
  readers=("V=$exp/recognizer_v/checkpoint")
  "$dry_run" || [ -f "$exp/recognizer_v/checkpoint/model.safetensors" ] || fail "no lip reader in $exp: run egs/$(basename "$recipe")/run.sh --preset $preset first"
  exp=$exp/teacher
}

stage_expert() { train_on_lips syncnet2d; }
stage_teacher() { train_on_lips teacher2d "expert=$exp/syncnet2d/checkpoint"; }

train_on_lips() {
  local model=$1; shift
  beside "$exp/log/$model.log" train talking3d "$recipe/conf/$model.yaml" "out=$exp/$model" \
    "data.train=[$data/train/manifest.jsonl]" "data.valid=[$data/valid/manifest.jsonl]" "$@"
  together
}

stage_teach() {
  local set
  for set in "${animate_sets[@]}"; do
    beside "$exp/log/teach_$set.log" teach "$set" taught
    beside "$exp/log/teach_${set}_shuffled.log" teach "$set" shuffled --shuffle_seed "$seed"
  done
  together
}

teach() {
  local set=$1 name=$2; shift 2
  run talking3d teach "$data/$set/manifest.jsonl" --checkpoint "$exp/teacher2d/checkpoint" \
    --out "$exp/generator/$set/$name/drawn" "$@"
}
