"""From a sound file to a clip or a motion file: rest in silence, idle motion, formats, and what users get wrong."""

import dataclasses

import numpy as np
import pytest
import torch

from avsr.errors import InputError
from avsr.media.audio import read_audio, write_wav
from avsr.media.timing import FPS, frames_of
from avsr.media.video import has_audio, read_frames
from talking3d import animate as animation
from talking3d.animate import add_blinks, animate, find_checkpoint, head_sway, render_motion, speech_activity
from talking3d.corpus.motion_dataset import MotionDataset, fit_motion_basis
from talking3d.face.ict import load_ict
from talking3d.face.motion import Motion
from talking3d.face.procedural import procedural_face
from talking3d.face.regions import lip_aperture_mm
from talking3d.models.audio2mesh import Audio2Mesh, Audio2MeshConfig
from talking3d.models.head_pose import HeadPoseConfig, PoseVAE
from talking3d.models.speech_encoder import SpeechEncoderConfig

TINY = Audio2MeshConfig(encoder=SpeechEncoderConfig(dim=16, layers=1, heads=2, ff_dim=32, kernel=5))

LIPS_TOUCH_MM = 0.05


@pytest.fixture(scope="module")
def ict_face(shared):
    return load_ict(shared / "ict_facekit")


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    """The checkpoint of an untrained student of the procedural face: its jaw and lips move at random."""
    face = procedural_face()
    torch.manual_seed(0)
    basis = face.articulation_basis[[0, 2, 3]]
    model = Audio2Mesh(TINY, basis, np.array([0.3, 0.1, 0.1]), face, ["ann"])
    with torch.no_grad():
        model.head.weight.normal_(std=0.1)
    folder = tmp_path_factory.mktemp("talker") / "checkpoint"
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def speech(tmp_path):
    """0.6 s of rest, 0.4 s of buzz, 0.6 s of rest."""
    rng = np.random.default_rng(0)
    waveform = 1e-4 * rng.standard_normal(25_600)
    waveform[9_600:16_000] += 0.3 * np.sin(0.2 * np.arange(6_400))
    write_wav(tmp_path / "speech.wav", waveform.astype(np.float32))
    return tmp_path / "speech.wav"


def test_a_motion_file_that_rests_in_silence(talker, speech, tmp_path):
    motion = animate(speech, tmp_path / "motion.npz", talker, idle=False)
    saved = Motion.load(tmp_path / "motion.npz")
    np.testing.assert_array_equal(saved.coefficients, motion.coefficients)
    assert saved.n_frames == 40 and saved.head_pose is None
    assert not saved.coefficients[:8].any() and not saved.coefficients[-8:].any()
    assert np.abs(saved.coefficients[15:25]).max() > 0.05


def test_a_clip_with_the_sound(talker, speech, tmp_path):
    animate(speech, tmp_path / "small.mp4", talker, size=64)
    assert read_frames(tmp_path / "small.mp4").shape == (40, 64, 64, 3)
    animate(speech, tmp_path / "clip.mp4", talker)
    frames = read_frames(tmp_path / "clip.mp4")
    assert frames.shape == (40, 512, 512, 3)
    assert has_audio(tmp_path / "clip.mp4")
    heard, spoken = read_audio(tmp_path / "clip.mp4"), read_audio(speech)
    n = min(len(heard), len(spoken))
    assert np.corrcoef(heard[:n], spoken[:n])[0, 1] > 0.9  # in time with the pictures' start
    mouth = frames[:, 200:300, 200:310].astype(int)
    assert np.abs(mouth[20] - mouth[2]).mean() > 1


def test_long_clips_are_drawn_in_parts_that_join(talker, tmp_path, monkeypatch):
    face = procedural_face()
    rng = np.random.default_rng(0)
    motion = Motion.of_template(face, FPS, coefficients=rng.uniform(0, 0.3, (7, 16)), head_pose=head_sway(7, rng))
    animation.render_clip(tmp_path / "whole.mp4", motion, face)
    monkeypatch.setattr(animation, "DRAWN_AT_ONCE", 3)
    animation.render_clip(tmp_path / "parts.mp4", motion, face)
    assert (tmp_path / "whole.mp4").read_bytes() == (tmp_path / "parts.mp4").read_bytes()


def test_activity_follows_speech_at_any_level():
    rng = np.random.default_rng(0)
    waveform = 1e-3 * rng.standard_normal(64_000).astype(np.float32)
    waveform[16_000:48_000] += (0.3 * np.sin(0.3 * np.arange(32_000))).astype(np.float32)
    waveform[28_800:30_720] = 1e-3 * rng.standard_normal(1_920)  # 120 ms: the closure of a stop
    waveform[36_000:46_000] = 1e-3 * rng.standard_normal(10_000)  # 625 ms: a pause
    activity = speech_activity(waveform)
    assert activity.shape == (100,)
    assert not activity[:18].any() and not activity[-18:].any()
    assert (activity[25:57] == 1).all()
    assert activity[64] == 0
    np.testing.assert_allclose(speech_activity(0.02 * waveform), activity, atol=1e-6)


@pytest.mark.parametrize("n_samples", [1, 640, 641, 2_000])
def test_activity_of_a_moment(n_samples):
    assert speech_activity(np.full(n_samples, 0.1)).tolist() == [1.0] * frames_of(n_samples)


def test_a_word_in_a_minute_of_silence_is_found():
    waveform = 1e-3 * np.random.default_rng(0).standard_normal(60 * 16_000).astype(np.float32)
    waveform[480_000:488_000] += (0.2 * np.sin(0.3 * np.arange(8_000))).astype(np.float32)
    activity = speech_activity(waveform)
    assert (activity[750:762] == 1).all()
    assert not activity[:743].any() and not activity[769:].any()


def test_speech_without_pauses_never_rests():
    time = np.arange(32_000)
    waveform = 0.2 * np.sin(0.3 * time) * (1 + 0.3 * np.sin(0.002 * time))
    assert (speech_activity(waveform) == 1).all()


@pytest.mark.parametrize("name", ["spk1_snt1", "spk1_snt5", "spk2_snt2"])
def test_activity_of_recorded_speech(shared, name):
    """These recordings are cut close to their words, stops included; a second of the room around them is rest."""
    waveform = read_audio(shared / "speech" / "utterances" / f"{name}.wav")
    room = 1e-3 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    activity = speech_activity(np.concatenate([room, waveform, room]))
    assert not activity[:18].any() and not activity[-18:].any()
    assert activity[26:-33].min() == 1


def test_sway_is_slight_and_repeatable():
    pose = head_sway(500, np.random.default_rng(1))
    np.testing.assert_array_equal(pose, head_sway(500, np.random.default_rng(1)))
    degrees = np.rad2deg(pose[:, :3])
    assert 0.2 < degrees.std() < 4 and np.abs(np.diff(degrees, axis=0)).max() < 1
    assert not pose[:, 3:].any()


def lids_of(n_frames, seed):
    face = procedural_face()
    still = Motion.of_template(face, FPS, coefficients=np.zeros((n_frames, 16)))
    blinking = add_blinks(still, face, np.random.default_rng(seed)).coefficients
    lids = blinking[:, face.articulation_names.index("blink")]
    assert np.count_nonzero(blinking) == np.count_nonzero(lids)
    return lids


def test_blinks_come_as_often_and_last_as_long_as_published():
    """26 a minute in conversation, intervals log-normal with a coefficient of variation of 0.8, 0.15 to 0.5 s each."""
    hours = 4
    lids = lids_of(hours * 3600 * FPS, seed=1)
    assert lids.min() == 0 and lids.max() == 1
    closed = np.concatenate([[0], lids > 0, [0]]).astype(int)
    starts, stops = (np.flatnonzero(np.diff(closed) == sign) for sign in (1, -1))
    assert len(starts) / (60 * hours) == pytest.approx(26, rel=0.04)  # a few overlap
    intervals_s = np.diff(starts) / FPS
    assert intervals_s.std() / intervals_s.mean() == pytest.approx(0.8, abs=0.06)
    logs = np.log(intervals_s[intervals_s > 0.5])  # shorter ones would overlap
    assert logs.mean() == pytest.approx(np.log(60 / 26) - np.log(1 + 0.8**2) / 2, abs=0.08)
    assert np.mean(intervals_s > np.exp(logs.mean() + logs.std())) == pytest.approx(0.16, abs=0.02)
    lengths_s = (stops - starts) / FPS
    assert 0.22 < np.median(lengths_s) < 0.34 and np.quantile(lengths_s, 0.02) > 0.15
    assert np.quantile(lengths_s, 0.97) < 0.5
    seen_shut = np.array([lids[start:stop].max() for start, stop in zip(starts, stops, strict=True)])
    assert seen_shut[:-1].min() > 0.95


def test_lids_close_faster_than_they_open():
    lids = lids_of(40 * 60 * FPS, seed=2)
    change = np.diff(lids)
    assert 1.2 < (change < 0).sum() / (change > 0).sum() < 1.7  # 1.43 in time


def test_a_seed_blinks_alike_in_clips_of_any_length():
    np.testing.assert_array_equal(lids_of(800, seed=3)[:200], lids_of(200, seed=3))
    assert not np.array_equal(lids_of(800, seed=3), lids_of(800, seed=4))


@pytest.mark.parametrize("names", [("eyeBlink_L", "eyeBlink_R"), ("eyeBlinkLeft", "eyeBlinkRight")])
def test_lids_of_other_rigs_blink_together(tiny_face, names):
    rig = dataclasses.replace(tiny_face, articulation_names=("jawOpen", *names))
    motion = add_blinks(Motion.of_template(rig, FPS, coefficients=np.zeros((500, 3))), rig, np.random.default_rng(0))
    assert not motion.coefficients[:, 0].any() and motion.coefficients[:, 1].max() > 0.95
    np.testing.assert_array_equal(motion.coefficients[:, 1], motion.coefficients[:, 2])


def test_the_published_ict_head_blinks_with_its_own_lids(ict_face):
    still = Motion.of_template(ict_face, FPS, coefficients=np.zeros((300, len(ict_face.articulation_names))))
    blinking = add_blinks(still, ict_face, np.random.default_rng(0))
    moved = [ict_face.articulation_names[k] for k in np.flatnonzero(blinking.coefficients.any(axis=0))]
    assert moved == ["eyeBlink_L", "eyeBlink_R"]


@pytest.mark.parametrize("kind", ["procedural", "ict"])
def test_a_face_rests_with_closed_lips_before_and_after_speech(kind, talker, speech, tmp_path, request):
    """The published ICT head's neutral mesh is not quite shut: motion that is carried over to it shuts it."""
    face = procedural_face() if kind == "procedural" else request.getfixturevalue("ict_face")
    at_rest_mm = lip_aperture_mm(face, np.zeros((1, *face.verts.shape), np.float32))[0]
    assert at_rest_mm == pytest.approx({"procedural": -0.24, "ict": 0.76}[kind], abs=0.01)
    face.save(tmp_path / "face.npz")
    motion = animate(speech, tmp_path / "motion.npz", talker, template=tmp_path / "face.npz")
    gaps_mm = lip_aperture_mm(face, motion.offsets_for(face))
    assert gaps_mm[[0, -1]].max() <= LIPS_TOUCH_MM and gaps_mm[15:25].max() > 1


def test_a_trained_head_moves_instead_of_swaying(talker, speech, tmp_path):
    torch.manual_seed(0)
    model = PoseVAE(HeadPoseConfig(width=8, sound_dim=4), np.zeros(6), np.full(6, 0.05), np.full(6, 0.01)).eval()
    model.save_pretrained(tmp_path / "head")
    one, same, other = (
        animate(speech, tmp_path / "m.npz", talker, head=tmp_path / "head", seed=seed).head_pose for seed in (1, 1, 2)
    )
    assert one.shape == (40, 6) and one[:, 3:].any()
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    swaying = animate(speech, tmp_path / "m.npz", talker, seed=1)
    assert not swaying.head_pose[:, 3:].any()
    with pytest.raises(InputError, match="holds a audio2mesh model; a head_pose model is needed"):
        animate(speech, tmp_path / "m.npz", talker, head=talker)
    with pytest.raises(InputError, match="a head that stands still cannot move as .*: give either --head or --no_idle"):
        animate(speech, tmp_path / "m.npz", talker, head=tmp_path / "head", idle=False)


def test_offsets_blink_as_coefficients_do():
    face = procedural_face()
    plain = Motion.of_template(face, FPS, offsets=np.zeros((130, len(face.verts), 3)))
    named = Motion.of_template(face, FPS, coefficients=np.zeros((130, 16)))
    one, other = (add_blinks(motion, face, np.random.default_rng(2)).offsets_for(face) for motion in (plain, named))
    np.testing.assert_allclose(one, other, atol=1e-7)
    assert one.any()


def test_a_face_that_cannot_blink_is_left_alone():
    face = procedural_face()
    stiff = dataclasses.replace(
        face, articulation_basis=face.articulation_basis[:3], articulation_names=face.articulation_names[:3]
    )
    motion = Motion.of_template(stiff, FPS, coefficients=np.zeros((200, 3)))
    assert add_blinks(motion, stiff, np.random.default_rng(0)) is motion


@pytest.mark.parametrize("view, size", [("face", 512), ("lips", 96)])
def test_motion_files_are_drawn(tmp_path, speech, view, size):
    Motion.of_template(procedural_face(), FPS, coefficients=np.full((5, 16), 0.1)).save(tmp_path / "m.npz")
    render_motion(tmp_path / "m.npz", tmp_path / "m.mp4", view=view, audio=speech)
    assert read_frames(tmp_path / "m.mp4").shape[1:3] == (size, size)
    assert has_audio(tmp_path / "m.mp4")


def test_the_checkpoint_is_looked_for_in_three_places(tmp_path, monkeypatch):
    monkeypatch.delenv("LIPLOOP_AUDIO2MESH", raising=False)
    monkeypatch.setattr(animation, "RECIPE_CHECKPOINT", tmp_path / "recipe")
    with pytest.raises(InputError, match="run egs/mini/run.sh.* or give --checkpoint"):
        find_checkpoint(None)
    (tmp_path / "recipe").mkdir()
    assert find_checkpoint(None) == tmp_path / "recipe"
    monkeypatch.setenv("LIPLOOP_AUDIO2MESH", "somewhere/else")
    assert find_checkpoint(None) == "somewhere/else"
    assert find_checkpoint("given") == "given"


def test_another_suffix_is_an_error(talker, speech, tmp_path):
    with pytest.raises(InputError, match=r"cannot write '.avi'; use .mp4 or .npz"):
        animate(speech, tmp_path / "clip.avi", talker)
    with pytest.raises(InputError, match="a file without suffix"):
        animate(speech, tmp_path / "clip", talker)
    with pytest.raises(InputError, match="use .mp4"):
        render_motion("m.npz", tmp_path / "m.gif")


def test_silent_speech_is_an_error(talker, tmp_path):
    write_wav(tmp_path / "still.wav", np.zeros(16_000, np.float32))
    with pytest.raises(InputError, match="still.wav: the sound is silent"):
        animate(tmp_path / "still.wav", tmp_path / "clip.mp4", talker)
    assert not (tmp_path / "clip.mp4").exists()


def test_a_face_that_motion_cannot_be_carried_to_is_an_error(talker, speech, tiny_face, tmp_path):
    tiny_face.save(tmp_path / "sheet.npz")
    with pytest.raises(InputError, match="'sheet' lacks the mouth's iBUG landmarks"):
        animate(speech, tmp_path / "clip.mp4", talker, template=tmp_path / "sheet.npz")


def test_a_face_of_another_topology_speaks_by_transfer(talker, speech, tmp_path, caplog):
    """The same head without hair and shirt: other vertices, and a rig of its own."""
    face = procedural_face()
    kept = np.setdiff1d(np.arange(len(face.verts)), np.concatenate([face.region("hair"), face.region("shirt")]))
    number = np.full(len(face.verts), -1)
    number[kept] = np.arange(len(kept))
    faces = number[face.faces]
    other = dataclasses.replace(
        face,
        name="other",
        verts=face.verts[kept],
        faces=faces[(faces >= 0).all(axis=1)],
        regions={k: number[v] for k, v in face.regions.items() if (number[v] >= 0).all()},
        landmarks=number[face.landmarks],
        shape_basis=face.shape_basis[:, kept],
        articulation_basis=face.articulation_basis[:, kept],
        colors=face.colors[kept],
    )
    other.save(tmp_path / "other.npz")
    moved = animate(speech, tmp_path / "a.npz", talker, template=tmp_path / "other.npz")
    plain = animate(speech, tmp_path / "b.npz", talker)
    assert moved.template_name == "other" and moved.topology_hash == other.topology_hash
    assert "motion of 'procedural' carried to 'other' by fit: lip gap off by" in caplog.text
    np.testing.assert_array_equal(moved.head_pose, plain.head_pose)
    lips = moved.offsets_for(other)[:, other.region("lips")] - plain.offsets_for(face)[:, face.region("lips")]
    assert 1e3 * np.linalg.norm(lips, axis=-1).mean() < 1.0
    blink = face.articulation_names.index("blink")
    np.testing.assert_allclose(moved.coefficients[:, blink], plain.coefficients[:, blink], atol=0.05)


def test_another_identity_speaks_with_the_same_motion(talker, speech, tmp_path):
    face = procedural_face()
    other = face.identity(np.full(len(face.shape_names), 0.5), name="other")
    other.save(tmp_path / "other.npz")
    moved = animate(speech, tmp_path / "a.npz", talker, template=tmp_path / "other.npz")
    plain = animate(speech, tmp_path / "b.npz", talker)
    assert moved.template_name == "other"
    np.testing.assert_array_equal(moved.coefficients, plain.coefficients)


def test_recorded_speech_of_any_rate(talker, shared, tmp_path):
    source = shared / "speech" / "utterances" / "spk1_snt1.wav"
    motion = animate(source, tmp_path / "m.npz", talker)
    assert motion.n_frames == frames_of(len(read_audio(source)))


def test_an_untrained_student_shows_the_mean_motion(spoken_rows, tiny_face, tmp_path):
    basis = fit_motion_basis(spoken_rows, 4)
    mean = MotionDataset(spoken_rows, basis, speakers=[]).mean_motion()
    model = Audio2Mesh(TINY, basis, mean, tiny_face, []).eval()
    with torch.no_grad():
        model.contact.project.bias.fill_(-20.0)  # lips judged apart
    model.save_pretrained(tmp_path / "checkpoint")
    motion = animate(spoken_rows[0]["audio"], tmp_path / "m.npz", tmp_path / "checkpoint", idle=False)
    np.testing.assert_allclose(motion.offsets_for(tiny_face)[12], np.einsum("k,kvx->vx", mean, basis), atol=1e-6)
