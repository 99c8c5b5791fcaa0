#!/usr/bin/env bash
# The open vocabulary of the embedded corpus: short everyday sentences, some with words that training never has, read
# by recognisers of phones: without any help, with a list of words, and with a language model of the training texts.
# After egs/mini/run.sh, whose corpus and recognisers it uses; about an hour on 2 cores (preset default).
#
#   egs/mini/open.sh [--seeds "0 1 2"] [--stage NAME|N] [--stop_stage NAME|N] [--preset smoke|default|full] ...
#
# Stages: 1 draw  2 noise  3 tokenizer  4 train  5 recognize  6 results
. "$(dirname "${BASH_SOURCE[0]}")/../loop.sh"

stages=(draw noise tokenizer train recognize results)
stage=draw
stop_stage=results
token_kind=phone
tokenizer=open_tokenizer.model
train_sets=(train open_train_drawn)
valid_set=open_valid
test_sets=(open_test)
noise_kinds=(babble)
corruptions=()
epochs=5        # of sound alone and of lips alone, which start from run.sh's; of both streams, which start from these:
joint_epochs=4  # the corpus is more than twice run.sh's (preset default)
lm_weight=1     # of the trigram's log probabilities, and a bonus for each word: chosen on open_valid
word_bonus=2

recipe_paths() {
  closed_exp=$exp
  exp=$exp/open
  length=() joint_length=()
  if [ "$preset" = default ]; then length=("trainer.max_epochs=$epochs") joint_length=("trainer.max_epochs=$joint_epochs"); fi
  "$dry_run" || [ -f "$data/open_train/manifest.jsonl" ] || fail "no corpus in $data: run egs/mini/run.sh --preset $preset first"
  "$dry_run" || [ -f "$closed_exp/recognizer_v/checkpoint/model.safetensors" ] || fail "no recognisers in $closed_exp: run egs/mini/run.sh --preset $preset first"
}

# The corpus has open_train's motion; its lips are drawn here, each clip in a look of its own.
stage_draw() {
  run talking3d draw "$data/open_train/manifest.jsonl" --seed "$seed" --nj "$nj" --out "$data/open_train_drawn"
}

# A word is pronounced as the alignments of training have it; those that training lacks, as the speech engine says them.
stage_tokenizer() {
  run python "$recipe/local/lexicon.py" "$data/train/manifest.jsonl" "$data/open_train/manifest.jsonl" \
    --words "$data/open_words.txt" --out "$data/lexicon.txt"
  tokenize --lexicon "$data/lexicon.txt"
}

# Those of sound alone and of lips alone have the front ends and encoders of run.sh's, which know few words; the same
# for all seeds.
stage_train() {
  local modality
  for modality in v a; do
    for_seeds train_recognizer "$modality" "init=[$closed_exp/recognizer_$modality/checkpoint]" "${length[@]}"
  done
  together
  for_seeds train_joint "${joint_length[@]}"
  together
}

# The words that may be understood are the vocabulary's, those that training lacks included; the language model has
# seen training texts only.
stage_recognize() {
  local texts=("$data/open_train/manifest.jsonl")
  local apart=(--train "$data/train/manifest.jsonl" "${texts[@]}")
  recognize open_test open_test "${apart[@]}"
  recognize open_test open_test_words --method lexicon --lexicon "$data/open_words.txt" --beam_size 30 "${apart[@]}"
  run avsr lm "${texts[@]}" --valid "$data/open_valid/manifest.jsonl" --out "$data/open_words.arpa"
  recognize open_test open_test_lm --method lexicon --lexicon "$data/open_words.txt" --beam_size 30 \
    --lm "$data/open_words.arpa" --lm_weight "$lm_weight" --word_bonus "$word_bonus" "${apart[@]}"
}

loop "$@"
