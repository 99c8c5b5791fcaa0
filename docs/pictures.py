"""Draws the pictures of this folder: visemes of the procedural face, close up and as lip crops, identities and looks.

python docs/pictures.py [--ict ICT_FACEKIT/FaceXModel]

With ICT-FaceKit's published folder also the same visemes of its head, carried over by `face/transfer.py`.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from avsr.media.timing import FPS
from talking3d.corpus.articulation import LipAperture, Style, articulate
from talking3d.corpus.visemes import CONSONANTS, VOWELS
from talking3d.face.ict import load_ict
from talking3d.face.motion import Motion
from talking3d.face.procedural import procedural_face, random_identity
from talking3d.face.template import FaceTemplate
from talking3d.face.transfer import transfer
from talking3d.render.camera import portrait_camera
from talking3d.render.compare import caption, in_rows, write_picture
from talking3d.render.look import random_look
from talking3d.render.renderer import render_face, render_lips, stream_face

HERE = Path(__file__).parent
HELD_S = (0.4, 1.0)  # a phone so long that its middle is its target
COLUMNS = 8
CLOSE_UP = 512  # px a side: a window on the lower face,
MOUTH_WIDTHS = 2.2  # as wide as so many mouths
SHOWN, CAPTION = 256, 26  # px: a tile's side in a sheet, a caption's height
IDENTITIES, LOOKS = 8, 24


def viseme_classes() -> dict[str, str]:
    """The corpus's classes of lip shapes: all their phones -> one of them; silence is "". Equal vowels share one."""
    classes = {"silence": ""} | {consonant.ipa: consonant.ipa.split()[0] for consonant in CONSONANTS.values()}
    vowels: dict[tuple, list[str]] = {}
    for symbol, targets in VOWELS.items():
        vowels.setdefault(targets, []).append(symbol)
    return classes | {" ".join(symbols): symbols[0] for symbols in vowels.values()}


def held(face: FaceTemplate, symbol: str) -> np.ndarray:
    """Coefficients (K,) of a face in the middle of a long phone, as the corpus's rules move it; "" is silence."""
    phones = [(*HELD_S, symbol)] if symbol else []
    motion = articulate(phones, sum(HELD_S), Style(), LipAperture.of_template(face), np.random.default_rng(0))
    return motion[len(motion) // 2]


def viseme_sheet(face: FaceTemplate, poses: dict[str, np.ndarray], path: Path, view: str) -> None:
    """Draw a face in poses, label -> (K,) coefficients of its articulation, in labelled rows, to a .png or .jpg.

    view: "close" for the lower face drawn at 512 x 512, "lips" for the recogniser's 96 x 96 crops; shown at 256 px.
    """
    offsets = face.offsets(np.stack(list(poses.values())))
    pictures = lower_faces(face, offsets) if view == "close" else render_lips(face, offsets)
    write_picture(path, in_rows([_tile(*pair) for pair in zip(pictures, poses, strict=True)], COLUMNS))


def lower_faces(face: FaceTemplate, offsets: np.ndarray) -> list[np.ndarray]:
    """The lower face (512, 512, 3) in each frame of offsets (T, V, 3), cut out of a large portrait."""
    mouth = face.verts[face.landmarks[48:68]]
    width_m = MOUTH_WIDTHS * float(np.ptp(mouth[:, 0]))
    unit = portrait_camera(face.verts, 1000)
    near = unit.position_m[2] - float(mouth[:, 2].mean())
    large = round(1000 * CLOSE_UP * near / (unit.focal_px * width_m))  # px of a portrait with such a window
    (x, y), _ = (found[0] for found in portrait_camera(face.verts, large).project(mouth.mean(axis=0, keepdims=True)))
    left, top = round(float(x)) - CLOSE_UP // 2, round(float(y)) - CLOSE_UP // 2
    return [
        head[top : top + CLOSE_UP, left : left + CLOSE_UP].copy() for head in stream_face(face, offsets, size=large)
    ]


def _tile(picture: np.ndarray, label: str = "") -> np.ndarray:
    """A picture (H, W) or (H, W, 3) at SHOWN px a side, under its label."""
    smaller = len(picture) > SHOWN
    shown = cv2.resize(picture, (SHOWN, SHOWN), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_NEAREST)
    shown = shown if shown.ndim == 3 else np.repeat(shown[..., None], 3, axis=-1)
    return np.concatenate([caption(label, SHOWN, CAPTION), shown]) if label else shown


def carried(poses: dict[str, np.ndarray], source: FaceTemplate, target: FaceTemplate) -> dict[str, np.ndarray]:
    """Poses of one face, label -> coefficients, as another's, which has articulators of its own."""
    motion = Motion.of_template(source, FPS, coefficients=np.stack(list(poses.values())))
    moved, error = transfer(motion, source, target, round_trip=False)
    print(error)
    return dict(zip(poses, moved.coefficients, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ict", type=Path, help="the folder of ICT-FaceKit's meshes")
    folder = parser.parse_args().ict
    face = procedural_face()
    poses = {phones: held(face, symbol) for phones, symbol in viseme_classes().items()}
    viseme_sheet(face, poses, HERE / "visemes.jpg", "close")
    viseme_sheet(face, poses, HERE / "visemes_96.png", "lips")
    if folder is not None:
        ict = load_ict(folder)
        viseme_sheet(ict, carried(poses, face, ict), HERE / "visemes_ict.jpg", "close")
        viseme_sheet(ict, carried(poses, face, ict), HERE / "visemes_ict_96.png", "lips")

    people = [random_identity(np.random.default_rng(seed)) for seed in range(LOOKS)]
    shapes = [person.offsets(np.stack([held(person, symbol) for symbol in ("", "ɑ", "i")])) for person in people]
    portraits = [
        render_face(person, shape[i % 2 : i % 2 + 1], size=2 * SHOWN)[0]
        for i, (person, shape) in enumerate(zip(people[:IDENTITIES], shapes, strict=False))
    ]
    write_picture(HERE / "identities.png", in_rows([_tile(portrait) for portrait in portraits], IDENTITIES // 2))

    looks = [random_look(np.random.default_rng(seed)) for seed in range(LOOKS)]
    lips = [render_lips(*drawn, None, look)[2] for *drawn, look in zip(people, shapes, looks, strict=True)]
    write_picture(HERE / "looks.png", in_rows([_tile(crop) for crop in lips], COLUMNS))


if __name__ == "__main__":
    main()
