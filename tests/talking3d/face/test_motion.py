from dataclasses import replace

import numpy as np
import pytest

from avsr.errors import InputError
from talking3d.face.motion import Motion, resample
from talking3d.face.procedural import procedural_face


@pytest.fixture(scope="module")
def face():
    return procedural_face()


def some_motion(face, n_frames=6, **arrays) -> Motion:
    coefficients = np.random.default_rng(0).uniform(0, 1, (n_frames, len(face.articulation_names)))
    return Motion.of_template(face, 25.0, **{"coefficients": coefficients, **arrays})


def test_a_saved_motion_comes_back_whole(face, tmp_path):
    motion = some_motion(face, head_pose=np.random.default_rng(1).normal(size=(6, 6)))
    motion.save(tmp_path / "motion.npz")
    back = Motion.load(tmp_path / "motion.npz")
    np.testing.assert_array_equal(back.coefficients, motion.coefficients)
    np.testing.assert_array_equal(back.head_pose, motion.head_pose)
    assert (back.fps, back.template_name, back.topology_hash) == (25.0, face.name, face.topology_hash)
    assert back.offsets is None


def test_the_same_motion_makes_the_same_bytes(face, tmp_path):
    for name in ("a.npz", "b.npz"):
        some_motion(face).save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_coefficients_and_their_offsets_move_a_face_alike(face, tmp_path):
    motion = some_motion(face)
    plain = some_motion(face, coefficients=None, offsets=face.offsets(motion.coefficients))
    plain.save(tmp_path / "plain.npz")
    back = Motion.load(tmp_path / "plain.npz")
    np.testing.assert_array_equal(back.offsets_for(face), motion.offsets_for(face))


def test_a_motion_moves_any_identity_of_its_topology(face):
    person = face.identity(np.ones(len(face.shape_names)), name="someone")
    assert some_motion(face).offsets_for(person).shape == (6, *face.verts.shape)


def test_a_part_has_the_frames_asked_for(face):
    motion = some_motion(face, head_pose=np.random.default_rng(1).normal(size=(6, 6)))
    for frames in (slice(2, 4), np.array([5, 0])):
        part = motion.part(frames)
        np.testing.assert_array_equal(part.coefficients, motion.coefficients[frames])
        np.testing.assert_array_equal(part.head_pose, motion.head_pose[frames])
        assert part.n_frames == 2 and part.offsets is None and part.topology_hash == motion.topology_hash


def test_another_topology_is_refused(face):
    other = replace(face, faces=face.faces[:-1], name="other")
    with pytest.raises(InputError, match="was made for 'procedural' .* cannot move 'other'"):
        some_motion(face).offsets_for(other)


def test_an_unknown_basis_is_refused(face):
    with pytest.raises(InputError, match="in the basis 'pca'"):
        some_motion(face, basis="pca").offsets_for(face)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"offsets": np.zeros((6, 4, 3))}, "either coefficients or offsets"),
        ({"coefficients": None}, "either coefficients or offsets"),
        ({"coefficients": np.zeros(16)}, r"coefficients must be \(T, K\)"),
        ({"coefficients": np.zeros((0, 16))}, "with T > 0"),
        ({"coefficients": None, "offsets": np.zeros((6, 4, 2))}, r"offsets must be \(T, V, 3\)"),
        ({"head_pose": np.zeros((6, 3))}, r"head_pose must be \(T, 6\)"),
        ({"head_pose": np.zeros((5, 6))}, "6 frames, but head_pose has 5"),
        ({"coefficients": np.array([[0.0], [np.nan]])}, "NaN or infinite values, first in frame 1"),
    ],
)
def test_wrong_arrays_are_named(face, arrays, message):
    with pytest.raises(InputError, match=message):
        some_motion(face, **arrays)


def test_wrong_fps_is_named(face):
    with pytest.raises(InputError, match="fps must be above 0"):
        Motion.of_template(face, 0.0, coefficients=np.zeros((2, 16)))


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        Motion.load(tmp_path / "absent.npz")
    (tmp_path / "noise.npz").write_bytes(b"not a zip")
    with pytest.raises(InputError, match="not a readable .npz"):
        Motion.load(tmp_path / "noise.npz")
    np.savez(tmp_path / "part.npz", fps=25)
    with pytest.raises(InputError, match="lacks template"):
        Motion.load(tmp_path / "part.npz")


@pytest.mark.parametrize("fps", [12.5, 24, 29.97, 30, 60])
@pytest.mark.parametrize("shape", [(31, 4, 3), (31, 5), (1, 2)])
def test_resampling_is_interpolation_of_each_value(fps, shape):
    values = np.random.default_rng(0).random(shape)
    times, new_times = (
        (np.arange(n) + 0.5) / rate for n, rate in ((len(values), fps), (max(1, round(len(values) * 25 / fps)), 25))
    )
    columns = [np.interp(new_times, times, column) for column in values.reshape(len(values), -1).T]
    np.testing.assert_allclose(resample(values, fps), np.stack(columns, axis=1).reshape(-1, *shape[1:]), atol=1e-12)
