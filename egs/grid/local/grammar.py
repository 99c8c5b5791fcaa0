"""A grammar of slots as a bigram model that searches can follow: each slot's words lead to the next slot's alone.

    python local/grammar.py conf/grammar.txt --out grammar.arpa

The grammar's file has a line for each slot, its words with blanks between; no word is in two slots. All sentences are
equally probable, all else has the least probability that an ARPA file can say.
"""

import argparse
import math
import sys
from collections import Counter
from pathlib import Path

from avsr.errors import InputError, exit_status
from avsr.lm import NgramModel

NEVER = -99 * math.log(10)


def grammar_model(slots: list[list[str]]) -> NgramModel:
    """The bigram model of a grammar. Raises InputError: no slots, an empty one, a word in two."""
    if not slots or not all(slots):
        raise InputError("a grammar needs slots, each with at least one word")
    twice = [word for word, times in Counter(word for words in slots for word in words).items() if times > 1]
    if twice:
        raise InputError(f"{twice[0]!r} is in the grammar twice: a bigram model could not tell the slots apart")
    start, end, unknown = NgramModel.START, NgramModel.END, NgramModel.UNKNOWN
    followers = {(): dict.fromkeys([start, *(word for words in slots for word in words), end, unknown], NEVER)}
    for here, following in zip([[start], *slots], [*slots, [end]], strict=True):
        for word in here:
            followers[word,] = dict.fromkeys(following, -math.log(len(following)))
    return NgramModel(2, followers, {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grammar", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        model = grammar_model([line.split() for line in args.grammar.read_text().splitlines()])
    except InputError as error:
        raise InputError(f"{args.grammar}: {error}") from error
    model.save(args.out)
    print(args.out)


if __name__ == "__main__":
    sys.exit(exit_status(main))
