"""Subtitles: words with times to cues, and cues to SubRip."""

import textwrap
from collections.abc import Sequence

from avsr.decode import Word

LINE_LETTERS, LINES = 42, 2  # of a cue, by the usual style guides
LONGEST_S = 7.0
SHORTEST_S = 1.0  # a cue stays this long, if the next one lets it
PAUSE_S = 0.8  # between two words; where they are further apart a new cue begins


def subrip(words: Sequence[Word]) -> str:
    """SubRip text of words in the order of their times; "" where there are none."""
    cues = _cues(words)
    blocks = []
    for number, cue in enumerate(cues, start=1):
        next_s = cues[number][0].start_s if number < len(cues) else float("inf")
        end_s = max(cue[-1].end_s, min(cue[0].start_s + SHORTEST_S, next_s))
        lines = _lines(cue)
        blocks.append("\n".join([str(number), f"{_clock(cue[0].start_s)} --> {_clock(end_s)}", *lines, ""]))
    return "\n".join(blocks)


def _cues(words: Sequence[Word]) -> list[list[Word]]:
    cues: list[list[Word]] = []
    for word in words:
        together = [*cues[-1], word] if cues else []
        if (
            together
            and word.start_s - together[-2].end_s <= PAUSE_S
            and word.end_s - together[0].start_s <= LONGEST_S
            and len(_lines(together)) <= LINES
        ):
            cues[-1] = together
        else:
            cues.append([word])
    return cues


def _lines(cue: Sequence[Word]) -> list[str]:
    return textwrap.wrap(" ".join(word.text for word in cue), LINE_LETTERS, break_long_words=False)


def _clock(time_s: float) -> str:
    seconds, milliseconds = divmod(round(time_s * 1000), 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d},{milliseconds:03d}"
