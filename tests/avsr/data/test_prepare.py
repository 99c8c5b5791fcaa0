"""From videos to a corpus: real clips, whole against resumed, processes against one, each reason for being dropped."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from avsr.data import prepare as module
from avsr.data.manifest import read_manifest
from avsr.data.prepare import prepare, rows_from_folder
from avsr.errors import InputError
from avsr.files import read_jsonl
from avsr.media.audio import read_audio, write_wav
from avsr.media.landmarks import Landmarks
from avsr.media.lips import SIZE
from avsr.media.timing import frames_of
from avsr.media.video import read_lips, write_video

N_FRAMES = 20


def _noise(n_samples: int = 640 * N_FRAMES) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, n_samples).clip(-1, 1).astype(np.float32)


def _row(video: Path, **fields) -> dict:
    return {"utt_id": video.stem, "speaker": "s1", "text": "bin blue", "video": str(video), **fields}


@pytest.fixture
def tracked(monkeypatch) -> list:
    """A detector that finds a face wherever a picture is bright, in place of dlib; lists its calls."""
    calls = []

    def detect(frames, detector, where, model):
        pictures = list(frames)
        calls.append(len(pictures))
        found = np.array([picture.mean() > 60 for picture in pictures])
        if not found.any():
            raise InputError(f"{where}: no face found in any of {len(pictures)} frames")
        points = np.zeros((len(pictures), 68, 2), np.float32)
        points[:, :, 0], points[:, :, 1] = np.linspace(30, 34, 68), 20
        points[:, 36:42, 0], points[:, 42:48, 0], points[:, 36:48, 1] = 25, 39, 10
        points[:, 48, 0], points[:, 54, 0] = 26, 38
        return Landmarks(points, found, "bright")

    monkeypatch.setattr(module, "detect_landmarks", detect)
    return calls


def _film(path: Path, n_frames: int = N_FRAMES, sound: np.ndarray | None = None, dark: int = 0) -> Path:
    frames = np.full((n_frames, 64, 64, 3), 120, np.uint8)
    frames[n_frames - dark :] = 0
    write_video(path, frames, _noise() if sound is None else sound)
    return path


def test_manifest_and_files(tmp_path, tracked):
    films = [_film(tmp_path / f"{name}.mp4") for name in ("b", "a")]
    manifest = prepare([_row(film) for film in films], tmp_path / "out")
    rows = read_manifest(manifest, need=("audio", "video", "lips", "landmarks", "text"))
    assert [row["utt_id"] for row in rows] == ["b", "a"]
    for row in rows:
        waveform, lips = read_audio(row["audio"]), read_lips(row["lips"])
        assert lips.shape == (N_FRAMES, SIZE, SIZE) and frames_of(len(waveform)) == N_FRAMES
        assert Landmarks.load(row["landmarks"]).found.shape == (N_FRAMES,)
        assert row["duration_s"] == len(waveform) / 16000
        assert row["source"] == "filmed" and row["speaker"] == "s1" and row["text"] == "bin blue"
    assert read_jsonl(tmp_path / "out" / "dropped.jsonl") == []
    stored = json.loads(manifest.read_text().splitlines()[0])
    assert stored["audio"] == "audio/b.wav" and stored["video"] == "../b.mp4"


def test_sound_of_its_own(tmp_path, tracked):
    film = _film(tmp_path / "a.mp4")
    write_wav(tmp_path / "clean.wav", 0.5 * np.ones(640 * N_FRAMES, np.float32))
    manifest = prepare([_row(film, audio=str(tmp_path / "clean.wav"))], tmp_path / "out")
    row = read_manifest(manifest)[0]
    np.testing.assert_allclose(read_audio(row["audio"]), 0.5, atol=1e-3)


@pytest.mark.parametrize(
    "n_sound, n_expected, noted", [(14, 14, True), (17, 17, False), (22, 20, False), (26, 20, True)]
)
def test_the_shorter_stream_sets_the_length(tmp_path, tracked, caplog, n_sound, n_expected, noted):
    film = _film(tmp_path / "a.mp4")
    write_wav(tmp_path / "a.wav", _noise(640 * n_sound))
    with caplog.at_level(logging.WARNING):
        row = read_manifest(prepare([_row(film, audio=str(tmp_path / "a.wav"))], tmp_path / "out"))[0]
    assert len(read_lips(row["lips"])) == frames_of(len(read_audio(row["audio"]))) == n_expected
    assert len(Landmarks.load(row["landmarks"]).points) == n_expected
    assert ("s longer; cut to the shorter" in caplog.text) == noted


def test_each_reason_for_being_dropped(tmp_path, tracked):
    silent, late = np.zeros(640 * N_FRAMES, np.float32), _film(tmp_path / "late.mp4", dark=11)
    (tmp_path / "corrupt.mp4").write_bytes(b"no film" * 99)
    write_video(tmp_path / "mute.mp4", np.full((4, 64, 64, 3), 120, np.uint8))
    write_wav(tmp_path / "sound.wav", _noise())
    rows = [
        _row(_film(tmp_path / "good.mp4", dark=9)),
        _row(late),
        _row(_film(tmp_path / "noface.mp4", dark=N_FRAMES)),
        _row(_film(tmp_path / "silent.mp4", sound=silent)),
        _row(tmp_path / "corrupt.mp4"),
        _row(tmp_path / "nowhere.mp4"),
        _row(tmp_path / "mute.mp4"),
        _row(late) | {"utt_id": "nosound", "audio": str(tmp_path / "nowhere.wav")},
        _row(tmp_path / "sound.wav") | {"utt_id": "nopictures"},
    ]
    manifest = prepare(rows, tmp_path / "out")
    assert [row["utt_id"] for row in read_manifest(manifest)] == ["good"]
    reasons = {line["utt_id"]: line["reason"] for line in read_jsonl(tmp_path / "out" / "dropped.jsonl")}
    expected = {
        "late": "late.mp4: a face in only 9 of 20 frames",
        "noface": "noface.mp4: no face found in any of 20 frames",
        "silent": "silent.mp4: the sound is silent",
        "corrupt": "corrupt.mp4: not a readable sound file",
        "nowhere": "nowhere.mp4: no such audio file",
        "mute": "mute.mp4: no audio stream",
        "nosound": "nowhere.wav: no such audio file",
        "nopictures": "sound.wav: no video stream",
    }
    assert reasons.keys() == expected.keys()
    for utt_id, reason in expected.items():
        assert reason in reasons[utt_id]
    assert sorted(path.name for path in (tmp_path / "out" / "lips").iterdir()) == ["good.mp4"]


def test_all_dropped_is_an_error(tmp_path, tracked):
    films = [_film(tmp_path / f"{name}.mp4", dark=N_FRAMES) for name in "ab"]
    with pytest.raises(InputError, match=r"none of 2 utterances can be used; the first: a: .*no face"):
        prepare([_row(film) for film in films], tmp_path / "out")
    film = films[0]
    with pytest.raises(InputError, match=r"^[^ ]*a\.mp4: no face found in any of 20 frames$"):
        prepare([_row(film)], tmp_path / "out")
    assert len(read_jsonl(tmp_path / "out" / "dropped.jsonl")) == 1
    assert not (tmp_path / "out" / "manifest.jsonl").exists()


def test_resumed_equals_whole_and_redoes_nothing(tmp_path, tracked):
    rows = [_row(_film(tmp_path / f"{name}.mp4")) for name in "abc"]
    whole = prepare(rows, tmp_path / "whole")
    prepare(rows[:1], tmp_path / "parts")
    kept = (tmp_path / "parts" / "lips" / "a.mp4").stat().st_mtime_ns
    prepare(rows[:2], tmp_path / "parts")
    (tmp_path / "parts" / "lips" / "b.mp4").unlink()  # as after an interruption: landmarks are there, crops are not
    parts = prepare(rows, tmp_path / "parts")
    assert len(tracked) == 3 + 3
    assert (tmp_path / "parts" / "lips" / "a.mp4").stat().st_mtime_ns == kept
    assert parts.read_bytes() == whole.read_bytes()
    for field in ("audio", "lips"):
        for path in sorted((tmp_path / "whole" / field).iterdir()):
            assert path.read_bytes() == (tmp_path / "parts" / field / path.name).read_bytes()


def test_the_mouth_is_as_wide_as_is_asked(tmp_path, tracked, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "crop_lips", lambda frames, points, width: (
        asked.append(width), np.zeros((len(points), SIZE, SIZE), np.uint8))[1])  # fmt: skip
    prepare([_row(_film(tmp_path / "a.mp4"))], tmp_path / "out", mouth_width=0.469)
    assert asked == [0.469]
    with pytest.raises(InputError, match="mouth_width is a share of the crop's width"):
        prepare([_row(tmp_path / "a.mp4")], tmp_path / "out", mouth_width=60.0)


def test_an_unexpected_error_is_not_swallowed(tmp_path, tracked, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_lips", full_disk)
    with pytest.raises(OSError, match="No space left"):
        prepare([_row(_film(tmp_path / "a.mp4"))], tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.jsonl").exists()


@pytest.mark.parametrize(
    "rows, message",
    [
        ([], "no utterances to prepare"),
        ([{"utt_id": "a"}], r"row 1: expected utt_id and video, got utt_id='a' video=None"),
        ([{"utt_id": "s1/a", "video": "a.mp4"}], r"row 1: utt_id 's1/a' names output files"),
        ([{"utt_id": "a", "video": "a.mp4"}, {"utt_id": "a", "video": "b.mp4"}], r"row 2: utt_id 'a' appears twice"),
    ],
)
def test_bad_rows(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        prepare(rows, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_from_folder(tmp_path):
    for name in ("s2/b c.mpg", "s1/a.MP4", "s1/notes.pdf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "s1" / "a.txt").write_text("bin blue\n")
    assert rows_from_folder(tmp_path) == [
        {"utt_id": "s1_a", "text": "bin blue", "video": str(tmp_path / "s1" / "a.MP4")},
        {"utt_id": "s2_b_c", "text": "", "video": str(tmp_path / "s2" / "b c.mpg")},
    ]
    assert [row["utt_id"] for row in rows_from_folder(tmp_path / "s1" / "a.MP4")] == ["a"]


def test_rows_from_folder_errors(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such video or folder"):
        rows_from_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no videos below it"):
        rows_from_folder(tmp_path)


@pytest.fixture(scope="module")
def grid_rows(shared) -> list[dict]:
    pytest.importorskip("dlib")
    pytest.importorskip("face_recognition_models")
    return [_row(clip) for clip in sorted((shared / "grid" / "s1").glob("*.mpg"))[:2]]


def test_real_clips(tmp_path, grid_rows):
    """The whole way on GRID: the crops are still before speech, and the mouth's dark line is in their middle."""
    rows = read_manifest(prepare(grid_rows, tmp_path), need=("audio", "lips"))
    assert [row["utt_id"] for row in rows] == [row["utt_id"] for row in grid_rows]
    for row in rows:
        lips = read_lips(row["lips"])
        assert lips.shape == (75, SIZE, SIZE) and frames_of(len(read_audio(row["audio"]))) == 75
        assert np.abs(np.diff(lips[:5].astype(float), axis=0)).mean() < 4
        assert 40 <= lips[:5, 24:72, 32:64].mean((0, 2)).argmin() + 24 <= 54


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path, grid_rows):
    for n_jobs in (1, 2):
        prepare(grid_rows, tmp_path / f"out{n_jobs}", n_jobs=n_jobs)
    assert (tmp_path / "out1" / "manifest.jsonl").read_bytes() == (tmp_path / "out2" / "manifest.jsonl").read_bytes()
    for field in ("audio", "lips"):
        for path in sorted((tmp_path / "out1" / field).iterdir()):
            assert path.read_bytes() == (tmp_path / "out2" / field / path.name).read_bytes()
    for path in sorted((tmp_path / "out1" / "landmarks").iterdir()):
        other = Landmarks.load(tmp_path / "out2" / "landmarks" / path.name)
        np.testing.assert_array_equal(Landmarks.load(path).points, other.points)
