"""GRID's published layout to source manifests: DIR/s*/*.mpg and DIR/alignments/s*/*.align.

The split is `conf/split.tsv` (utterance, subset). A clip that it doesn't list goes by the rule that made it: the first
eight hex digits of sha1(utterance id) modulo 850; below 700 train, below 750 valid, else test. GRID says when each word
sounds; its phones, by the dictionary `conf/lexicon.txt`, are spread over the word.
"""

import argparse
import hashlib
import sys
from pathlib import Path

from avsr.data.alignment import read_grid_align, write_alignment
from avsr.data.manifest import write_manifest
from avsr.data.pronunciations import Pronunciations, read_pronunciations, spread_phones
from avsr.errors import InputError, exit_status
from avsr.files import write_jsonl

SUBSETS = ("train", "valid", "test")
SMOKE_CLIPS = {"train": 40, "valid": 8, "test": 8}


def subset_of(utt_id: str, listed: dict[str, str]) -> str:
    """The subset of an utterance: as listed, else by the hash rule above."""
    if utt_id in listed:
        return listed[utt_id]
    place = int(hashlib.sha1(utt_id.encode()).hexdigest()[:8], 16) % 850
    return "train" if place < 700 else "valid" if place < 750 else "test"


def read_split(path: Path) -> dict[str, str]:
    """{utt_id: subset} of a two-column tab-separated list; InputError on anything else."""
    listed = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fields = line.split("\t")
        if len(fields) != 2 or fields[1] not in SUBSETS:
            raise InputError(f"{path}:{number}: expected 'utt_id<TAB>train|valid|test', found {line!r}")
        listed[fields[0]] = fields[1]
    return listed


def collect(
    grid: Path, listed: dict[str, str], spoken: Pronunciations, out: Path
) -> tuple[dict[str, list[dict]], list[dict]]:
    """Rows of each subset and the clips that can't be used, with the reason; writes each row's alignment JSON."""
    videos = sorted(grid.glob("s*/*.mpg"))
    if not videos:
        raise InputError(f"{grid}: no s*/*.mpg; expected GRID's published layout (s1/bbaf2n.mpg and alignments/s1/…)")
    rows, dropped = {subset: [] for subset in SUBSETS}, []
    for video in videos:
        speaker = video.parent.name
        utt_id = f"{speaker}_{video.stem}"
        align = grid / "alignments" / speaker / f"{video.stem}.align"
        alignment = out / "alignment" / f"{utt_id}.json"
        try:
            words = read_grid_align(align)
            write_alignment(alignment, words, spread_phones(words, spoken))
        except InputError as error:
            dropped.append({"utt_id": utt_id, "reason": str(error)})
            continue
        rows[subset_of(utt_id, listed)].append(
            {
                "utt_id": utt_id,
                "speaker": speaker,
                "text": " ".join(word for _, _, word in words),
                "video": str(video.resolve()),
                "alignment": str(alignment),
                "duration_s": words[-1][1],
                "source": "filmed",
                "language": "en",
            }
        )
    return rows, dropped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--lexicon", type=Path, required=True)
    parser.add_argument("--preset", choices=("smoke", "default", "full"), default="default")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows, dropped = collect(args.grid, read_split(args.split), read_pronunciations(args.lexicon), args.out)
    for subset in SUBSETS:
        chosen = rows[subset][: SMOKE_CLIPS[subset]] if args.preset == "smoke" else rows[subset]
        write_manifest(args.out / f"{subset}.jsonl", chosen)
        print(f"{subset}: {len(chosen)} clips")
    write_jsonl(args.out / "dropped.jsonl", dropped)
    print(f"dropped: {len(dropped)} clips (reasons in {args.out / 'dropped.jsonl'})")


if __name__ == "__main__":
    sys.exit(exit_status(main))
