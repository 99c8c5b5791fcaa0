"""Which visemes recognisers confuse in clean sound, as a part of a results page."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from avsr.data.manifest import read_manifest
from avsr.errors import InputError
from avsr.score import NOTHING, Scores, read_texts
from avsr.significance import interval, pooled, word_tally
from benchmarks.columns import LOWER
from benchmarks.content import Cell, Part, Picture, Table, Text, best_marked
from benchmarks.plots import plot_confusions
from benchmarks.visemes import VisemeLexicon, viseme_score

N_SHOWN = 5


def viseme_part(folder: Path, scores: dict, lexicon: Sequence[str] = ()) -> Part | None:
    """Viseme error rates and confusions of every system's clean texts in `folder`; None where there are none.

    lexicon: manifests whose alignments tell how words are pronounced, besides the test's own. Where words lack a
    pronunciation, or the manifests are gone, the part says so instead.
    """
    found = {system: sorted((folder / f"{system}_clean").glob("hyp*.jsonl")) for system in scores["systems"]}
    found = {system: paths for system, paths in found.items() if paths}
    if not found:
        return None
    try:
        measured = _measured(found, scores["protocol"]["manifest"], lexicon)
    except InputError as error:
        return Part("Visemes", [Text(f"Not measured: {error}")])
    rates = []
    for seeds in measured.values():
        tally = sum(map(word_tally, seeds))
        low, high = interval(tally)
        rates.append((float(pooled(tally)), f"[{low:.1f}, {high:.1f}]"))
    cells = best_marked([Cell(f"{rate:.1f}", ends) for rate, ends in rates], [rate for rate, _ in rates], LOWER)
    pairs = {system: sum((one.pairs for one in seeds), Counter()) for system, seeds in measured.items()}
    rows = [[system, cell, _frequent(pairs[system])] for system, cell in zip(measured, cells, strict=True)]
    said = (
        "What of the errors in clean sound can be seen on lips: error rate over Amazon Polly's visemes, in %, with the "
        "95 % bootstrap interval over utterances; the most frequent confusions, of all times the text has the viseme."
    )
    picture = Picture(
        f"visemes_{folder.name}", "Visemes of the text, and what they were read as", partial(plot_confusions, pairs),
        wide=True,
    )  # fmt: skip
    return Part("Visemes", [Text(said), Table(["system", "VER", "most frequent confusions"], rows), picture])


def _measured(found: dict[str, list[Path]], manifest: str, lexicon: Sequence[str]) -> dict[str, list[Scores]]:
    """Viseme scores of each seed of each system."""
    rows = read_manifest(manifest, need=("text",), use=("alignment",))
    spoken = [row for path in lexicon for row in read_manifest(path, need=(), use=("alignment",))]
    spell = VisemeLexicon([*rows, *spoken])
    refs = {row["utt_id"]: row["text"] for row in rows}
    return {system: [viseme_score(refs, read_texts(path), spell) for path in paths] for system, paths in found.items()}


def _frequent(pairs: Counter) -> str:
    """The most frequent confusions, with how often of the times that the text has the viseme."""
    said = Counter()
    for (ref, _), times in pairs.items():
        said[ref] += times
    wrong = [(times, ref, hyp) for (ref, hyp), times in pairs.items() if ref not in (hyp, NOTHING)]
    worst = sorted(wrong, key=lambda one: (-one[0], *one[1:]))[:N_SHOWN]
    return ", ".join(f"{ref} → {hyp or 'nothing'} {times} of {said[ref]}" for times, ref, hyp in worst)
