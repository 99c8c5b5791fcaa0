"""A reference and two motions of it, small enough to be measured in a second."""

import numpy as np
import pytest
import torch

from avsr.data.alignment import write_alignment
from avsr.data.manifest import write_manifest
from avsr.media.audio import write_wav
from talking3d.face.motion import Motion
from talking3d.face.procedural import procedural_face
from talking3d.models.syncnet3d import SyncNet3D, SyncNet3DConfig

TEXTS = {"u2": "bin at", "u0": "pin five at", "u1": "five"}  # a manifest need not be in order
PHONES = {"bin": "b ɪ n", "at": "æ t", "pin": "p ɪ n", "five": "f aɪ v"}
LOUDNESS = {"u0": 0.1, "u1": 0.2, "u2": 0.4}
FRAMES = {"u0": 30, "u1": 24, "u2": 45}


@pytest.fixture
def manifests(tmp_path):
    """{reference, near, far: manifest}: the far motion lies further from the reference's than the near one."""
    face = procedural_face()
    face.save(tmp_path / "face.npz")
    rng = np.random.default_rng(0)
    jaw = face.articulation_names.index("jaw_open")
    true = {}
    for utt_id in sorted(TEXTS):
        true[utt_id] = np.zeros((FRAMES[utt_id], len(face.articulation_names)))
        true[utt_id][:, jaw] = 0.4 + 0.4 * np.sin(np.arange(FRAMES[utt_id]) / 3)
    paths = {}
    for name, error in (("reference", 0.0), ("near", 0.1), ("far", 0.3)):
        rows = []
        for utt_id, text in TEXTS.items():
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            coefficients = true[utt_id] + error * rng.random(true[utt_id].shape)
            Motion.of_template(face, 25, coefficients=coefficients).save(folder / f"{utt_id}.npz")
            (folder / f"{utt_id}.mp4").write_bytes(f"{name} {utt_id}".encode())
            write_wav(tmp_path / f"{utt_id}.wav", LOUDNESS[utt_id] * np.sin(np.arange(640 * FRAMES[utt_id]) / 5))
            words, phones, now_s = [], [], 0.1
            for word in text.split():
                begin_s = now_s
                for phone in PHONES[word].split():
                    phones.append((now_s, now_s + 0.05, phone))
                    now_s += 0.05
                words.append((begin_s, now_s, word))
            write_alignment(tmp_path / f"{utt_id}.json", words, phones)
            files = {"motion": folder / f"{utt_id}.npz", "lips": folder / f"{utt_id}.mp4"}
            files |= {"audio": tmp_path / f"{utt_id}.wav", "alignment": tmp_path / f"{utt_id}.json"}
            row = {"utt_id": utt_id, "speaker": "s", "text": text, "duration_s": FRAMES[utt_id] / 25}
            rows.append(row | {"source": "rendered", "template": str(tmp_path / "face.npz")} | _as_text(files))
        paths[name] = tmp_path / f"{name}.jsonl"
        write_manifest(paths[name], rows)
    return paths


@pytest.fixture
def judge(tmp_path):
    """A checkpoint of an untrained sync network for the face of `manifests`, which tries 4 frames on each side."""
    face = procedural_face()
    torch.manual_seed(0)
    config = SyncNet3DConfig(width=16, dim=8, max_offset=4)
    SyncNet3D(config, face, face.articulation_basis[:8, face.region("lips")]).save_pretrained(tmp_path / "judge")
    return tmp_path / "judge"


def _as_text(files):
    return {field: str(path) for field, path in files.items()}


@pytest.fixture
def reader(monkeypatch):
    """A reader that knows the reference's lips, misses words of "near" and reads "far" as one word; `.asked` counts."""
    from avsr.files import write_jsonl
    from benchmarks import decodings, readback

    asked = []

    def decode(model, rows, config, *, out, **conditions):
        source = rows[0]["lips"].split("/")[-2]
        asked.append(source)
        heard = {"reference": lambda text: text, "near": lambda text: text.split()[0], "far": lambda text: "pin"}
        write_jsonl(out, [{"utt_id": row["utt_id"], "text": heard[source](row["text"])} for row in rows])

    monkeypatch.setattr(decodings, "decode_manifest", decode)
    monkeypatch.setattr(readback.Recognizer, "from_pretrained", lambda path: None)
    return asked
