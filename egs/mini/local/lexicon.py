"""The words of the embedded corpus's open sentences, one a line, those that only its test has included, and a
pronouncing dictionary of these and of all words that manifests have.

python local/lexicon.py MANIFEST ... --words words.txt --out lexicon.txt

A word is pronounced as the manifests' alignments have it; the speech engine says those that they lack.
"""

import argparse
from collections import Counter, defaultdict
from pathlib import Path

from avsr.data.alignment import read_alignment, words_as_phones
from avsr.data.manifest import read_manifest
from avsr.data.pronunciations import write_pronunciations
from avsr.files import write_text
from talking3d.corpus.sentences import open_vocabulary
from talking3d.corpus.tts import STRESS, Synthesizer

RAREST_SHARE = 0.1  # of a word's occurrences that a pronunciation needs, to be one of its own

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("manifests", nargs="+", metavar="MANIFEST")
parser.add_argument("--words", type=Path, required=True)
parser.add_argument("--out", type=Path, required=True)
args = parser.parse_args()

heard: dict[str, Counter] = defaultdict(Counter)
for path in args.manifests:
    for row in read_manifest(path, need=("alignment",), check_files=False):
        for word, phones in words_as_phones(read_alignment(row["alignment"])):
            heard[word][phones] += 1
pronunciations = {
    word: [phones for phones, times in counts.most_common() if phones and times >= RAREST_SHARE * counts.total()]
    for word, counts in heard.items()
}
words = sorted(set.union(*open_vocabulary()))
with Synthesizer() as engine:
    for word in words:
        if not pronunciations.get(word):
            said = engine.synthesize(word, language="en-us")
            pronunciations[word] = [tuple(phone.strip(STRESS) for _, _, phone in said.phones)]
write_text(args.words, "".join(f"{word}\n" for word in words))
write_pronunciations(args.out, pronunciations)
print(args.words, args.out)
