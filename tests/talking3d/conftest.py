"""A face of 64 vertices, and a corpus in which it, or a drawn mouth, opens as loudly as it speaks."""

import dataclasses

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.sparse import csc_matrix

from avsr.data.manifest import read_manifest, write_manifest
from avsr.media.audio import write_wav
from avsr.media.timing import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from avsr.media.video import write_lips
from talking3d.face.motion import Motion
from talking3d.face.procedural import procedural_face
from talking3d.face.template import FaceTemplate

JAW, ROUND, BLINK = range(3)


@pytest.fixture(scope="session")
def tiny_face() -> FaceTemplate:
    """An 8 x 8 sheet, 7 cm wide: row 4 is the upper lip, row 3 the lower one, rows 6 and 7 the brows."""
    y, x = np.meshgrid(np.linspace(-0.03, 0.04, 8), np.linspace(-0.035, 0.035, 8), indexing="ij")
    verts = np.stack([x, y, 0.01 * np.cos(30 * x)], axis=-1).reshape(-1, 3)
    corner = (np.arange(7)[:, None] * 8 + np.arange(7)).ravel()
    quads = np.stack([corner, corner + 1, corner + 9, corner + 8], axis=1)
    landmarks = np.full(68, -1)
    landmarks[[62, 66]] = 4 * 8 + 3, 3 * 8 + 3
    articulation = np.zeros((3, 64, 3))
    articulation[JAW, :32, 1] = -0.012
    articulation[ROUND, 16:40, 2] = 0.006
    articulation[BLINK, 48:, 1] = -0.003
    return FaceTemplate(
        name="sheet",
        verts=verts,
        faces=np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]),
        regions={"lips": np.arange(24, 40), "upper_face": np.arange(48, 64)},
        landmarks=landmarks,
        articulation_basis=articulation,
        articulation_names=("jaw_open", "lip_round", "blink"),
    )


@pytest.fixture(scope="session")
def bare_head():
    """Skin and eyeballs of the procedural face, open at mouth and eyes: verts (V, 3) metres, faces, their numbers."""
    face = procedural_face()
    left_out = np.concatenate([face.region(name) for name in ("mouth_interior", "hair", "shirt", "ears")])
    kept = np.setdiff1d(np.arange(len(face.verts)), left_out)
    number = np.full(len(face.verts), -1)
    number[kept] = np.arange(len(kept))
    faces = number[face.faces]
    return face.verts[kept].astype(np.float64), faces[(faces >= 0).all(axis=1)], kept


@pytest.fixture(scope="session")
def flame_model(bare_head):
    """FLAME's keys: five joints, 300 shapes and 100 expressions (all but a few of them zero), correctives."""
    verts, faces, kept = bare_head
    own = procedural_face()
    directions = np.zeros((len(verts), 3, 400), np.float32)
    directions[..., 0] = own.shape_basis[0][kept]
    directions[..., 300] = own.articulation_basis[2][kept]
    directions[..., 301] = own.articulation_basis[3][kept]
    chin = np.linalg.norm(own.articulation_basis[0][kept], axis=1)
    chin /= chin.max()
    weights = np.zeros((len(verts), 5))
    weights[:, 2], weights[:, 0] = chin, 1 - chin
    regressor = np.zeros((5, len(verts)))
    regressor[2, np.argmin(np.linalg.norm(verts - [0, 0.01, -0.09], axis=1))] = 1.0
    return {
        "v_template": verts + [0, 0.02, 0.03],  # FLAME's origin is not the mouth
        "f": faces.astype(np.uint32),
        "shapedirs": directions,
        "posedirs": np.zeros((len(verts), 3, 36)),
        "J_regressor": csc_matrix(regressor),
        "weights": weights,
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
        "bs_style": "lbs",
    }


def speak(rng: np.random.Generator, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """A buzz (S,) that swells and fades, and coefficients (T, 3): the jaw follows loudness, the lips its timbre."""
    knots = np.arange(0, n_frames + 5, 5)
    loudness, dark = (
        np.interp(np.arange(n_frames), knots, rng.uniform(0, 1, len(knots)) * (np.arange(len(knots)) % 2 == odd))
        for odd in (1, 0)
    )
    time_s = np.arange(n_frames * SAMPLES_PER_FRAME) / SAMPLE_RATE
    envelopes = [np.interp(time_s * FPS - 0.5, np.arange(n_frames), track) for track in (loudness, dark)]
    carriers = [np.sin(2 * np.pi * hertz * time_s) for hertz in (1500, 300)]
    waveform = 0.3 * sum(envelope * carrier for envelope, carrier in zip(envelopes, carriers, strict=True))
    waveform += 0.001 * rng.standard_normal(len(time_s))
    coefficients = np.stack([loudness, dark, np.zeros(n_frames)], axis=1)
    return waveform.astype(np.float32), coefficients.astype(np.float32)


@pytest.fixture(scope="session")
def spoken(tmp_path_factory, tiny_face):
    """The manifest of ten such utterances by two speakers, 25 to 43 frames long."""
    folder = tmp_path_factory.mktemp("spoken")
    rng = np.random.default_rng(0)
    tiny_face.save(folder / "sheet.npz")
    rows = []
    for i in range(10):
        utt_id, n_frames = f"utt{i}", 25 + 2 * i
        waveform, coefficients = speak(rng, n_frames)
        write_wav(folder / f"{utt_id}.wav", waveform)
        Motion.of_template(tiny_face, FPS, coefficients=coefficients).save(folder / f"{utt_id}.npz")
        rows.append(
            {
                "utt_id": utt_id,
                "speaker": "ann" if i % 2 else "bob",
                "text": "buzz",
                "audio": str(folder / f"{utt_id}.wav"),
                "motion": str(folder / f"{utt_id}.npz"),
                "template": str(folder / "sheet.npz"),
                "duration_s": n_frames / FPS,
            }
        )
    write_manifest(folder / "manifest.jsonl", rows)
    return folder / "manifest.jsonl"


@pytest.fixture
def spoken_rows(spoken) -> list[dict]:
    return read_manifest(spoken, need=("audio", "motion", "template"))


def draw_mouth(loudness: np.ndarray, skin: int) -> np.ndarray:
    """Lips (T, 96, 96) uint8: on skin of a gray level a dark ellipse, as high as (T,) is loud."""
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    height = 0.05 + 0.6 * loudness[:, None, None]
    return np.where((x / 0.6) ** 2 + (y / height) ** 2 < 1, 20, skin).astype(np.uint8)


@pytest.fixture(scope="session")
def lips_manifest(spoken, tmp_path_factory):
    """The manifest of the same ten utterances with such mouths: ann's skin is light, bob's dark."""
    folder = tmp_path_factory.mktemp("lips")
    rows = []
    for row in read_manifest(spoken, need=("audio", "motion")):
        loudness = Motion.load(row["motion"]).coefficients[:, JAW]
        lips = folder / f"{row['utt_id']}.mp4"
        write_lips(lips, draw_mouth(loudness, skin=200 if row["speaker"] == "ann" else 120))
        rows.append({**row, "lips": str(lips), "motion": None, "template": None})
    write_manifest(folder / "manifest.jsonl", rows)
    return folder / "manifest.jsonl"


@pytest.fixture
def lip_rows(lips_manifest) -> list[dict]:
    return read_manifest(lips_manifest, need=("audio", "lips"))


@pytest.fixture(scope="session")
def nodding_rows(spoken, tmp_path_factory) -> list[dict]:
    """The same utterances with heads that nod by 0.05 rad as loudly as they speak, and turn at random."""
    folder = tmp_path_factory.mktemp("nodding")
    rng = np.random.default_rng(1)
    rows = []
    for row in read_manifest(spoken, need=("audio", "motion", "template")):
        motion = Motion.load(row["motion"])
        pose = np.zeros((motion.n_frames, 6), np.float32)
        pose[:, 0] = 0.05 * motion.coefficients[:, JAW]
        pose[:, 1] = 0.05 * rng.standard_normal() + 0.01 * lfilter([1], [1, -0.8], rng.standard_normal(len(pose)))
        path = folder / f"{row['utt_id']}.npz"
        dataclasses.replace(motion, head_pose=pose).save(path)
        rows.append({**row, "motion": str(path)})
    return rows
