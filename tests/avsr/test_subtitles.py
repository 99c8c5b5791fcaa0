"""SubRip subtitles of words with times."""

from avsr.decode import Word
from avsr.subtitles import LINE_LETTERS, LONGEST_S, subrip


def words(*timed: tuple[str, float, float]) -> list[Word]:
    return [Word(text, start_s, end_s, 1.0) for text, start_s, end_s in timed]


def test_a_pause_begins_a_new_cue_and_short_cues_stay():
    found = subrip(words(("set", 0.5, 0.7), ("red", 0.75, 1.0), ("now", 3661.0, 3661.004)))
    assert found == ("1\n00:00:00,500 --> 00:00:01,500\nset red\n\n2\n01:01:01,000 --> 01:01:02,000\nnow\n")


def test_a_short_cue_ends_where_the_next_begins():
    found = subrip(words(("yes", 0.0, 0.1), ("no", 0.95, 1.2)))
    assert "00:00:00,000 --> 00:00:00,950" in found and "00:00:00,950 --> 00:00:01,950" in found


def test_cues_hold_two_lines_and_seven_seconds():
    text = [(f"word{number:03d}", 0.3 * number, 0.3 * number + 0.2) for number in range(60)]
    cues = subrip(words(*text)).split("\n\n")
    read = []
    for cue in cues:
        _, times, *lines = cue.strip().split("\n")
        start_s, end_s = (sum(float(x) * f for x, f in zip(t.replace(",", ".").split(":"), (3600, 60, 1), strict=True))
                          for t in times.split(" --> "))  # fmt: skip
        assert end_s - start_s <= LONGEST_S and len(lines) <= 2 and max(map(len, lines)) <= LINE_LETTERS
        read += " ".join(lines).split()
    assert read == [word for word, _, _ in text] and len(cues) > 5
    slow = words(*[("w", 0.75 * number, 0.75 * number + 0.7) for number in range(20)])
    assert len(subrip(slow).split("\n\n")) == 3


def test_nothing_said_is_no_subtitles():
    assert subrip([]) == ""
