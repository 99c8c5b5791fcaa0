import pytest

from avsr.data.manifest import read_manifest
from avsr.errors import InputError
from avsr.files import write_jsonl
from benchmarks import visemes
from benchmarks.content import Part, Section, markdown_section
from benchmarks.viseme_section import viseme_part


@pytest.fixture
def scores(manifests):
    return {"protocol": {"manifest": str(manifests["reference"])}, "systems": {"A": {}, "V": {}, "AV": {}}}


def write_texts(folder, name, scores, **other):
    rows = read_manifest(scores["protocol"]["manifest"])
    texts = [{"utt_id": row["utt_id"], "text": other.get(row["utt_id"], row["text"])} for row in rows]
    write_jsonl(folder / name, texts)


def test_seeds_are_pooled_and_the_most_frequent_confusions_named(scores, tmp_path):
    write_texts(tmp_path, "A_clean/hyp.jsonl", scores)
    write_texts(tmp_path, "V_clean/hyp_0.jsonl", scores)
    write_texts(tmp_path, "V_clean/hyp_1.jsonl", scores, u1="pin")  # f a f as p i t: 3 of twice 16 visemes
    part = viseme_part(tmp_path, scores)
    text = markdown_section(Section("", [part]))
    assert "| A | 0.0 [0.0, 0.0] |  |" in text and "| V | 9.4 [0.0, " in text and "| AV |" not in text
    assert "| a → i 1 of 8, f → p 1 of 8, f → t 1 of 8 |" in text
    (table,) = (block for block in part.blocks if block.kind == "table")
    assert [row[1].best for row in table.rows] == [True, False]
    part.blocks[-1].draw(tmp_path / "v.png", {})
    assert (tmp_path / "v.png").stat().st_size > 5_000


def test_without_texts_or_pronunciations_there_is_no_table(scores, tmp_path, monkeypatch):
    assert viseme_part(tmp_path, scores) is None

    def missing():
        raise InputError("speech synthesis needs espeak-ng")

    monkeypatch.setattr(visemes, "Synthesizer", missing)
    write_texts(tmp_path, "A_clean/hyp.jsonl", scores, u1="green")
    part = viseme_part(tmp_path, scores)
    assert isinstance(part, Part) and [block.kind for block in part.blocks] == ["text"]
    assert "Not measured: no pronunciation of 'green'" in part.blocks[0].markdown
