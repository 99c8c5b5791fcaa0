"""A pack of clips for listeners: who hears what, and the folders that they are given.

OUT/listener_01/index.html     what to do, the clips, a form for what was heard
OUT/listener_01/answers.csv    the same form as a sheet: clip, heard
OUT/listener_01/clips/*.mp4    numbered in the order of hearing

The same arguments and seed give the same bytes.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from avsr.data.arrays import fit_frames
from avsr.data.noise import disturb, noise_hash, read_noise_manifest
from avsr.errors import InputError
from avsr.files import atomic_path, write_json, write_text
from avsr.media.audio import read_audio
from avsr.media.timing import frames_of
from avsr.media.video import read_frames, read_lips, write_video
from benchmarks.digests import Digests
from benchmarks.listening.page import answer_sheet, instructions
from talking3d.face.motion import Motion
from talking3d.face.template import FaceTemplate
from talking3d.render.renderer import render_face

VIEWS = ("face", "lips")
SOUND = "sound"  # the system without a face
BLANK = 128  # the gray that it shows


@dataclass(frozen=True)
class Pack:
    """listeners: how many folders. utterances: how many of the reference's; None: all. size: pixels a side, even."""

    listeners: int = 1
    utterances: int | None = None
    view: str = "face"
    size: int = 384
    seed: int = 0

    def __post_init__(self):
        if self.listeners < 1 or (self.utterances is not None and self.utterances < 1):
            raise InputError(f"--listeners {self.listeners}, --utterances {self.utterances}: expected 1 or more")
        if self.view not in VIEWS:
            raise InputError(f"--view {self.view}: expected one of {', '.join(VIEWS)}")
        if self.size < 32 or self.size % 2:
            raise InputError(f"--size {self.size}: expected an even number of pixels, 32 or more")


def assign(utt_ids: Sequence[str], systems: Sequence[str], pack: Pack) -> list[list[tuple[str, str]]]:
    """Who hears what: for each listener (utt_id, system), every utterance once, in an order of the listener's own.

    Utterance i is said to listener l by system (i + l) mod S of S systems, utterances and systems shuffled before: S
    listeners one after the other hear each utterance by every system, and one listener hears each system equally
    often, to one utterance.
    """
    rng = np.random.default_rng(pack.seed)
    utt_ids = rng.permutation(sorted(utt_ids))[: pack.utterances].tolist()
    systems = rng.permutation(sorted(systems)).tolist()
    heard = []
    for listener in range(pack.listeners):
        pairs = [(utt_id, systems[(i + listener) % len(systems)]) for i, utt_id in enumerate(utt_ids)]
        heard.append([pairs[i] for i in rng.permutation(len(pairs))])
    return heard


def make_pack(faces: dict[str, list[dict]], noise: str | Path, out: Path, key: Path, pack: Pack) -> None:
    """Write the folder `out`, whole or not at all, and the key.

    faces: {system: manifest rows}; "reference" has the utterances, their sound and texts. noise: a noise manifest with
    a line for each of them.

    Raises InputError: a folder or a key that is there already, a key inside the folder, what a manifest lacks for the
    view, noise for other utterances.
    """
    for path in (out, key):
        if path.exists():
            raise InputError(f"{path} is there already, and answers to it may be too: name another")
    if out.resolve() in key.resolve().parents:
        raise InputError(f"--key {key} lies within {out}, which listeners are given: put it elsewhere")
    rows = {name: {row["utt_id"]: row for row in of} for name, of in faces.items()}
    references, lines = rows["reference"], {line["utt_id"]: line for line in read_noise_manifest(noise)}
    for name, of in (*rows.items(), ("--noise", lines)):
        missing = [utt_id for utt_id in references if utt_id not in of]
        if missing:
            raise InputError(f"{name!r} lacks {len(missing)} utterances of the reference: {missing[:3]}")
    untold = [utt_id for utt_id, row in references.items() if not (row["text"] or "").strip()]
    if untold:
        raise InputError(f"{untold[0]}: the reference has no text for it, so what is heard cannot be scored")
    heard = assign(list(references), [*faces, SOUND], pack)
    clips, drawn = {}, {}
    with atomic_path(out) as partial:
        for listener, pairs in enumerate(tqdm(heard, desc="clips", unit="listener", disable=None), start=1):
            folder, names = partial / f"listener_{listener:02d}", []
            for number, (utt_id, system) in enumerate(pairs, start=1):
                name, row = f"L{listener:02d}C{number:03d}", references[utt_id]
                clip = folder / "clips" / f"{name}.mp4"
                if (utt_id, system) in drawn:  # for another listener
                    clip.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(drawn[utt_id, system], clip)
                else:
                    waveform = disturb(read_audio(row["audio"]), lines[utt_id])
                    shown = None if system == SOUND else rows[system][utt_id]
                    write_video(clip, _pictures(shown, len(waveform), pack), waveform)
                    drawn[utt_id, system] = clip
                clips[name] = {"listener": listener, "utt_id": utt_id, "system": system, "text": row["text"]}
                names.append(name)
            write_text(folder / "index.html", instructions(names))
            write_text(folder / "answers.csv", answer_sheet(names))
        told = {
            "reference": Digests().of_reference(references.values()),
            "noise": {Path(noise).stem: noise_hash(list(lines.values()))},
            **asdict(pack),
            "systems": [*faces, SOUND],
            "clips": clips,
        }
        write_json(key, told)


def _pictures(row: dict | None, n_samples: int, pack: Pack) -> np.ndarray:
    """Pictures (T, H, W, 3) or (T, H, W) uint8 for so much sound; those of no row are blank."""
    n_frames = frames_of(n_samples)
    if row is None:
        return np.full((n_frames, pack.size, pack.size), BLANK, np.uint8)
    if pack.view == "lips":
        if row["lips"] is None:
            raise InputError(f"{row['utt_id']}: its manifest line has no lips; draw them with `talking3d draw`")
        import cv2

        lips = fit_frames(read_lips(row["lips"]), n_frames)
        return np.stack([cv2.resize(each, (pack.size, pack.size), interpolation=cv2.INTER_CUBIC) for each in lips])
    if row["motion"] is not None and row["template"] is not None:
        face, motion = FaceTemplate.load(row["template"]), Motion.load(row["motion"])
        drawn = render_face(face, motion.offsets_for(face), motion.head_pose, size=pack.size)
        return fit_frames(drawn, n_frames)
    if row["video"] is not None:
        return fit_frames(read_frames(row["video"]), n_frames)
    raise InputError(f"{row['utt_id']}: neither motion with its template nor video: show its lips with --view lips")
