"""Contact sheets and side-by-side clips: what is shown where, and what users get wrong."""

import numpy as np
import pytest
from matplotlib.image import imread

from avsr.errors import InputError
from avsr.media.audio import write_wav
from avsr.media.video import has_audio, read_frames
from talking3d.face.motion import Motion
from talking3d.face.procedural import procedural_face
from talking3d.render.compare import GAP, caption, compare, contact_sheet, in_rows
from talking3d.render.renderer import render_face, render_lips

N_FRAMES = 10


@pytest.fixture(scope="module")
def face():
    return procedural_face()


@pytest.fixture
def motions(face, tmp_path):
    """Three motion files: a jaw that opens, one that stays open, one at rest."""
    paths = []
    for name, jaw in (("opens", np.linspace(0, 0.9, N_FRAMES)), ("open", 0.9), ("rest", 0.0)):
        coefficients = np.zeros((N_FRAMES, len(face.articulation_names)), np.float32)
        coefficients[:, face.articulation_names.index("jaw_open")] = jaw
        Motion.of_template(face, 25, coefficients=coefficients).save(tmp_path / f"{name}.npz")
        paths.append(str(tmp_path / f"{name}.npz"))
    return paths


def test_a_sheet_shows_even_frames_under_their_times(face, motions, tmp_path):
    times_s = contact_sheet(motions[0], tmp_path / "sheet.png", n_frames=4, columns=3, size=96)
    assert times_s == pytest.approx([0.0, 0.12, 0.24, 0.36])
    sheet = (255 * imread(tmp_path / "sheet.png")[..., :3]).round().astype(np.uint8)
    strip = 20
    assert sheet.shape == (2 * (96 + strip + GAP) - GAP, 3 * (96 + GAP) - GAP, 3)
    motion = Motion.load(motions[0])
    drawn = render_face(face, motion.offsets_for(face)[[0, 3, 6, 9]], None, size=96)
    for i, picture in enumerate(drawn):
        y, x = i // 3 * (96 + strip + GAP), i % 3 * (96 + GAP)
        assert np.array_equal(sheet[y + strip : y + strip + 96, x : x + 96], picture)
        assert sheet[y : y + strip, x : x + 96].min() < 100  # ink
    assert (sheet[-96:, 96 + GAP :] == 255).all()  # the last row is not full


def test_a_sheet_at_given_times_and_of_lips(face, motions, tmp_path):
    assert contact_sheet(motions[0], tmp_path / "a.png", times_s=[0.36, 0.05], view="lips") == pytest.approx(
        [0.36, 0.04]
    )
    sheet = (255 * imread(tmp_path / "a.png")[..., 0]).round().astype(np.uint8)
    motion = Motion.load(motions[0])
    lips = render_lips(face, motion.offsets_for(face))
    assert np.array_equal(sheet[-96:, :96], lips[9]) and np.array_equal(sheet[-96:, 96 + GAP :], lips[1])


def test_fewer_frames_than_asked_for(motions, tmp_path):
    assert len(contact_sheet(motions[0], tmp_path / "a.png", n_frames=50, view="lips")) == N_FRAMES


def test_motions_stand_side_by_side_with_labels_and_sound(face, motions, tmp_path):
    write_wav(tmp_path / "speech.wav", 0.1 * np.sin(0.2 * np.arange(640 * N_FRAMES)).astype(np.float32))
    out = tmp_path / "compare.mp4"
    compare(motions, out, labels=["a", "b", "c"], audio=tmp_path / "speech.wav", size=128)
    frames = read_frames(out)
    assert frames.shape == (N_FRAMES, 128 + 20, 3 * (128 + GAP) - GAP, 3) and has_audio(out)
    motion = Motion.load(motions[0])
    drawn = render_face(face, motion.offsets_for(face), None, size=128).astype(int)
    assert np.abs(frames[:, :128, :128] - drawn).mean() < 4
    mouths = (frames[:, 66:82, x + 54 : x + 74].astype(int) for x in (0, 128 + GAP, 2 * (128 + GAP)))
    opens, stays, rests = mouths
    assert 3 * np.abs(opens[-1] - stays[-1]).mean() < np.abs(opens[-1] - rests[-1]).mean()
    assert 3 * np.abs(opens[0] - rests[0]).mean() < np.abs(opens[0] - stays[0]).mean()
    label = frames[0, 128:, :128]
    assert label.min() < 120 and label.max() > 245
    compare(motions, tmp_path / "named.mp4", view="lips")
    assert read_frames(tmp_path / "named.mp4").shape[1:3] == (96 + 20, 3 * (96 + GAP) - GAP)


def test_text_is_set_smaller_until_it_fits():
    short, long = (caption(text, 200, 24) for text in ("ours", "a label that goes on and on and on, $_ and on"))
    assert short.shape == long.shape == (24, 200, 3)
    for picture in (short, long):
        ink = np.flatnonzero((picture < 128).any(axis=(0, 2)))
        assert ink[0] > 0 and ink[-1] < 199 and abs((ink[0] + ink[-1]) / 2 - 99.5) < 4


def test_rows_have_even_sides():
    sheet = in_rows([np.full((5, 7, 3), value, np.uint8) for value in (1, 2, 3)], 2)
    assert sheet.shape == (14, 18, 3)
    assert (sheet[:5, 7 + GAP : 14 + GAP] == 2).all() and (sheet[5 + GAP : 10 + GAP, :7] == 3).all()
    assert (sheet[5 : 5 + GAP] == 255).all()
    assert in_rows([np.zeros((6, 8, 3), np.uint8)], 4).shape == (6, 8, 3)


def test_what_users_get_wrong(face, motions, tmp_path):
    longer, slow, other = (str(tmp_path / f"{name}.npz") for name in ("longer", "slow", "other"))
    still = np.zeros((N_FRAMES + 2, 16), np.float32)
    Motion.of_template(face, 25, coefficients=still).save(longer)
    Motion.of_template(face, 30, coefficients=still).save(slow)
    Motion(25, "head", "0" * 64, coefficients=still).save(other)
    write_wav(tmp_path / "long.wav", np.full(16_000, 0.1, np.float32))
    clip, png = tmp_path / "x.mp4", tmp_path / "x.png"
    cases = [
        (r"x.png: cannot write '.png'; use .mp4", lambda: compare(motions, png)),
        (r"no motions to compare", lambda: compare([], clip)),
        (r"2 labels for 3 motions", lambda: compare(motions, clip, labels=["a", "b"])),
        (r"size 129 is odd", lambda: compare(motions, clip, size=129)),
        (r"differ in length .*opens.npz: 10, .*longer.npz: 12 frames", lambda: compare([motions[0], longer], clip)),
        (r"slow.npz runs at 30 fps, expected 25", lambda: compare([motions[0], slow], clip)),
        (r"other.npz: .* cannot move", lambda: compare([motions[0], other], clip)),
        (
            r"long.wav lasts 1.00 s, the motions 0.40 s",
            lambda: compare(motions, clip, audio=tmp_path / "long.wav"),
        ),
        (r"unknown view 'ear'", lambda: compare(motions, clip, view="ear")),
        (r"x.mp4: cannot write '.mp4'; use .png", lambda: contact_sheet(motions[0], clip)),
        (r"at least one frame and one column, got 0 and 6", lambda: contact_sheet(motions[0], png, n_frames=0)),
        (r"opens.npz has no frame at 0.4 s: it lasts 0.40 s", lambda: contact_sheet(motions[0], png, times_s=[0.4])),
        (r"has no frame at nan s", lambda: contact_sheet(motions[0], png, times_s=[float("nan")])),
        (r"slow.npz runs at 30 fps", lambda: contact_sheet(slow, png)),
        (r"absent.npz: no such file", lambda: contact_sheet(tmp_path / "absent.npz", png)),
    ]
    for message, call in cases:
        with pytest.raises(InputError, match=message):
            call()
    assert not clip.exists() and not png.exists()
