"""Parts of a corpus: OUT/train_PERCENT/manifest.jsonl of so many percent of a manifest's rows, each part in the next.

python local/share.py MANIFEST --percent 1 2 10 100 --out DIR
"""

import argparse
import hashlib
from pathlib import Path

from avsr.data.manifest import read_manifest, write_manifest

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("manifest", type=Path)
parser.add_argument("--percent", type=int, nargs="+", required=True)
parser.add_argument("--out", type=Path, required=True)
args = parser.parse_args()
# by hash, so that the parts don't depend on the rows' order
rows = sorted(read_manifest(args.manifest), key=lambda row: hashlib.sha256(row["utt_id"].encode()).digest())
for percent in args.percent:
    path = args.out / f"train_{percent}" / "manifest.jsonl"
    write_manifest(path, rows[: max(1, round(len(rows) * percent / 100))])
    print(path)
