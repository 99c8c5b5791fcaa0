"""Files to text: a real clip on the road that training takes, faces that are not there, long recordings, folders."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from avsr import cli
from avsr.data.manifest import read_manifest
from avsr.data.prepare import prepare
from avsr.data.text import train_tokenizer
from avsr.decode import DecodeConfig, Hypothesis, Word, decode_manifest
from avsr.errors import InputError
from avsr.media import landmarks
from avsr.media.audio import read_audio, write_wav
from avsr.media.landmarks import Landmarks, NoFaceError
from avsr.media.video import read_frames, write_video
from avsr.models.recognizer import Recognizer, RecognizerConfig
from avsr.transcribe import (
    Transcriber,
    cut_at_pauses,
    join_nbest,
    media_files,
    spans_without,
)

TEXT = "bin blue at f two now"
GREEDY = DecodeConfig(method="greedy")


def small_recogniser(folder, **changes):
    tokenizer = train_tokenizer([TEXT], "word")
    torch.manual_seed(0)
    small = {"vocab_size": len(tokenizer), "dim": 32, "layers": 1, "heads": 2, "ff_dim": 48, "kernel": 7}
    Recognizer(RecognizerConfig(**small | changes)).save_pretrained(folder, tokenizer, {})
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small recogniser with random weights, in the format that training leaves."""
    return small_recogniser(tmp_path_factory.mktemp("recognizer") / "checkpoint")


@pytest.fixture(scope="module")
def transcriber(checkpoint):
    return Transcriber.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def clip(shared):
    return sorted((shared / "grid" / "s1").glob("*.mpg"))[0]


@pytest.fixture(scope="module")
def faceless(tmp_path_factory):
    """A video of gray pictures with a hum."""
    path = tmp_path_factory.mktemp("faceless") / "wall.mp4"
    hum = 0.1 * np.sin(2 * np.pi * 200 * np.arange(16000) / 16000)
    write_video(path, np.full((25, 64, 64, 3), 128, np.uint8), hum)
    return path


def test_a_clip_is_heard_and_seen_as_a_prepared_utterance_is(checkpoint, transcriber, clip, tmp_path):
    prepare([{"utt_id": "clip", "speaker": "s1", "text": TEXT, "video": str(clip)}], tmp_path / "prepared")
    rows = read_manifest(tmp_path / "prepared" / "manifest.jsonl")
    model = Recognizer.from_pretrained(checkpoint)
    # sound is the same; prepared lips went through a lossy file, so that scores differ by a trifle
    for config, alike in (
        (DecodeConfig(method="beam", beam_size=3, modality="a"), 1e-4),
        (DecodeConfig(method="greedy"), 0.02),
    ):
        direct, prepared = transcriber(clip, config), decode_manifest(model, rows, config)["clip"]
        assert direct.score == pytest.approx(prepared.score, rel=alike)
        if config.modality == "a":
            assert direct.text == prepared.text
    assert (direct.face_share, direct.no_face, direct.warnings) == (1.0, [], [])


def test_transcribe_prints_the_text_and_names_its_recogniser(checkpoint, transcriber, clip, capsys):
    assert cli.main(["transcribe", str(clip), "--checkpoint", str(checkpoint), "--method", "greedy"]) == 0
    printed = capsys.readouterr()
    assert f"recogniser: {checkpoint}" in printed.err
    assert printed.out == transcriber(clip, GREEDY).text + "\n"


def test_grids_recogniser_understands_a_clip_of_grid(clip):
    folder = cli.REPOSITORY / cli.DEFAULT_CHECKPOINTS[0]
    if not folder.is_dir():
        pytest.skip("egs/grid/run.sh has trained no recogniser in this checkout")
    words = {"b": "bin", "l": "lay", "p": "place", "s": "set", "r": "red", "g": "green", "w": "white"}
    transcript = Transcriber.from_pretrained(folder)(clip)
    said = transcript.text.split()
    assert said[0] == words[clip.stem[0]] and said[3] == clip.stem[3] and len(said) == 6


def test_a_sound_file_is_heard_only(transcriber, shared):
    path = shared / "speech" / "utterances" / "spk1_snt1.wav"
    heard = transcriber(path, GREEDY)
    assert heard.text == transcriber.transcribe(read_audio(path), None, GREEDY).text
    assert (heard.utt_id, heard.face_share, heard.warnings) == ("spk1_snt1", None, [])
    with pytest.raises(InputError, match="neither sound nor lips"):
        transcriber(path, dataclasses.replace(GREEDY, modality="v"))


def test_without_a_face_the_sound_is_read_alone(transcriber, faceless, caplog):
    found = transcriber(faceless, GREEDY)
    assert found.score == transcriber.transcribe(read_audio(faceless), None, GREEDY).score
    assert (found.face_share, found.no_face) == (0.0, [(0.0, pytest.approx(1.0, abs=0.05))])
    assert found.warnings == ["no face found; transcribed from the sound alone"]
    assert "wall.mp4: no face found; transcribed from the sound alone" in caplog.text


def test_a_lip_reader_needs_a_face(faceless, tmp_path):
    reader = Transcriber.from_pretrained(small_recogniser(tmp_path / "reader", modalities="v"))
    with pytest.raises(NoFaceError, match="wall.mp4: no face found in any of 25 frames"):
        reader(faceless)


def test_a_face_that_is_lost_is_reported_and_its_piece_heard_only(transcriber, clip, tmp_path, monkeypatch, caplog):
    seen = landmarks.detect_landmarks(read_frames(clip, gray=True))
    path = tmp_path / "leaves.mp4"
    write_video(path, np.concatenate([read_frames(clip)] * 2), np.tile(read_audio(clip), 2)[: 150 * 640])
    lost = np.ones(150, bool)
    lost[80:] = False
    points = np.tile(seen.points, (2, 1, 1))
    monkeypatch.setattr("avsr.transcribe.detect_landmarks", lambda *_, **__: Landmarks(points, lost, "dlib"))
    short = Transcriber(transcriber.model, max_piece_s=3.5)
    found = short(path, GREEDY)
    assert found.face_share == pytest.approx(80 / 150) and found.no_face == [(3.2, 6.0)]
    assert found.warnings == ["no face in 47% of the frames, 3.20 to 6.00 s"]
    assert "leaves.mp4: no face in 47% of the frames" in caplog.text
    seen_only = short(path, dataclasses.replace(GREEDY, modality="v"))
    assert any(warning.startswith("neither heard nor seen, and left out") for warning in seen_only.warnings)
    lost[:] = np.arange(150) % 10 == 0
    with pytest.raises(InputError, match="leaves.mp4: a face in too few frames, nothing can be read"):
        short(path, dataclasses.replace(GREEDY, modality="v"))


def test_the_longer_stream_is_cut_and_that_is_said(transcriber, clip, monkeypatch):
    seen = landmarks.detect_landmarks(read_frames(clip, gray=True))
    shorter = Landmarks(seen.points[:50], seen.found[:50], seen.detector)
    monkeypatch.setattr("avsr.transcribe.detect_landmarks", lambda *_, **__: shorter)
    (warning,) = transcriber(clip, GREEDY).warnings
    assert warning.startswith("the sound is ") and warning.endswith(" s longer; cut to the shorter")


@pytest.mark.parametrize(("longest_s", "max_piece_s", "frames"), [
    (None, None, 750), (3.6, None, 90), (100.0, None, 750), (0.5, None, 25), (3.6, 10.0, 250)
])  # fmt: skip
def test_pieces_are_no_longer_than_what_was_trained_on(transcriber, longest_s, max_piece_s, frames, monkeypatch):
    monkeypatch.setattr(transcriber.model.config, "longest_s", longest_s)
    assert Transcriber(transcriber.model, max_piece_s).max_frames == frames


def test_long_recordings_are_cut_where_it_is_calm():
    level = np.ones(1000)
    for middle in (150, 330, 700):
        level[middle - 6 : middle + 6] = 0.0
    spans = cut_at_pauses(level, 250)
    assert [start for start, _ in spans][1:3] == [pytest.approx(150, abs=5), pytest.approx(330, abs=5)]
    assert spans[0][0] == 0 and spans[-1][1] == 1000
    assert all(stop == start for (_, stop), (start, _) in zip(spans[:-1], spans[1:], strict=True))
    assert all(0 < stop - start <= 250 for start, stop in spans)
    assert cut_at_pauses(level[:250], 250) == [(0, 250)]
    assert all(stop - start <= 25 for start, stop in cut_at_pauses(np.zeros(333), 25))


def test_times_of_a_long_recording_are_of_the_whole_file(transcriber, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    waveform = 0.1 * rng.standard_normal(10 * 16000)
    for second in (3, 6):
        waveform[second * 16000 : second * 16000 + 8000] *= 0.001
    write_wav(tmp_path / "long.wav", waveform)
    heard = []

    def transcribe(self, sound, lips, config, utt_id):
        heard.append(len(sound) / 16000)
        return Hypothesis(utt_id, "so", -1.0, [Word("so", 0.1, 0.2, 0.5)], [("so", -1.0), ("no", -2.0)])

    monkeypatch.setattr(Transcriber, "transcribe", transcribe)
    found = Transcriber(transcriber.model, max_piece_s=4.0)(tmp_path / "long.wav", DecodeConfig(n_best=2))
    assert sum(heard) == 10.0 and max(heard) <= 4.0 and len(heard) >= 3
    assert found.text == " ".join(["so"] * len(heard)) and found.score == -len(heard)
    begins = np.cumsum([0, *heard[:-1]])
    assert [word.start_s for word in found.words] == pytest.approx(list(begins + 0.1))
    assert 3.0 < begins[1] < 3.5 and 6.0 < begins[2] < 6.5
    assert len(found.nbest) == 2 and found.nbest[1][1] == found.score - 1


def test_a_silent_piece_is_left_out_and_said(transcriber, tmp_path):
    waveform = 0.1 * np.random.default_rng(0).standard_normal(8 * 16000)
    waveform[3 * 16000 :] = 0.0
    write_wav(tmp_path / "ends.wav", waveform)
    found = Transcriber(transcriber.model, max_piece_s=3.5)(tmp_path / "ends.wav", GREEDY)
    assert len(found.warnings) == 1 and "neither heard nor seen" in found.warnings[0]
    write_wav(tmp_path / "silent.wav", np.zeros(16000))
    with pytest.raises(InputError, match="silent.wav: the sound is silent"):
        transcriber(tmp_path / "silent.wav")


def test_the_best_of_a_recording_are_sums_of_its_pieces_best():
    pieces = [[("a", -1.0), ("b", -1.5)], [("", -0.5)], [("c", -2.0), ("d", -2.1), ("e", -9.0)]]
    every = sorted(
        ((f"{one} {two}", x - 0.5 + y) for one, x in pieces[0] for two, y in pieces[2]), key=lambda pair: -pair[1]
    )
    for n_best in (1, 2, 3):
        found = join_nbest([piece[:n_best] for piece in pieces], n_best)
        assert [text for text, _ in found] == [text for text, _ in every[:n_best]]
        assert [score for _, score in found] == pytest.approx([score for _, score in every[:n_best]])


def test_spans_without_a_face_are_those_of_a_loop():
    found = np.array([0] * 6 + [1] * 4 + [0] * 4 + [1] + [0] * 5, bool)
    assert spans_without(found) == [(0.0, 0.24), (0.6, 0.8)]
    assert spans_without(np.ones(9, bool)) == []


@pytest.fixture
def folder(tmp_path):
    """Two readable recordings, one file that is none, and one that is not asked for."""
    rng = np.random.default_rng(0)
    write_wav(tmp_path / "in" / "b.wav", 0.1 * rng.standard_normal(16000))
    write_wav(tmp_path / "in" / "deep" / "c.WAV", 0.1 * rng.standard_normal(12000))
    (tmp_path / "in" / "a.mp3").write_bytes(b"no music")
    (tmp_path / "in" / "notes.txt").write_text("notes")
    return tmp_path / "in"


def test_a_folder_is_transcribed_on_past_a_file_that_fails(checkpoint, folder, capsys):
    assert [path.name for path in media_files(folder)] == ["a.mp3", "b.wav", "c.WAV"]
    options = ["--checkpoint", str(checkpoint), "--method", "greedy"]
    assert cli.main(["transcribe", str(folder), *options]) == 2
    printed = capsys.readouterr()
    assert [line.split("\t")[0] for line in printed.out.splitlines()] == [
        str(folder / "b.wav"), str(folder / "deep" / "c.WAV")
    ]  # fmt: skip
    assert "a.mp3: not a readable" in printed.err and "1 of 3 files could not be transcribed" in printed.err
    (folder / "a.mp3").unlink()
    assert cli.main(["transcribe", str(folder), *options, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file"] for line in lines] == [str(folder / "b.wav"), str(folder / "deep" / "c.WAV")]
    assert set(lines[0]) == {"file", "text", "score", "words", "nbest", "face_share", "no_face", "warnings"}
    assert lines[0]["nbest"] == [[lines[0]["text"], lines[0]["score"]]]


def test_transcripts_are_written_beside_one_another(checkpoint, folder, tmp_path, monkeypatch, capsys):
    (folder / "a.mp3").unlink()
    words, best = [Word("set", 0.1, 0.2, 0.9), Word("red", 0.3, 0.5, 0.9)], [("set red", -1.0), ("set bed", -2.5)]
    timed = Hypothesis("", "set red", -1.0, words, best)
    monkeypatch.setattr(Transcriber, "transcribe", lambda *_: timed)
    options = ["transcribe", str(folder), "--checkpoint", str(checkpoint), "--srt"]
    assert cli.main(options) == 2
    assert "give --out FOLDER" in capsys.readouterr().err
    assert cli.main([*options, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "deep" / "c.srt").read_text() == "1\n00:00:00,100 --> 00:00:01,100\nset red\n"
    assert (tmp_path / "out" / "b.srt").is_file()
    write_wav(folder / "b.flac.wav", np.ones(1000))
    (folder / "b.flac.wav").rename(folder / "b.ogg")
    assert cli.main([*options, "--out", str(tmp_path / "out")]) == 2
    assert "would both be written to" in capsys.readouterr().err
    one = ["transcribe", str(folder / "b.wav"), "--checkpoint", str(checkpoint)]
    assert cli.main([*one, "--n_best", "2"]) == 0
    assert capsys.readouterr().out == "-1.00\tset red\n-2.50\tset bed\n"
    monkeypatch.setattr(Transcriber, "transcribe", lambda *_: dataclasses.replace(timed, words=[]))
    assert cli.main([*one, "--srt"]) == 2
    assert "gives no times of words, which subtitles need" in capsys.readouterr().err


def test_what_cannot_be_done_is_said(transcriber, checkpoint, folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no media files below it"):
        media_files(tmp_path / "empty")
    with pytest.raises(InputError, match="max_piece_s must be 1 second or more"):
        Transcriber(transcriber.model, max_piece_s=0.0)
    with pytest.raises(InputError, match="absent.wav: no such file"):
        transcriber(tmp_path / "absent.wav")
