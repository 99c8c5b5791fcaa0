# The shared stages of every recipe. A recipe's run.sh sources this file, sets its own variables, replaces the stages
# in which it differs, and calls `loop "$@"`. A stage's outputs appear whole or not at all and finished work is not
# redone, so an interrupted recipe goes on where it stopped when it is started again.
set -euo pipefail

recipe=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
root=$(cd "$recipe/../.." && pwd)
script="egs/$(basename "$recipe")/$(basename "${BASH_SOURCE[1]}")"

# Options (--name value).
stage=data            # first stage, by name or number
stop_stage=           # last stage, by name or number; none: results, or where a recipe ends if it starts after that
preset=default        # smoke | default | full: the size of the corpus and of the models
ngpu=0                # GPUs; more than one goes through accelerate launch
nj=2                  # processes that prepare, draw and (without a GPU) train side by side
seed=0                # of the corpus, the noise, the trainings and the drawing
seeds=                # of the recognisers' trainings, whose figures are pooled ("0 1 2"; none: the seed alone)
datadir="$recipe/data"  # what is prepared, a folder a preset
expdir="$recipe/exp"  # what is trained and measured, a folder a preset
noise_files=          # folder of recorded noise (.wav, .flac); none: a test less
dry_run=false         # true: print the commands only

stages=(data noise tokenizer train recognize animate readback demo results benchmark)

# A recipe's own settings.
token_kind=word              # char | word | phone | unigram | bpe
train_sets=(train)           # subsets that recognisers learn from
valid_set=valid
tokenizer=tokenizer.model    # its file among the data
test_sets=(test)             # subsets that are recognised
animate_sets=(test)          # subsets whose speech drives the student
audio_passes=2               # times an epoch of a recogniser of sound alone goes through the corpus
video_passes=2               # and of lips alone
motions=(student shuffled mean static)  # the student, and the controls that must fail
joint_training=(trainer.lr=1.0e-3 data.augment.corrupt_share=0.3)  # lips that fail are what its gate learns of
noise_kinds=(babble white)   # and recorded, with --noise_files
snrs_db=(10 5 0 -5 -10)
perception_snrs_db=(-7.5 -10)  # at which faces help to understand the sound
corruptions=(frozen blank)   # of whole clips, in every noise: what is left is what is heard
demo_set=test                # the demo clip speaks this subset's first utterance
student_train_sets=(train)

log() { printf '%s %s: %s\n' "$(date '+%Y-%m-%d %H:%M:%S')" "$(basename "$recipe")" "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 2; }

# Runs a command, or only prints it under --dry_run true.
run() { if "$dry_run"; then printf '  %s\n' "$(printf '%q ' "$@")"; else "$@"; fi; }

parse_options() {
  local name
  while [ $# -gt 0 ]; do
    case "$1" in
      --help|-h) sed -n '/^# Options/,/^$/p' "$root/egs/loop.sh"; exit 0 ;;
      --*) name=${1#--}; name=${name//-/_} ;;
      *) fail "unexpected argument '$1' (options are --name value; see --help)" ;;
    esac
    case " stage stop_stage preset ngpu nj seed seeds datadir expdir noise_files dry_run ${recipe_options:-} " in
      *" $name "*) ;;
      *) fail "unknown option --$name; options: --stage --stop_stage --preset --ngpu --nj --seed --seeds --datadir --expdir --noise_files --dry_run ${recipe_options:+--${recipe_options// / --}}" ;;
    esac
    [ $# -ge 2 ] || fail "option --$name needs a value"
    printf -v "$name" '%s' "$2"
    shift 2
  done
  case "$preset" in smoke|default|full) ;; *) fail "--preset '$preset' is not one of smoke, default, full" ;; esac
  case "$dry_run" in true|false) ;; *) fail "--dry_run takes true or false, not '$dry_run'" ;; esac
  local count
  for count in "ngpu $ngpu" "nj $nj" "seed $seed"; do
    case "${count#* }" in ''|*[!0-9]*) fail "--${count% *} takes a whole number, not '${count#* }'" ;; esac
  done
  seeds=${seeds:-$seed}
  case "$seeds" in *[!0-9\ ]*) fail "--seeds takes whole numbers with blanks between, not '$seeds'" ;; esac
  [ "$nj" -ge 1 ] || fail "--nj takes 1 or more, not '$nj'"
}

# The place of a stage, given by name or number, in the list.
stage_index() {
  local i
  for i in "${!stages[@]}"; do
    if [ "$1" = "${stages[$i]}" ] || [ "$1" = "$((i + 1))" ]; then echo "$i"; return; fi
  done
  fail "no stage '$1'; stages: $(for i in "${!stages[@]}"; do printf '%d=%s ' $((i + 1)) "${stages[$i]}"; done)"
}

# launch MODULE ARGUMENT...: a module's command line that trains, on the GPUs asked for, or on the CPU.
launch() {
  local how=(python -m)
  if [ "$ngpu" -gt 1 ]; then how=(accelerate launch --num_processes "$ngpu" -m); fi
  if [ "$ngpu" -eq 0 ]; then how=(env CUDA_VISIBLE_DEVICES= "${how[@]}"); fi
  run ${train_cmd:-} "${how[@]}" "$@"
}

# train MODEL_CLI CONFIG [key=value ...]: one training.
train() {
  local cli=$1; shift
  launch "$cli.cli" train --preset "$preset" "$@" "trainer.seed=$seed"
}

# beside LOG COMMAND...: starts a command with its output in LOG; waits for a place while nj commands run (one, with
# GPUs).
beside() {
  local logfile=$1; shift
  if "$dry_run"; then "$@"; return; fi
  local places=$nj
  if [ "$ngpu" -gt 0 ]; then places=1; fi
  while [ "$(jobs -rp | wc -l)" -ge "$places" ]; do
    wait -n || fail "a command failed; see the logs in $exp/log"
  done
  mkdir -p "$(dirname "$logfile")"
  log "  $(basename "$logfile" .log): log in $logfile"
  "$@" >"$logfile" 2>&1 &
  started+=("$! $logfile")
}

# Waits for all that `beside` started; one that failed, however early, ends the recipe.
together() {
  local job
  for job in "${started[@]}"; do
    wait "${job%% *}" || fail "a command failed; see ${job#* }"
  done
  started=()
}
started=()

# The student that speaks and the lip readers that judge its lips (NAME=CHECKPOINT).
recipe_paths() {
  student="$exp/audio2mesh/checkpoint"
  readers=("V=$exp/recognizer_v/checkpoint")
}

stage_data() { fail "the recipe defines no stage_data"; }

# What befalls the evaluation's sound and lips, fixed once and the same for every system; babble's talkers come from
# training.
stage_noise() {
  local set kind kinds=("${noise_kinds[@]}") files=()
  if [ -n "$noise_files" ]; then
    mapfile -t files < <(find -L "$(realpath "$noise_files")" -type f \( -name '*.wav' -o -name '*.flac' \) | sort)
    [ ${#files[@]} -gt 0 ] || fail "--noise_files $noise_files: no .wav or .flac below it"
    kinds+=(recorded)
    files=(--noise "${files[@]}")
  fi
  for set in "${test_sets[@]}"; do
    for kind in "${kinds[@]}"; do
      run avsr noise "$data/$set/manifest.jsonl" --kind "$kind" --snr_db "${snrs_db[@]}" --seed "$seed" \
        --babble "$data/train/manifest.jsonl" "${files[@]}" --out "$data/noise/$set"
    done
    for kind in "${corruptions[@]}"; do
      run avsr corrupt "$data/$set/manifest.jsonl" --kind "$kind" --severity 1 --seed "$seed" --out "$data/corruption/$set"
    done
  done
}

stage_tokenizer() { tokenize; }

# tokenize [OPTION...]: the tokenizer of the texts that recognisers learn from and are chosen by.
tokenize() {
  local set texts=()
  for set in "${train_sets[@]}" "$valid_set"; do texts+=("$data/$set/manifest.jsonl"); done
  run avsr tokenizer "${texts[@]}" --kind "$token_kind" "$@" --out "$data/$tokenizer"
}

# An audio-only and a visual-only recogniser and the student, side by side where there is no GPU; then a recogniser of
# both streams that starts from these two.
stage_train() {
  for_seeds train_recognizer v
  for_seeds train_recognizer a
  train_student
  together
  for_seeds train_joint
  together
}

# for_seeds COMMAND...: the command with each of --seeds as its seed.
for_seeds() {
  local seed first=$seed
  for seed in $seeds; do "$@"; done
}

# recognizer_of MODALITY: the folder of the recogniser of this seed; the recipe's own seed's has no number.
recognizer_of() {
  if [ "$seed" = "${first:-$seed}" ]; then echo "$exp/recognizer_$1"; else echo "$exp/recognizer_$1_$seed"; fi
}

train_joint() {
  train_recognizer av "init=[$(recognizer_of a)/checkpoint,$(recognizer_of v)/checkpoint]" "${joint_training[@]}" "$@"
}

train_recognizer() {
  local modality=$1 out manifests; shift
  out=$(recognizer_of "$modality")
  manifests=$(manifests_of "${train_sets[@]}")
  case "$modality" in
    a) manifests=$(repeated "$audio_passes" "$manifests") ;;
    v) manifests=$(repeated "$video_passes" "$manifests") ;;
  esac
  beside "$exp/log/$(basename "$out").log" train avsr "$recipe/conf/recognizer.yaml" \
    "recognizer.modalities=$modality" "out=$out" "data.tokenizer=$data/$tokenizer" \
    "data.train=[$manifests]" "data.valid=[$data/$valid_set/manifest.jsonl]" "$@"
}

# manifests_of SET...: the subsets' manifests, with commas between.
manifests_of() { printf "$data/%s/manifest.jsonl\n" "$@" | paste -sd,; }

# repeated TIMES TEXT: the text so often, with commas between.
repeated() { printf "$2\n%.0s" $(seq "$1") | paste -sd,; }

# system NAME MODALITY: NAME=CHECKPOINT,...:MODALITY of all seeds.
system() {
  local folders
  folders=$(for_seeds recognizer_of "$2" | sed 's#$#/checkpoint#' | paste -sd,)
  echo "$1=$folders:$2"
}

train_student() {
  beside "$exp/log/audio2mesh.log" train talking3d "$recipe/conf/audio2mesh.yaml" "out=$exp/audio2mesh" \
    "data.train=[$(manifests_of "${student_train_sets[@]}")]" "data.valid=[$data/valid/manifest.jsonl]"
}

stage_recognize() {
  local set
  for set in "${test_sets[@]}"; do
    recognize "$set" "$set" --corruptions "$data/corruption/$set" --cross
  done
}

# recognize SET NAME [OPTION...]: word errors of all systems on a subset, clean and in noise, under a name of their own.
recognize() {
  local set=$1 name=$2; shift 2
  run python -m benchmarks.recognizer "$data/$set/manifest.jsonl" --noise "$data/noise/$set" --nj "$nj" \
    --system "$(system A a)" --system "$(system V v)" --system "$(system AV av)" --out "$exp/recognizer/$name" "$@"
}

# Motion for each subset's speech, by the student and as controls, then its lips drawn.
stage_animate() {
  local set motion
  for set in "${animate_sets[@]}"; do
    for motion in "${motions[@]}"; do
      beside "$exp/log/animate_${set}_$motion.log" animate "$set" "$motion"
    done
  done
  together
}

animate() {
  local set=$1 motion=$2
  run talking3d predict "$data/$set/manifest.jsonl" --checkpoint "$student" --motion "$motion" --seed "$seed" \
    --out "$exp/generator/$set/$motion"
  run talking3d draw "$exp/generator/$set/$motion/manifest.jsonl" --seed "$seed" --out "$exp/generator/$set/$motion/drawn"
}

stage_readback() {
  local set motion reader options
  for set in "${animate_sets[@]}"; do
    options=(--lexicon "$data/train/manifest.jsonl")
    for motion in "${motions[@]}"; do
      options+=(--motion "$motion=$exp/generator/$set/$motion/drawn/manifest.jsonl")
    done
    for reader in "${readers[@]}"; do options+=(--reader "$reader"); done
    if [ -n "${judge:-}" ]; then options+=(--judge "$judge"); fi
    run python -m benchmarks.generator "$data/$set/manifest.jsonl" --out "$exp/generator/$set" "${options[@]}"
  done
}

# Clips with sound, which the page of results shows: the student speaks, and beside the controls.
stage_demo() {
  local set utterance speech motion files=()
  speech=$(first_of "$demo_set" audio)
  run talking3d animate "$data/$demo_set/${speech:-AUDIO_OF_FIRST_LINE}" --checkpoint "$student" --out "$exp/report/demo.mp4"
  for set in "${animate_sets[@]}"; do
    utterance=$(first_of "$set" utt_id)
    speech=$(first_of "$set" audio)
    files=()
    for motion in "${motions[@]}"; do
      files+=("$exp/generator/$set/$motion/motion/${utterance:-FIRST_UTTERANCE}.npz")
    done
    run talking3d compare "${files[@]}" --labels "${motions[@]}" --audio "$data/$set/${speech:-AUDIO_OF_FIRST_LINE}" \
      --size 256 --out "$exp/report/motions_$set.mp4"
  done
  "$dry_run" || log "clips with sound: $exp/report/*.mp4"
}

# first_of SET FIELD: what a field of a subset's first utterance holds; nothing before the stage data.
first_of() {
  sed -n '1s/.*"'"$2"'": "\([^"]*\)".*/\1/p' "$data/$1/manifest.jsonl" 2>/dev/null || true
}

stage_results() {
  local title
  title=$(basename "$recipe")
  [ "$(basename "$script")" = run.sh ] || title+=", $(basename "$script" .sh)"
  title+=", preset $preset, seed $seed"
  [ "$seeds" = "$seed" ] || title+=", trainings from seeds $seeds"
  local measured=("$exp")
  [ ! -d "$exp/augmentation" ] || measured+=("$exp/augmentation")
  run python -m benchmarks.report "${measured[@]}" --title "$title" --recipe "$recipe" \
    --command "${command_line% }" --lexicon "$data/train/manifest.jsonl"
  "$dry_run" || log "table: $exp/RESULTS.md, page with plots: $exp/report/index.html"
}

# What takes hours and so is run when it is asked for (--stage benchmark): how well the faces are understood, by their
# lips alone and with the sound in noise; how much drawn lips help; then the page of results anew.
stage_benchmark() {
  local set motion reader options
  for set in "${animate_sets[@]}"; do
    run avsr noise "$data/$set/manifest.jsonl" --kind babble --snr_db "${perception_snrs_db[@]}" --seed "$seed" \
      --babble "$data/train/manifest.jsonl" --out "$data/noise/${set}_perception"
    options=(--reader "AV=$exp/recognizer_av/checkpoint" --lexicon "$data/train/manifest.jsonl")
    for motion in "${motions[@]}"; do  # what stands still is a control of the benchmark's own
      [ "$motion" = static ] || options+=(--motion "$motion=$exp/generator/$set/$motion/drawn/manifest.jsonl")
    done
    for motion in "$exp/learn2talk/generator/$set"/learn2talk_*; do  # where learn2talk.sh has been run
      [ ! -f "$motion/drawn/manifest.jsonl" ] || options+=(--motion "$(basename "$motion")=$motion/drawn/manifest.jsonl")
    done
    for reader in "${readers[@]}"; do options+=(--reader "$reader"); done
    run python -m benchmarks.perception "$data/$set/manifest.jsonl" --noise "$data/noise/${set}_perception" \
      --out "$exp/perception/$set" "${options[@]}"
  done
  "$recipe/augmentation.sh" --preset "$preset" --seeds "$seeds" --seed "$seed" --nj "$nj" --ngpu "$ngpu" \
    --datadir "$datadir" --expdir "$expdir" --dry_run "$dry_run"
  stage_results
}

loop() {
  local command_line first last i began
  command_line=$(printf '%q ' "$script" "$@")  # quoted, so that what the page states can be run again
  parse_options "$@"
  # Declared and assigned apart, so that a wrong stage ends the recipe.
  first=$(stage_index "$stage")
  last=$(stage_index "${stop_stage:-results}")
  if [ -z "$stop_stage" ] && [ "$first" -gt "$last" ]; then last=$((${#stages[@]} - 1)); fi
  [ "$first" -le "$last" ] || fail "--stage $stage comes after --stop_stage $stop_stage"
  . "$recipe/db.sh"
  . "$recipe/cmd.sh"
  "$dry_run" || . "$recipe/path.sh"
  data=$(realpath -m "$datadir")/$preset
  exp=$(realpath -m "$expdir")/$preset
  recipe_paths
  # However the recipe ends, what it started beside ends with it (background commands don't hear Ctrl-C).
  trap 'kill $(jobs -rp) 2>/dev/null || true' EXIT
  for ((i = first; i <= last; i++)); do
    log "stage $((i + 1)) ${stages[$i]} ($preset)"
    began=$SECONDS
    "stage_${stages[$i]}"
    if ! "$dry_run"; then
      mkdir -p "$exp"
      printf '{"stage": "%s", "seconds": %d}\n' "${stages[$i]}" $((SECONDS - began)) >>"$exp/stages.jsonl"
      log "stage $((i + 1)) ${stages[$i]} done in $((SECONDS - began)) s"
    fi
  done
}
