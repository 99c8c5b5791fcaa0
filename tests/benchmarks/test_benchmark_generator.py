"""What is measured of an utterance, what is kept of it, and scores.json."""

import json

import numpy as np
import pytest
from filmed import film

from avsr.data.manifest import read_manifest, write_manifest
from avsr.errors import InputError
from avsr.media.audio import read_audio
from avsr.significance import pooled
from benchmarks import measures
from benchmarks.content import Picture, markdown_section
from benchmarks.generator import by_name, evaluate
from benchmarks.generator_section import generator_section
from benchmarks.measures import Bench, correlation
from talking3d.face.motion import Motion
from talking3d.face.template import FaceTemplate
from talking3d.metrics import closure_rate, fdd, ldtw_mm, lip_intensity_mm, lve, lve_mm, mtm_ms, mve_mm
from talking3d.models.syncnet3d import SyncNet3D
from talking3d.runtime import Runtime
from talking3d.sync import mean_scores, sync_score


def test_correlation_ignores_length_and_stillness():
    t = np.linspace(0, 6, 50)
    assert correlation(np.sin(t), 3 * np.sin(t[:40]) + 1) == pytest.approx(1)
    assert correlation(np.zeros(50), np.sin(t)) is None
    constant = np.full(50, 41.237, np.float32)
    assert constant.std() > 1e-6 and correlation(constant, np.sin(t)) is None


def test_tallies_pool_as_the_metrics_pool(manifests, tmp_path):
    tallies = Bench(manifests["reference"], tmp_path / "out", {}).measure("far", manifests["far"])
    found = {key: pooled(tally) for key, tally in tallies.items()}
    pred, true = (sorted(read_manifest(manifests[n]), key=lambda row: row["utt_id"]) for n in ("far", "reference"))
    face = FaceTemplate.load(true[0]["template"])
    pairs = [
        tuple(Motion.load(row["motion"]).offsets_for(face) for row in rows) for rows in zip(pred, true, strict=True)
    ]
    lips, upper = face.region("lips"), face.region("upper_face")
    mouths = [(measures.mouth_of(p), measures.mouth_of(t)) for p, t in zip(pred, true, strict=True)]
    gaps = [(p.opening, t.opening) for p, t in mouths]
    sound = [np.sqrt(np.mean(np.square(read_audio(row["audio"]), dtype=float))) for row in true]
    lively = [lip_intensity_mm(motion, lips) for motion, _ in pairs]
    phones = [measures.read_alignment(row["alignment"])["phones"] for row in true]
    expected = {
        "lve_mm": lve_mm(pairs, lips),
        "lve_m2": lve(pairs, lips),
        "mve_mm": mve_mm(pairs),
        "ldtw_mm": ldtw_mm(pairs, lips),
        "fdd": fdd(pairs, upper)[0],
        "fdd_abs": fdd(pairs, upper)[1],
        "mtm_ms": mtm_ms(gaps)[0],
        "slcc": np.corrcoef(sound, lively)[0, 1],
        "lip_correlation": np.mean([correlation(*gap) for gap in gaps]),
        "lower_correlation": np.mean([correlation(p.lower, t.lower) for p, t in mouths]),
        "width_correlation": np.mean([correlation(p.width, t.width) for p, t in mouths]),
        "closure_rate": closure_rate(zip([gap for gap, _ in gaps], phones, strict=True)),
    }
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-6), key


def test_the_judge_tells_how_distance_grows_with_shift(manifests, judge, tmp_path):
    bench = Bench(manifests["reference"], tmp_path / "out", {}, judge=str(judge))
    scores = evaluate(bench, {"far": str(manifests["far"])})
    model = SyncNet3D.from_pretrained(judge)
    judged = []
    for row in read_manifest(manifests["far"]):
        offsets = Motion.load(row["motion"]).offsets_for(FaceTemplate.load(row["template"]))
        judged.append(sync_score(model, read_audio(row["audio"]), offsets))
    far = scores["motions"]["far"]
    assert [at["shift_ms"] for at in far["shifts"]] == [-160, -120, -80, -40, 0, 40, 80, 120, 160]
    expected = np.mean([score.distances for score in judged], axis=0)
    assert [at["distance"] for at in far["shifts"]] == pytest.approx(expected.tolist(), rel=1e-6)
    assert all(at["low"] <= at["distance"] <= at["high"] for at in far["shifts"])
    assert far["lse_d"] == pytest.approx(mean_scores(judged)[0]) and far["lse_d"] <= expected.min()
    assert not any("distance" in key for key in far["intervals"])  # a leaderboard's figures, and no more
    pictures = [block.name for block in generator_section("test", scores).blocks if isinstance(block, Picture)]
    assert pictures == ["shifts_test"]
    unjudged = evaluate(Bench(manifests["reference"], tmp_path / "out", {}), {"far": str(manifests["far"])})
    assert unjudged["motions"]["far"]["shifts"] == []
    assert not any(isinstance(block, Picture) for block in generator_section("test", unjudged).blocks)


def test_lips_without_motion_are_read_not_measured(manifests):
    row = read_manifest(manifests["reference"])[0]
    assert measures.measure_utterance(row, row | {"motion": None, "landmarks": None}) == {}


def test_motion_is_held_against_the_film_too(manifests, tmp_path):
    rows = []
    for row in read_manifest(manifests["reference"]):
        face, motion = FaceTemplate.load(row["template"]), Motion.load(row["motion"])
        landmarks = film(face, motion.coefficients)
        landmarks.points[:3] = 0
        landmarks.found[:3] = False  # frames that nobody may be held against
        landmarks.save(tmp_path / f"{row['utt_id']}.marks.npz")
        rows.append({**row, "landmarks": str(tmp_path / f"{row['utt_id']}.marks.npz")})
    write_manifest(tmp_path / "filmed.jsonl", rows)
    bench = Bench(tmp_path / "filmed.jsonl", tmp_path / "out", {})
    scores = evaluate(bench, {"near": manifests["near"], "far": manifests["far"]})
    motions = scores["motions"]
    for part in ("lower", "width"):
        assert motions["reference"][f"{part}_correlation"] == pytest.approx(1)
        true, near, far = (motions[name][f"filmed_{part}_correlation"] for name in ("reference", "near", "far"))
        assert true > 0.97 and true > near > far
    assert "| lower lip r, film | width r, film |" in markdown_section(generator_section("test", scores))
    assert "against the filmed landmarks" not in scores["protocol"]["geometry"]
    assert "those of the filmed landmarks" in scores["protocol"]["geometry"]


def test_scores_of_each_motion_and_their_table(manifests, reader, tmp_path):
    bench = Bench(manifests["reference"], tmp_path / "out", {"V": "exp/reader/checkpoint"})
    scores = evaluate(bench, {"near": manifests["near"], "far": manifests["far"]})
    json.dumps(scores)
    motions = scores["motions"]
    assert motions["reference"]["lve_mm"] == 0 < motions["near"]["lve_mm"] < motions["far"]["lve_mm"]
    # of 6 words: "at" missed twice and "five" once
    assert motions["near"]["readback"]["V"]["wer"] == pytest.approx(100 * 3 / 6)
    # of 8 + 3 + 5 visemes, "pin five at" as "pin" misses 5; "five" as "pin" has 3 wrong (f a f, p i t), "bin at" 2
    assert motions["far"]["readback"]["V"]["ver"] == pytest.approx(100 * (5 + 3 + 2) / 16)
    assert motions["far"]["readback"]["V"]["wer"] == pytest.approx(100 * (2 + 1 + 2) / 6)
    table = markdown_section(generator_section("test", scores))
    assert "| motion | LVE mm | LVE m² |" in table and "| WER read by V | VER read by V |" in table
    assert f"{motions['near']['lve_mm']:.2f}" in table and "- reader V: `reader`" in table
    assert "LSE" not in table and "540 lip vertices" in table


def test_runtime_is_pooled_by_the_speech_that_was_timed(manifests, tmp_path):
    Runtime("an abacus, 1 thread", {"u0": 0.6, "u2": 0.9}).save(tmp_path / "near")
    bench = Bench(manifests["reference"], tmp_path / "out", {})
    scores = evaluate(bench, {name: manifests[name] for name in ("near", "far")})
    assert scores["motions"]["near"]["rtf"] == pytest.approx(1.5 / (75 / 25))  # 30 and 45 frames were timed
    assert "rtf" not in scores["motions"]["far"]
    assert "(near: an abacus, 1 thread)" in scores["protocol"]["geometry"]
    assert "| RTF |" in markdown_section(generator_section("test", scores))


def test_what_is_kept_is_used_until_a_file_changes(manifests, reader, tmp_path, monkeypatch):
    measured = []
    real = measures.measure_utterance
    monkeypatch.setattr(measures, "measure_utterance", lambda *rows: measured.append(rows[0]["utt_id"]) or real(*rows))

    def measure(**options):
        measured.clear(), reader.clear()
        bench = Bench(manifests["reference"], tmp_path / "out", {"V": "exp/reader/checkpoint"}, **options)
        tallies = bench.measure("near", manifests["near"])
        return {key: pooled(tally) for key, tally in tallies.items()}, len(measured), len(reader)

    first, *work = measure()
    assert work == [3, 1]
    assert measure() == (first, 0, 0)
    assert measure(beam_size=2)[1:] == (0, 1)  # only what it changes
    (row, *_) = read_manifest(manifests["near"])
    moved = Motion.load(row["motion"])
    Motion.of_template(FaceTemplate.load(row["template"]), 25, coefficients=0.5 * moved.coefficients).save(
        row["motion"]
    )
    second, *work = measure(beam_size=2)
    assert work == [3, 0] and second["lve_mm"] != first["lve_mm"]
    (tmp_path / "near" / f"{row['utt_id']}.mp4").write_bytes(b"other lips")
    assert measure(beam_size=2)[1:] == (0, 1)
    # interrupted between the text and the note of what it was read from: read again
    (tmp_path / "out" / "read_near_by_V" / "hyp.inputs.json").unlink()
    assert measure(beam_size=2)[1:] == (0, 1)


def test_a_checkpoint_that_changes_is_asked_again(manifests, reader, tmp_path):
    checkpoint = tmp_path / "reader" / "checkpoint"
    checkpoint.mkdir(parents=True)
    for weights in ("one", "two", "two"):
        (checkpoint / "model.safetensors").write_text(weights)
        Bench(manifests["reference"], tmp_path / "out", {"V": str(checkpoint)}).measure("near", manifests["near"])
    assert len(reader) == 2


def test_what_users_get_wrong(manifests, tmp_path):
    write_manifest(tmp_path / "short.jsonl", read_manifest(manifests["near"])[1:])
    with pytest.raises(InputError, match=r"motion 'near' lacks 1 utterances of .*reference.jsonl: \['u2'\]"):
        Bench(manifests["reference"], tmp_path / "out", {}).measure("near", tmp_path / "short.jsonl")
    with pytest.raises(InputError, match="--motion near: give each a name of its own"):
        by_name("--motion", [("near", "a"), ("near", "b")])
    with pytest.raises(InputError, match="--motion reference: give each a name of its own, other than 'reference'"):
        by_name("--motion", [("reference", "a")])
