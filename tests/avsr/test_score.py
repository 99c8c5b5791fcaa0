"""Error rates against a textbook edit distance, and ESPnet's table."""

import random

import numpy as np
import pytest

from avsr.errors import InputError
from avsr.score import confusion_table, espnet_table, read_texts, score

WORDS = ["bin", "lay", "set", "blue", "green", "red", "at", "by", "in", "a", "b", "c", "now", "soon", "please"]


def random_system(seed: int, error: float, n: int = 60) -> tuple[dict[str, str], dict[str, str]]:
    rng = random.Random(seed)
    refs, hyps = {}, {}
    for index in range(n):
        words = [rng.choice(WORDS) for _ in range(rng.randint(3, 8))]
        heard = []
        for word in words:
            action = rng.random()
            if action < error / 3:
                continue
            heard.append(rng.choice(WORDS) if action < 2 * error / 3 else word)
            if action > 1 - error / 3:
                heard.append(rng.choice(WORDS))
        refs[f"utt{index:03d}"], hyps[f"utt{index:03d}"] = " ".join(words), " ".join(heard)
    return refs, hyps


def edit_distance(ref: list[str], hyp: list[str]) -> int:
    table = np.zeros((len(ref) + 1, len(hyp) + 1), int)
    table[:, 0], table[0, :] = range(len(ref) + 1), range(len(hyp) + 1)
    for i, r in enumerate(ref, 1):
        for j, h in enumerate(hyp, 1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (r != h))
    return int(table[-1, -1])


def test_rates_are_those_of_the_textbook_edit_distance():
    refs, hyps = random_system(0, 0.4)
    scores = score(refs, hyps)
    distances = [edit_distance(refs[u].split(), hyps[u].split()) for u in sorted(refs)]
    assert scores.word_errors.tolist() == distances
    assert scores.wer == pytest.approx(100 * sum(distances) / sum(len(text.split()) for text in refs.values()))
    letters = [edit_distance(list(refs[u]), list(hyps[u])) for u in refs]
    assert scores.cer == pytest.approx(100 * sum(letters) / sum(len(text) for text in refs.values()))
    assert scores.word.sentence_err == pytest.approx(100 * sum(refs[u] != hyps[u] for u in refs) / len(refs))


def test_columns_count_what_they_say():
    refs = {"u1": "set red at b", "u2": "now", "u3": "bin blue in c soon"}
    scores = score(refs, {"u1": "set white at", "u2": "now please", "u3": "bin blue in c soon"})
    word = scores.word
    assert (word.sentences, word.units, word.substitutions, word.deletions, word.insertions) == (3, 10, 1, 1, 1)
    assert (word.corr, word.sub, word.dele, word.ins, word.err) == (80, 10, 10, 10, 30)
    table = espnet_table({"test": scores})
    assert table.splitlines()[0] == "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|"
    assert table.splitlines()[2] == "|test|3|10|80.0|10.0|10.0|10.0|30.0|66.7|"
    assert "|test|3|33|" in espnet_table({"test": scores}, unit="char")
    assert scores.as_dict()["word"]["err"] == 30


def test_alignments_show_each_utterance_and_its_errors():
    lines = score({"u1": "set red", "u2": "now"}, {"u1": "set white", "u2": ""}).alignments.splitlines()
    assert (
        lines[0] == "u1" and lines[1].split() == ["REF:", "set", "red"] and lines[2].split() == ["HYP:", "set", "white"]
    )
    assert lines[3].split() == ["S"]
    assert "u2" in lines and "D" in lines[-1]


def test_confusions_are_the_errors_word_by_word():
    refs = {"u1": "set red at b", "u2": "now", "u3": "bin blue in c soon", "u4": "set red"}
    hyps = {"u1": "set white at", "u2": "now please", "u3": "bin green on c soon", "u4": "set white"}
    scores = score(refs, hyps)
    assert scores.confusions() == [
        ("red", "white", 2), ("", "please", 1), ("b", "", 1), ("blue", "green", 1), ("in", "on", 1)
    ]  # fmt: skip
    assert scores.pairs["set", "set"] == 2
    assert confusion_table(scores, 2).splitlines()[2:] == ["|red|white|2|", "|(nothing)|please|1|"]


def test_pairs_add_up_to_the_counts():
    scores = score(*random_system(3, 0.6))
    word = scores.word
    sums = {"sub": 0, "del": 0, "ins": 0, "right": 0}
    for (ref, hyp), times in scores.pairs.items():
        sums["right" if ref == hyp else "ins" if ref == "" else "del" if hyp == "" else "sub"] += times
    assert sums == {
        "sub": word.substitutions, "del": word.deletions, "ins": word.insertions,
        "right": word.units - word.substitutions - word.deletions,
    }  # fmt: skip


def test_normalisation_is_said_and_can_be_turned_off():
    refs, hyps = {"u": "Don't stop, NOW!"}, {"u": "don't stop now"}
    assert score(refs, hyps).wer == 0
    assert score(refs, hyps, "none").wer == 100
    said = [score(refs, hyps, name).as_dict() for name in ("lower", "none")]
    assert [(one["normalizer"], one["normalized"]) for one in said] == [("lower", True), ("none", False)]
    assert score({"u": "a  b"}, {"u": " a b "}, "none").cer == 0
    with pytest.raises(InputError, match="text normaliser 'whisper': expected one of lower, none"):
        score(refs, hyps, "whisper")


def test_an_empty_hypothesis_is_all_deletions():
    scores = score({"u": "set red"}, {"u": ""})
    assert scores.wer == 100 and scores.word.deletions == 2 and scores.cer == 100


def test_sets_that_cannot_be_scored_are_refused():
    with pytest.raises(InputError, match=r"1 without hypothesis \['u2'\], 1 without reference \['u3'\]"):
        score({"u1": "a", "u2": "b"}, {"u1": "a", "u3": "b"})
    with pytest.raises(InputError, match="no reference"):
        score({}, {})
    with pytest.raises(InputError, match=r"u1: the reference '\.\.\.' has no words"):
        score({"u1": "..."}, {"u1": "a"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"utt_id": "a", "text": "x"}\n{', "hyp.jsonl: expected a JSON object with utt_id and text"),
        ('{"utt_id": "a"}', "hyp.jsonl: expected a JSON object with utt_id and text on every line .KeyError"),
        ("[1]", "expected a JSON object"),
        ('{"utt_id": "a", "text": null}', "expected a JSON object with utt_id and text"),
        ('{"utt_id": "a", "text": "x"}\n{"utt_id": "a", "text": "y"}', "hyp.jsonl: 'a' has more than one hypothesis"),
    ],
)
def test_files_of_hypotheses_that_are_none(tmp_path, content, message):
    (tmp_path / "hyp.jsonl").write_text(content)
    with pytest.raises(InputError, match=message):
        read_texts(tmp_path / "hyp.jsonl")
    with pytest.raises(InputError, match="absent.jsonl: no such file of hypotheses"):
        read_texts(tmp_path / "absent.jsonl")
