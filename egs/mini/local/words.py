"""The words of the embedded corpus's open sentences, one a line, those that only its test has included.

python local/words.py --out words.txt
"""

import argparse
from pathlib import Path

from avsr.files import write_text
from talking3d.corpus.sentences import open_vocabulary

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", type=Path, required=True)
args = parser.parse_args()
write_text(args.out, "".join(f"{word}\n" for word in sorted(set.union(*open_vocabulary()))))
print(args.out)
