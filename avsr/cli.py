"""The command line `avsr`: prepare, noise, corrupt, tokenizer, lm, train, import, transcribe, score, card."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from avsr.data.corrupt import CORRUPTIONS
from avsr.data.text import KINDS as TOKENIZER_KINDS
from avsr.errors import InputError, exit_status
from avsr.files import write_text

if TYPE_CHECKING:
    from avsr.transcribe import Transcript

REPOSITORY = Path(__file__).resolve().parents[1]
NOISE_KINDS = ("babble", "recorded", "white", "pink", "talker", "none")  # as avsr.data.noise, which imports torch
DRAWS = 10_000  # of the bootstrap behind `avsr score`
DEFAULT_CHECKPOINTS = ("egs/grid/exp/default/recognizer_av/checkpoint", "egs/mini/exp/default/recognizer_av/checkpoint")


def default_checkpoint() -> Path:
    """The recogniser used when `--checkpoint` is absent.

    `$LIPLOOP_RECOGNIZER` if set, else the first that a recipe of this checkout has trained: GRID's (real video), then
    the embedded corpus's. Raises InputError where there is none.
    """
    named = os.environ.get("LIPLOOP_RECOGNIZER")
    candidates = [Path(named)] if named is not None else [REPOSITORY / folder for folder in DEFAULT_CHECKPOINTS]
    for folder in candidates:
        if (folder / "config.yaml").is_file():
            return folder
    raise InputError(
        f"no recogniser found (looked for {', '.join(map(str, candidates))}): give --checkpoint DIR, set "
        "LIPLOOP_RECOGNIZER, or train one with egs/grid/run.sh or egs/mini/run.sh"
    )


def _prepare(args: argparse.Namespace) -> None:
    from avsr.data.manifest import read_manifest
    from avsr.data.prepare import prepare, rows_from_folder

    source = Path(args.source)
    rows = read_manifest(source, need=("video",)) if source.suffix == ".jsonl" else rows_from_folder(source)
    print(prepare(rows, args.out, args.nj, args.detector, args.mouth_width, args.landmark_model))


def _noise(args: argparse.Namespace) -> None:
    from avsr.data.manifest import read_manifest
    from avsr.data.noise import make_noise_manifest, noise_hash, write_noise_manifest

    rows = read_manifest(args.manifest)
    babble_rows = read_manifest(args.babble) if args.babble is not None else None
    sources = {"babble_rows": babble_rows, "noise_paths": args.noise, "rir_paths": args.rir}
    for snr_db in args.snr_db:
        lines = make_noise_manifest(rows, kind=args.kind, snr_db=snr_db, seed=args.seed, **sources)
        name = [] if snr_db is None else [args.kind, f"{snr_db:g}dB"]
        path = Path(args.out) / f"{'_'.join(name + ['reverb'] * bool(args.rir))}.jsonl"
        write_noise_manifest(path, lines)
        print(f"{path}: {len(lines)} utterances, hash {noise_hash(lines)[:16]}")


def _corrupt(args: argparse.Namespace) -> None:
    from avsr.data.corrupt import corruption_hash, make_corruption_manifest, write_corruption_manifest
    from avsr.data.manifest import read_manifest

    rows = read_manifest(args.manifest, need=(), check_files=False)
    for severity in args.severity:
        lines = make_corruption_manifest(rows, kind=args.kind, severity=severity, seed=args.seed)
        path = Path(args.out) / f"{args.kind}_{severity:g}.jsonl"
        write_corruption_manifest(path, lines)
        print(f"{path}: {len(lines)} utterances, hash {corruption_hash(lines)[:16]}")


def _tokenizer(args: argparse.Namespace) -> None:
    from avsr.data.manifest import read_manifest
    from avsr.data.pronunciations import read_pronunciations
    from avsr.data.text import train_tokenizer

    rows = [row for path in args.manifests for row in read_manifest(path, need=("text",), check_files=False)]
    pronunciations = None if args.lexicon is None else read_pronunciations(args.lexicon)
    tokenizer = train_tokenizer([row["text"] for row in rows], args.kind, args.vocab_size, pronunciations)
    tokenizer.save(args.out)
    print(f"{args.out}: {len(tokenizer)} {args.kind} tokens")


def _lm(args: argparse.Namespace) -> None:
    from avsr.lm import train_ngram

    sentences = _sentences(args.texts, args.tokenizer)
    model = train_ngram(sentences, args.order)
    model.save(args.out)
    print(f"{args.out}: {len(sentences)} sentences, {len(model.words)} words, order {args.order}")
    if args.valid is not None:
        print(f"perplexity of {', '.join(args.valid)}: {model.perplexity(_sentences(args.valid, args.tokenizer)):.2f}")


def _sentences(paths: list[str], tokenizer_path: str | None) -> list[list[str]]:
    """The words, or tokens, of each text in manifests and text files."""
    from avsr.data.text import load_tokenizer
    from avsr.data.text_dataset import read_texts

    texts = read_texts(paths)
    if tokenizer_path is None:
        return [text.split() for text in texts]
    tokenizer = load_tokenizer(tokenizer_path)
    return [[tokenizer.tokens[token] for token in tokenizer.encode(text)] for text in texts]


def _train(args: argparse.Namespace) -> None:
    from avsr.train import train

    print(train(args.config, args.overrides, preset=args.preset))


def _import(args: argparse.Namespace) -> None:
    from avsr.models.public_checkpoints import import_auto_avsr

    import_auto_avsr(args.weights, args.units, args.pieces, args.out)
    print(args.out)


def _transcribe(args: argparse.Namespace) -> None:
    from avsr.decode import DecodeConfig
    from avsr.transcribe import Transcriber, media_files

    files = [file for path in args.files for file in media_files(path)]
    outputs = _output_files(files, args)
    checkpoint = args.checkpoint if args.checkpoint is not None else default_checkpoint()
    print(f"recogniser: {checkpoint}", file=sys.stderr)
    transcriber = Transcriber.from_pretrained(checkpoint, args.max_piece_s)
    config = DecodeConfig(
        method=args.method,
        beam_size=args.beam_size,
        ctc_weight=args.ctc_weight,
        modality=args.modality,
        lm=args.lm,
        lm_weight=args.lm_weight,
        lexicon=args.lexicon,
        n_best=args.n_best,
    )
    failed = []
    for file, output in zip(files, outputs, strict=True):
        try:
            text = _written(file, transcriber(file, config), args, named=len(files) > 1 and output is None)
        except InputError as error:
            if len(files) == 1:
                raise
            print(f"error: {error}", file=sys.stderr)
            failed.append(file)
            continue
        if output is None:
            print(text, flush=True)
        else:
            write_text(output, text + "\n")
    if failed:
        raise InputError(f"{len(failed)} of {len(files)} files could not be transcribed; the first: {failed[0]}")


def _output_files(files: list[Path], args: argparse.Namespace) -> list[Path | None]:
    """Where each file's transcript is written; None: to stdout."""
    if args.out is None:
        if args.srt and len(files) > 1:
            raise InputError(f"the subtitles of {len(files)} files are {len(files)} files: give --out FOLDER for them")
        return [None] * len(files)
    suffix = ".json" if args.json else ".srt" if args.srt else ".txt"
    roots = [Path(path) for path in args.files if Path(path).is_dir()]
    outputs: dict[Path, Path] = {}
    for file in files:
        root = next((root for root in roots if file.is_relative_to(root)), file.parent)
        output = Path(args.out) / file.relative_to(root).with_suffix(suffix)
        if output in outputs:
            raise InputError(f"{outputs[output]} and {file} would both be written to {output}; transcribe them apart")
        outputs[output] = file
    return list(outputs)


def _written(file: Path, transcript: Transcript, args: argparse.Namespace, named: bool) -> str:
    """A transcript as the options want it; `named`: each line begins with the file."""
    if args.json:
        return json.dumps({"file": str(file), **transcript.as_dict()}, ensure_ascii=False)
    if args.srt:
        from avsr.subtitles import subrip

        if transcript.text and not transcript.words:
            raise InputError(f"{file}: this way of decoding gives no times of words, which subtitles need")
        return subrip(transcript.words).rstrip("\n")
    lines = [transcript.text]
    if args.n_best > 1:
        lines = [f"{score:.2f}\t{text}" for text, score in transcript.nbest]
    return "\n".join(f"{file}\t{line}" if named else line for line in lines)


def _score(args: argparse.Namespace) -> None:
    from avsr.data.manifest import read_manifest
    from avsr.score import read_texts, score
    from avsr.significance import RATES, difference

    refs = {row["utt_id"]: row["text"] for row in read_manifest(args.manifest, need=("text",), check_files=False)}
    paths = [args.hyp] if args.against is None else [args.hyp, args.against]
    names = [Path(path).parent.name or Path(path).stem for path in paths]
    if len(set(names)) < len(paths):
        names = paths
    scores = {name: score(refs, read_texts(path), args.normalizer) for name, path in zip(names, paths, strict=True)}
    if len(scores) < len(paths):
        raise InputError(f"--against {args.against}: it is the file that it would be compared with; name another.")
    gains = {}
    if args.against is not None:
        ours, other = scores.values()
        gains = {rate: difference(tally(other), tally(ours), draws=DRAWS) for rate, tally in RATES.items()}
    (_print_json if args.json else _print_tables)(args, scores, gains)


def _print_json(args: argparse.Namespace, scores: dict, gains: dict) -> None:
    from avsr.significance import RATES, interval

    systems = {}
    for name, one in scores.items():
        ends = {rate: [float(end) for end in interval(tally(one), draws=DRAWS)] for rate, tally in RATES.items()}
        systems[name] = {**one.as_dict(), "intervals": ends, "confusions": one.confusions()[: args.confusions]}
    found = {"manifest": args.manifest, "draws": DRAWS, "systems": systems}
    found["differences"] = {rate: asdict(gain) for rate, gain in gains.items()}
    print(json.dumps(found, indent=2, ensure_ascii=False))


def _print_tables(args: argparse.Namespace, scores: dict, gains: dict) -> None:
    from avsr.score import NORMALIZERS, confusion_table, espnet_table

    print(f"normaliser {args.normalizer}: {NORMALIZERS[args.normalizer].said}\n")
    for rate, unit in (("WER", "word"), ("CER", "char")):
        print(f"{rate}\n\n{espnet_table(scores, unit)}")
    for rate, gain in gains.items():
        print(
            f"{rate} of {' − '.join(scores)}: {gain.difference:+.1f} points, 95 % [{gain.low:+.1f}, {gain.high:+.1f}], "
            f"p = {gain.p:.2g} (paired bootstrap over utterances, {DRAWS:,} draws)"
        )
    for name, one in scores.items():
        if args.confusions > 0:
            print(f"\n{name}: confusions of words\n\n{confusion_table(one, args.confusions)}")
        if args.alignments:
            print(f"\n{name}: alignments\n\n{one.alignments}")


def _card(args: argparse.Namespace) -> None:
    from avsr.data.manifest import read_manifest
    from avsr.files import read_jsonl
    from avsr.models.recognizer_card import add_score
    from avsr.score import score

    refs = {row["utt_id"]: row["text"] for row in read_manifest(args.manifest, need=("text",), check_files=False)}
    measured = score(refs, {row["utt_id"]: row["text"] for row in read_jsonl(args.hyp)})
    add_score(args.checkpoint, args.dataset, measured.word.err, measured.word.units)
    print(f"{args.checkpoint}: {args.dataset} {measured.word.err:.2f} % of {measured.word.units} words")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="avsr", description=__doc__)
    parser.add_argument("-v", "--verbose", action="store_true", help="say more on the way")
    commands = parser.add_subparsers(dest="command", required=True)

    sub = commands.add_parser("prepare", help="landmarks and lip crops of videos, with their manifest")
    sub.add_argument("source", help="a video, a folder of videos, or a manifest (.jsonl) whose rows have `video`")
    sub.add_argument("--out", required=True, help="folder for audio/ lips/ landmarks/ manifest.jsonl dropped.jsonl")
    sub.add_argument("--nj", type=int, default=1, help="processes")
    sub.add_argument("--detector", choices=("auto", "dlib", "haar", "mediapipe"), default="auto", help="of landmarks")
    sub.add_argument("--landmark_model", metavar="FILE.task", help="MediaPipe's FaceLandmarker, for its detector")
    sub.add_argument("--mouth_width", type=float, default=0.6, help="share of the crop; Auto-AVSR's crops: 0.469")
    sub.set_defaults(run=_prepare)

    sub = commands.add_parser("noise", help="a noise manifest: which noise each utterance gets, and where it starts")
    sub.add_argument("manifest")
    sub.add_argument("--kind", choices=NOISE_KINDS, required=True, help="none: only the rooms of --rir")
    sub.add_argument("--snr_db", type=float, nargs="+", default=[None], help="of every kind but none")
    sub.add_argument("--babble", help="manifest whose utterances are the babble's talkers, or the talker's")
    sub.add_argument("--noise", nargs="+", help="recorded noise files")
    sub.add_argument("--rir", nargs="+", help="impulse responses of the rooms that the speech is heard in")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument(
        "--out", required=True, help="folder; one KIND_SNRdB.jsonl for each SNR, with --rir KIND_SNRdB_reverb.jsonl"
    )
    sub.set_defaults(run=_noise)

    sub = commands.add_parser("corrupt", help="a corruption manifest: what befalls each utterance's lips or sound")
    sub.add_argument("manifest")
    sub.add_argument("--kind", choices=tuple(CORRUPTIONS), required=True)
    units = "; ".join(f"{kind}: {corruption.unit}" for kind, corruption in CORRUPTIONS.items())
    sub.add_argument("--severity", type=float, nargs="+", required=True, help=units)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--out", required=True, help="folder; one KIND_SEVERITY.jsonl for each severity")
    sub.set_defaults(run=_corrupt)

    sub = commands.add_parser("tokenizer", help="a tokenizer from manifests' texts")
    sub.add_argument("manifests", nargs="+", metavar="manifest")
    sub.add_argument("--kind", choices=TOKENIZER_KINDS, required=True)
    sub.add_argument("--vocab_size", type=int, help="for unigram and bpe")
    sub.add_argument("--lexicon", help="for phone: a pronouncing dictionary, `word phone phone ...` a line")
    sub.add_argument("--out", required=True)
    sub.set_defaults(run=_tokenizer)

    sub = commands.add_parser("lm", help="an n-gram language model (ARPA) of manifests' texts or of text files")
    sub.add_argument("texts", nargs="+", help="manifests (.jsonl), or text files with one sentence a line")
    sub.add_argument("--order", type=int, default=3)
    sub.add_argument("--tokenizer", help="make it of this tokenizer's tokens, for beam search; default: of words")
    sub.add_argument("--valid", nargs="+", help="texts to print the perplexity of")
    sub.add_argument("--out", required=True)
    sub.set_defaults(run=_lm)

    sub = commands.add_parser(
        "train", help="train a recogniser or a transformer language model; resumes where it stopped"
    )
    sub.add_argument("config")
    sub.add_argument("overrides", nargs="*", metavar="key=value")
    sub.add_argument("--preset", help="one of the config's presets")
    sub.set_defaults(run=_train)

    sub = commands.add_parser("import", help="a recogniser from a public checkpoint")
    sub.add_argument("kit", choices=("auto_avsr",))
    sub.add_argument("weights", help="its .pth")
    sub.add_argument("--units", required=True, help="its list of units, as unigram5000_units.txt")
    sub.add_argument("--pieces", required=True, help="its sentencepiece model, as unigram5000.model")
    sub.add_argument("--out", required=True, help="checkpoint folder")
    sub.set_defaults(run=_import)

    sub = commands.add_parser("transcribe", help="print what is said in video or sound files")
    sub.add_argument("files", nargs="+", metavar="file", help="video or sound, or a folder: all such files below it")
    sub.add_argument("--modality", choices=("av", "a", "v"), help="default: what the file and the recogniser have")
    sub.add_argument("--checkpoint", help="folder or hub id")
    sub.add_argument("--method", choices=("greedy", "beam", "lexicon"), default="beam")
    sub.add_argument("--beam_size", type=int, default=10)
    sub.add_argument("--ctc_weight", type=float, default=0.4, help="of the beam search; Auto-AVSR's checkpoints: 0.1")
    sub.add_argument(
        "--lm", help="for beam an ARPA file of its tokens or a trained model's folder; for lexicon one of words"
    )
    sub.add_argument("--lm_weight", type=float, default=0.3)
    sub.add_argument("--lexicon", help="for the method of that name: a file with one word a line")
    sub.add_argument("--n_best", type=int, default=1, help="print so many texts of a file, with scores, best first")
    sub.add_argument(
        "--max_piece_s", type=float, help="longer recordings are cut in pauses; default: the longest of training, or 30"
    )
    form = sub.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object a line: text, words, n best, warnings")
    form.add_argument("--srt", action="store_true", help="SubRip subtitles")
    sub.add_argument("--out", help="folder for a .txt, .json or .srt of each file; default: print")
    sub.set_defaults(run=_transcribe)

    sub = commands.add_parser("score", help="ESPnet's tables of a hyp.jsonl against a manifest")
    sub.add_argument("hyp")
    sub.add_argument("manifest")
    sub.add_argument(
        "--against", metavar="HYP", help="another system's hyp.jsonl: the difference, with its interval and p"
    )
    sub.add_argument("--normalizer", choices=("lower", "none"), default="lower", help="of both sides' texts")
    sub.add_argument("--confusions", type=int, default=0, metavar="N", help="show the N most frequent")
    sub.add_argument("--alignments", action="store_true", help="show every utterance's")
    sub.add_argument("--json", action="store_true", help="figures, intervals, differences and confusions as JSON")
    sub.set_defaults(run=_score)

    sub = commands.add_parser("card", help="write the word error rate of a hyp.jsonl into a checkpoint's model card")
    sub.add_argument("checkpoint")
    sub.add_argument("hyp")
    sub.add_argument("manifest")
    sub.add_argument("--dataset", required=True, help='what was read, its noise included, as "GRID s1, babble -5 dB"')
    sub.set_defaults(run=_card)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `avsr` with `argv` (default: the process's own); 2 on bad input, after one line on stderr."""
    args = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s %(message)s")
    return exit_status(lambda: args.run(args))


if __name__ == "__main__":
    sys.exit(main())
