"""avsr.data.alignment: files, GRID's form, and labels of frames against a plain loop."""

import numpy as np
import pytest

from avsr.data.alignment import (
    frame_labels,
    label_inventory,
    read_alignment,
    read_grid_align,
    token_frames,
    write_alignment,
)
from avsr.errors import InputError

WORDS = [(0.1, 0.5, "bin"), (0.5, 0.52, "at"), (0.9, 1.4, "blue")]


def test_round_trip_with_and_without_phones(tmp_path):
    write_alignment(tmp_path / "a.json", WORDS, phones=[(np.float32(0.25), np.float64(0.5), "b")])
    assert read_alignment(tmp_path / "a.json", duration_s=1.4) == {"words": WORDS, "phones": [(0.25, 0.5, "b")]}
    write_alignment(tmp_path / "b.json", WORDS)
    assert read_alignment(tmp_path / "b.json") == {"words": WORDS}


def test_an_end_within_a_frame_of_the_sounds_is_fine(tmp_path):
    write_alignment(tmp_path / "a.json", WORDS)
    read_alignment(tmp_path / "a.json", duration_s=1.365)
    with pytest.raises(InputError, match=r"words 3 \('blue'\) ends at 1.4 s, past the end of the sound at 1.35 s"):
        read_alignment(tmp_path / "a.json", duration_s=1.35)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", r"expected \{\"words\""),
        ('{"phones": []}', r"expected \{\"words\""),
        ('{"words": [], "syllables": []}', r"expected \{\"words\""),
        ('{"words": 3}', "words must be a list"),
        ('{"words": [[0, 1]]}', r"words 1: expected \[start_s, end_s, label\], found \[0, 1\]"),
        ('{"words": [[0, "1", "a"]]}', "words 1: expected"),
        ('{"words": [[0, NaN, "a"]]}', "words 1: expected"),
        ('{"words": [[0, 1, ""]]}', "words 1: expected"),
        ('{"words": [[1, 1, "a"]]}', r"words 1 \('a'\): needs 0 <= start < end, found 1.0 to 1.0"),
        ('{"words": [[-1, 1, "a"]]}', "needs 0 <= start < end"),
        ('{"words": [[0, 1, "a"], [0.9, 2, "b"]]}', r"words 2 \('b'\) begins at 0.9 s, before .* ends: 1.0"),
        ('{"words": [], "phones": [[2, 1, "a"]]}', "phones 1"),
    ],
)
def test_bad_files_are_named(tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(InputError, match=rf"bad\.json.*{message}"):
        read_alignment(path)


def test_missing_files(tmp_path):
    with pytest.raises(InputError, match="no such alignment"):
        read_alignment(tmp_path / "none.json")
    with pytest.raises(InputError, match="no such alignment"):
        read_grid_align(tmp_path / "none.align")


def test_frame_labels_are_those_of_a_loop_over_centres():
    rng = np.random.default_rng(0)
    edges = np.sort(rng.uniform(0, 4, 24)).reshape(-1, 2)
    intervals = [(start_s, end_s, f"w{i % 5}") for i, (start_s, end_s) in enumerate(edges)]
    inventory = {f"w{i}": i + 1 for i in range(5)}
    expected = np.zeros(90, dtype=np.int64)
    for t in range(90):
        for start_s, end_s, label in intervals:
            if start_s <= (t + 0.5) / 25 < end_s:
                expected[t] = inventory[label]
    assert expected.any()
    np.testing.assert_array_equal(frame_labels(intervals, 90, inventory), expected)


def test_labels_never_heard_in_training_are_ignored():
    labels = frame_labels([(0.0, 0.08, "new"), (0.08, 0.12, "bin")], 4, {"bin": 1})
    assert labels.tolist() == [-100, -100, 1, 0]


def test_a_words_tokens_may_be_said_within_it_and_the_slack():
    words = [(0.1, 0.2, "ab"), (0.5, 0.64, "c")]  # frames 2.5 to 5 and 12.5 to 16
    tokens, spans = np.array([4, 5, 1, 6]), [range(0, 2), range(3, 4)]
    frames = token_frames(words, tokens, spans, n_frames=20, slack=0)
    assert frames.tolist() == [[2, 5], [2, 5], [0, 20], [12, 16]]  # the blank between words anywhere
    frames = token_frames(words, tokens, spans, n_frames=20, slack=3)
    assert frames.tolist() == [[0, 8], [0, 8], [0, 20], [9, 19]]
    assert token_frames(words, tokens, spans, n_frames=17, slack=3)[3].tolist() == [9, 17]


def test_tokens_that_an_alignment_has_no_room_for_may_be_said_anywhere():
    whole = [[0, 20]] * 2
    spans = [range(0, 1), range(1, 2)]
    assert token_frames([(0.0, 0.2, "a")], np.array([4, 5]), spans, 20, 0).tolist() == whole  # a word too few
    words = [(0.0, 0.04, "a"), (0.04, 0.08, "a")]
    assert token_frames(words, np.array([4, 5]), spans, 20, 0).tolist() == [[0, 1], [1, 2]]
    assert token_frames(words, np.array([4, 4]), spans, 20, 0).tolist() == whole  # no frame for the blank between
    assert token_frames(words, np.array([4, 4]), spans, 20, 1).tolist() == [[0, 2], [0, 3]]
    assert token_frames(words[:1], np.array([4, 5]), [range(0, 2)], 20, 0).tolist() == whole


def test_inventory_is_sorted_from_one_over_rows_that_have_one(tmp_path):
    write_alignment(tmp_path / "a.json", WORDS, phones=[(0, 1, "b")])
    write_alignment(tmp_path / "b.json", [(0, 1, "again")])
    rows = [{"alignment": path, "duration_s": 3.0} for path in (tmp_path / "a.json", None, tmp_path / "b.json")]
    assert label_inventory(rows) == {"again": 1, "at": 2, "bin": 3, "blue": 4}
    assert label_inventory(rows, "phones") == {"b": 1}
    with pytest.raises(InputError, match="no utterance has an alignment of phones"):
        label_inventory(rows[1:], "phones")
    with pytest.raises(InputError, match="tier 'syllables'"):
        label_inventory(rows, "syllables")


def test_grid_alignment_of_a_real_clip(shared):
    words = read_grid_align(shared / "grid" / "alignments" / "s1" / "bbaf3s.align")
    assert [word for _, _, word in words] == ["bin", "blue", "at", "f", "three", "soon"]
    assert words[0][:2] == (0.71, 0.9)
    labels = frame_labels(words, 75, {word: i for i, (_, _, word) in enumerate(words, start=1)})
    assert labels[:17].tolist() == [0] * 17  # sil until 0.71 s
    assert labels[18] == 1 and labels[-1] == 0


def test_every_grid_alignment_can_be_read(shared):
    paths = list((shared / "grid" / "alignments" / "s1").glob("*.align"))
    assert all(len(read_grid_align(path)) == 6 for path in paths) and len(paths) > 100


def test_bad_grid_lines_are_named(tmp_path):
    path = tmp_path / "x.align"
    path.write_text("0 100 sil\n100 later bin\n")
    with pytest.raises(InputError, match=r"x\.align:2: expected 'start end word'"):
        read_grid_align(path)
