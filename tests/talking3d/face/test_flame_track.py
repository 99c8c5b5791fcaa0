"""Random fits in the form of SMIRK's and SPECTRE's; FLAME's file format holds the procedural head."""

import pickle

import numpy as np
import pytest
import torch

from avsr.errors import InputError
from talking3d.face.flame import load_flame
from talking3d.face.flame_track import check_flame, read_track, track_coefficients, track_person
from talking3d.face.procedural import procedural_face
from talking3d.render.camera import rotation_matrices


@pytest.fixture(scope="module")
def face(flame_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("flame") / "model.pkl"
    path.write_bytes(pickle.dumps(flame_model, protocol=2))
    return load_flame(path)


@pytest.fixture
def found() -> dict[str, np.ndarray]:
    """What SMIRK's encoder returns of 7 frames."""
    rng = np.random.default_rng(0)
    widths = {"shape": 300, "expression": 50, "pose": 3, "jaw": 3, "eyelid": 2}
    return {f"{key}_params": (0.1 * rng.standard_normal((7, n))).astype(np.float32) for key, n in widths.items()}


def spectre(found):
    return {
        "shape": found["shape_params"][:, :100],
        "exp": found["expression_params"],
        "pose": np.concatenate([found["pose_params"], found["jaw_params"]], axis=1),
        "light": np.zeros((7, 9, 3), np.float32),
    }


def save(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".npy":
        np.save(path, arrays, allow_pickle=True)
    elif path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(arrays))
    else:
        torch.save({key: torch.from_numpy(value) for key, value in arrays.items()}, path)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".pkl", ".pt"])
def test_both_trackers_in_every_form(found, tmp_path, suffix):
    track = read_track(save(tmp_path / f"smirk{suffix}", found))
    np.testing.assert_array_equal(track.expression, found["expression_params"])
    np.testing.assert_array_equal(track.jaw, found["jaw_params"])
    other = read_track(save(tmp_path / f"spectre{suffix}", spectre(found)))
    assert track.shape.shape == (7, 300) and other.shape.shape == (7, 100)
    for ours, theirs in zip(track[1:], other[1:], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def skinned(model, expression, jaw) -> np.ndarray:
    """FLAME itself for one frame, the head still: offsets (V, 3)."""
    verts = model["v_template"] + model["shapedirs"][..., 300 : 300 + len(expression)] @ expression
    joint = (model["J_regressor"] @ verts)[2]
    weight = model["weights"][:, 2:3]
    turned = (verts - joint) @ rotation_matrices(jaw[None])[0].T.astype(np.float64) + joint
    return (1 - weight) * verts + weight * turned - model["v_template"]


def test_the_template_moves_as_flame_does(flame_model, face, found, tmp_path):
    found["expression_params"] *= 10
    found["jaw_params"] = np.array([[0, 0, 0], [0.1, 0, 0], [0.25, 0, 0], [0.1, 0.1, 0], [0.1, -0.1, 0.05]], np.float32)
    found = {key: value[:5] for key, value in found.items()}
    track = read_track(save(tmp_path / "a.npz", found))
    offsets = face.offsets(track_coefficients(track, face, "a.npz"))
    for t in range(5):
        true = skinned(flame_model, track.expression[t], track.jaw[t])
        off_mm = 1e3 * np.linalg.norm(offsets[t] - true, axis=-1).max()
        moved_mm = 1e3 * np.linalg.norm(true - skinned(flame_model, track.expression[t], np.zeros(3)), axis=-1).max()
        assert off_mm < 0.01 + (0.05 if t < 3 else 0.2) * moved_mm, t  # a turn made linear, and three of them added


def test_a_speakers_shape_is_the_mean_of_the_clips(found, face, tmp_path):
    other = spectre(found) | {"shape": np.ones((7, 300))}
    tracks = [read_track(save(tmp_path / f"{name}.npz", arrays)) for name, arrays in (("a", found), ("b", other))]
    person = track_person(tracks, face, "ann")
    mean = (found["shape_params"].mean(axis=0) + 1) / 2
    np.testing.assert_allclose(person.verts, face.identity(mean[:100]).verts, atol=1e-6)
    assert person.name == "ann" and person.topology_hash == face.topology_hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jaw_params": None}, r"a\.npz: holds .*, but no jaw_params; expected what SMIRK returns"),
        ({"jaw_params": np.zeros((7, 1))}, r"jaw_params is float64 \(7, 1\), expected numbers \(T, 3\)"),
        ({"expression_params": np.zeros((7, 1, 50))}, r"\(7, 1, 50\), expected numbers \(T, n\): a row a frame"),
        ({"expression_params": np.full((7, 50), np.nan)}, "expression_params holds NaN"),
        ({"pose_params": np.zeros((6, 3))}, r"its arrays have \[6, 7\] frames; expected a row of each"),
        ({"pose": np.zeros((7, 6))}, "but no shape; expected .* or SPECTRE"),
        ({"pose": np.zeros((7, 9)), "shape": np.zeros((7, 9)), "exp": np.zeros((7, 9))}, r"expected numbers \(T, 6\)"),
    ],
)
def test_files_that_are_no_tracks_are_refused(found, tmp_path, change, message):
    arrays = {key: value for key, value in (found | change).items() if value is not None}
    with pytest.raises(InputError, match=message):
        read_track(save(tmp_path / "a.npz", arrays))


class Evil:
    def __reduce__(self):
        return eval, ("1/0",)


def test_files_that_would_run_code_are_refused(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"exp": Evil()}))
    with pytest.raises(InputError, match=r"a\.pkl: it holds builtins\.eval; only arrays"):
        read_track(tmp_path / "a.pkl")
    torch.save({"exp": Evil()}, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"a\.pt: not a file of tensors alone"):
        read_track(tmp_path / "a.pt")
    torch.save([torch.zeros(3)], tmp_path / "b.pt")
    with pytest.raises(InputError, match=r"b\.pt: holds list, expected a dict of tensors"):
        read_track(tmp_path / "b.pt")
    for suffix in ("pt", "npz"):
        with pytest.raises(InputError, match=rf"none\.{suffix}: no such file"):
            read_track(tmp_path / f"none.{suffix}")


def test_templates_that_are_not_the_trackers_are_refused(flame_model, face, found, tmp_path):
    check_flame(face)
    with pytest.raises(InputError, match="'procedural' lacks expression_000, jaw_roll, jaw_side: .* template flame"):
        check_flame(procedural_face())
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(flame_model, protocol=2))
    few = load_flame(tmp_path / "m.pkl", n_expressions=10)
    track = read_track(save(tmp_path / "a.npz", found))
    with pytest.raises(InputError, match=r"a\.npz: 50 expression coefficients, but the template 'flame' has 10"):
        track_coefficients(track, few, "a.npz")
    assert track_coefficients(track._replace(expression=track.expression[:, :10]), few, "a.npz").shape == (7, 13)
