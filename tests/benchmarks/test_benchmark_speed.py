"""The speed benchmarks: which there are, what the hour measures, what users get wrong."""

import json

import pytest
import torch

from avsr.data.text import train_tokenizer
from avsr.files import write_jsonl
from avsr.media.audio import write_wav
from avsr.media.timing import FPS
from avsr.models.recognizer import Recognizer, RecognizerConfig
from benchmarks.speed import avsr as decoding
from benchmarks.speed import generator, hour, paths, training
from benchmarks.speed.__main__ import benchmarks, main
from talking3d.face.motion import Motion
from talking3d.face.template import FaceTemplate


def test_each_module_is_a_benchmark():
    assert {"avsr", "generator", "hour", "paths", "render", "training"} <= set(benchmarks())
    for name, module in benchmarks().items():
        assert callable(module.measure) and callable(module.table) and f"benchmarks.speed {name}" in module.__doc__


def test_a_minute_fraction_of_the_hour(tmp_path, capsys):
    out = tmp_path / "hour.json"
    assert main(["hour", "--minutes", "0.05", "--nj", "1", "--look", "plain", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["frames"] == 75 and found["clips"] == 1 and found["processes"] == 1 and found["look"] == "plain"
    assert found["frames_per_s"] == pytest.approx(75 / found["wall_s"])
    assert found["x_real_time"] == pytest.approx(found["frames_per_s"] / FPS)
    assert 0.005 < found["megabytes"] < 1
    assert "75 frames in 1 clips" in capsys.readouterr().out


def test_the_hours_motion_is_like_speech(tmp_path):
    rows = hour.make_motion(tmp_path, 0.6)
    assert round(sum(row["duration_s"] for row in rows) * FPS) == 900
    assert all(4 <= row["duration_s"] <= 10 for row in rows[:-1])
    assert len({row["template"] for row in rows}) == len(rows) == len({row["utt_id"] for row in rows})
    for row in rows[:3]:
        face, motion = FaceTemplate.load(row["template"]), Motion.load(row["motion"])
        jaw = motion.coefficients[:, face.articulation_names.index("jaw_open")]
        opens = ((jaw[1:] > 0.2) & (jaw[:-1] <= 0.2)).sum()
        assert 1 < opens / row["duration_s"] < 7  # a second, as syllables do
        assert jaw[:3].max() < 0.1 > jaw[-2:].max()
        assert motion.n_frames == round(row["duration_s"] * FPS) == len(motion.head_pose)
    again = hour.make_motion(tmp_path / "again", 0.6)
    first, second = (Motion.load(made[1]["motion"]) for made in (rows, again))
    assert (first.coefficients == second.coefficients).all() and (first.head_pose == second.head_pose).all()


def test_no_minutes_and_no_such_benchmark(capsys):
    assert main(["hour", "--minutes", "0"]) == 2
    assert "error: --minutes must be above 0, got 0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["day"])
    assert "invalid choice: 'day'" in capsys.readouterr().err


def test_rates_as_a_table(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "measure", lambda: {"draw lip crops, 96 px": 1000.0, "read lip crops": 4000.0})
    assert main(["paths", "--json", str(tmp_path / "paths.json")]) == 0
    assert "| read lip crops | 4,000 | 160 | 4.00 |" in capsys.readouterr().out
    assert json.loads((tmp_path / "paths.json").read_text())["read lip crops"] == 4000


@pytest.fixture
def checkpoint_and_manifest(tmp_path) -> list[str]:
    """As options: a tiny recogniser of sound, and three utterances."""
    rows = []
    for index, seconds in enumerate((0.5, 0.3, 0.4)):
        write_wav(tmp_path / f"{index}.wav", generator.speech(seconds))
        rows.append({"utt_id": str(index), "audio": f"{index}.wav", "duration_s": seconds, "text": "a b"})
    write_jsonl(tmp_path / "manifest.jsonl", rows)
    tokenizer = train_tokenizer(["a b"], "word")
    torch.manual_seed(0)
    tiny = {"modalities": "a", "dim": 8, "layers": 1, "heads": 2, "ff_dim": 8, "kernel": 3, "decoder_ff_dim": 8}
    model = Recognizer(RecognizerConfig(vocab_size=len(tokenizer), **tiny))
    model.save_pretrained(tmp_path / "checkpoint", tokenizer)
    return ["--checkpoint", str(tmp_path / "checkpoint"), "--manifest", str(tmp_path / "manifest.jsonl")]


def test_ways_of_decoding_side_by_side(checkpoint_and_manifest, tmp_path, capsys):
    given, out = ["avsr", *checkpoint_and_manifest], tmp_path / "avsr.json"
    assert main([*given, "--batches", "1", "2", "--repeats", "1", "--beam_size", "4", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    rows = {(row["way"], row["batch"]): row for row in found["rows"]}
    searches = [(decoding.ESPNET, 1), ("beam search", 1), ("beam search", 2)]
    assert set(rows) == {*searches, ("greedy", 2), ("encoder", 2)}
    assert all(row["seconds"] > 0 for row in rows.values())
    assert [rows[way]["same"] for way in searches] == [1.0, 1.0, 1.0]
    assert found["utterances"] == 3 and found["speech_s"] == pytest.approx(1.2)
    ratio = rows[decoding.ESPNET, 1]["seconds"] / rows["beam search", 2]["seconds"]
    assert f"| {ratio:.1f} | 100.0% |" in capsys.readouterr().out
    assert main([*given, "--batches", "0"]) == 2
    assert "error: --utterances, --batches and --repeats must be above 0" in capsys.readouterr().err


def test_training_beside_espnets_model(checkpoint_and_manifest, tmp_path, capsys):
    given, out = ["training", *checkpoint_and_manifest], tmp_path / "training.json"
    assert main([*given, "--batches", "1", "3", "--repeats", "1", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    seconds = {(row["way"], row["batch"]): row["seconds"] for row in found["rows"]}
    assert set(seconds) == {(way, batch) for way in (training.OURS, training.ESPNET) for batch in (1, 3)}
    losses = [found["losses"][way]["ctc"] for way in (training.OURS, training.ESPNET)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and losses[0] > 0
    ratio = seconds[training.ESPNET, 3] / seconds[training.OURS, 3]
    assert f"| {training.OURS} | 3 | {3 / seconds[training.OURS, 3]:.1f} | {ratio:.2f} |" in capsys.readouterr().out
    assert main([*given, "--repeats", "0"]) == 2
    assert "error: --batches and --repeats must be above 0" in capsys.readouterr().err


def test_speech_to_motion_side_by_side(tmp_path, capsys, monkeypatch):
    ways = {"student": (generator.student, 0.0), "FaceFormer": (generator.faceformer, 0.0)}
    windowed = {"FaceFormer in windows": (generator.faceformer_in_windows, 0.5)}
    monkeypatch.setattr(generator, "WAYS", ways | windowed)  # each costs a process for each length
    out = tmp_path / "generator.json"
    assert main(["generator", "--seconds", "0.4", "1", "--repeats", "1", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert {(row["way"], row["speech_s"]) for row in found["rows"]} == {
        *((way, length) for way in ways for length in (0.4, 1.0)),
        ("FaceFormer in windows", 1.0),
    }
    assert all(row["processor_s"] > 0 for row in found["rows"])
    assert set(found["parameters"]) == set(found["memory_mb"]) == set(generator.WAYS)
    assert all(0 <= mb < 500 for grown in found["memory_mb"].values() for mb in grown.values())
    assert set(found["memory_mb"]["student"]) == {"0.4", "1"} and set(found["memory_mb"]["FaceFormer in windows"]) == {
        "1"
    }
    printed = capsys.readouterr().out
    seconds = {(row["way"], row["speech_s"]): row["processor_s"] for row in found["rows"]}
    ratio = seconds["FaceFormer", 1.0] / seconds["student", 1.0]
    assert f"| 1 s | student | {seconds['student', 1.0]:.3f} |" in printed and f" | {ratio:.1f} |" in printed


def test_the_published_loop_says_what_the_quick_one_says():
    waveform = torch.from_numpy(generator.speech(0.5))[None]
    slow, quick = generator.published_faceformer(), generator.faceformer()
    slow.head.weight.data.normal_(std=0.1)
    quick.load_state_dict(slow.state_dict())
    with torch.no_grad():
        answers = [model.coefficients(waveform, torch.tensor([12]), torch.tensor([0])) for model in (slow, quick)]
    assert answers[0].abs().max() > 0.1 and torch.allclose(*answers, atol=1e-5)


def test_streamed_it_hears_a_second_at_a_time(monkeypatch):
    student, given = generator.streamed_student(), []
    real = generator.MotionStream.feed
    monkeypatch.setattr(generator.MotionStream, "feed", lambda self, part: given.append(len(part)) or real(self, part))
    student.predict(generator.speech(2.5))
    assert given == [16_000, 16_000, 8_000]


def test_faceformer_is_whole_and_the_student_in_windows():
    whole, windowed = generator.faceformer(), generator.faceformer_in_windows()
    assert whole.config.window_s > 60 > windowed.config.window_s == generator.student().config.window_s
    assert whole.config.encoder == generator.student().config.encoder


def test_memory_is_what_a_prediction_adds(monkeypatch):
    class Hungry:
        def predict(self, waveform):
            return bytearray(200 * len(waveform))  # 3.2 MB a second

    monkeypatch.setitem(generator.WAYS, "hungry", (Hungry, 0.0))
    assert generator.memory_growth_mb("hungry", 30.0) == pytest.approx(91.6, rel=0.1)


def test_no_speech(capsys):
    assert main(["generator", "--seconds", "0"]) == 2
    assert "error: --seconds and --repeats must be above 0" in capsys.readouterr().err
    assert main(["generator", "--seconds", "4000"]) == 2
    assert "FaceFormer is measured without windows up to 3600" in capsys.readouterr().err
