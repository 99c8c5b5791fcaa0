"""Draws the pictures of this folder: visemes of the procedural face close up and as lip crops, and identities.

python docs/pictures.py
"""

from pathlib import Path

import matplotlib
import numpy as np

from talking3d.corpus.articulation import LipAperture, Style, articulate
from talking3d.face.procedural import procedural_face, random_identity
from talking3d.face.template import FaceTemplate
from talking3d.render.camera import portrait_camera
from talking3d.render.renderer import render_face, render_lips

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

HERE = Path(__file__).parent
VISEMES = dict(
    zip(
        ("rest", "p b m", "f v", "θ ð", "t d n", "l", "s z", "ʃ ʒ", "k ɡ", "ɹ", "w", "i", "æ", "ɑ", "ɔ", "u"),
        ("", "m", "f", "θ", "t", "l", "s", "ʃ", "k", "ɹ", "w", "i", "æ", "ɑ", "ɔ", "u"),
        strict=True,
    )
)
LARGE, CLOSE = 1400, 210  # px: the head, and half the side of the close-up that is cut from it


def held(face: FaceTemplate, symbol: str) -> np.ndarray:
    """Offsets (V, 3) of a face in the middle of a long phone, as the corpus's rules move it; "" is silence."""
    phones = [(0.4, 1.0, symbol)] if symbol else []
    motion = articulate(phones, 1.4, Style(), LipAperture.of_template(face), np.random.default_rng(0))
    return face.offsets(motion[17:18])[0]


def sheet(pictures: list[np.ndarray], titles: list[str], columns: int, inches: float, path: Path) -> None:
    """Save pictures in rows under their titles."""
    rows = -(-len(pictures) // columns)
    size = (columns * inches, rows * (inches + 0.25))
    figure, axes = pyplot.subplots(rows, columns, figsize=size, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, picture, title in zip(axes.flat, pictures, titles, strict=False):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axis.set_title(title, fontsize=10)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def main() -> None:
    face = procedural_face()
    offsets = np.stack([held(face, symbol) for symbol in VISEMES.values()])
    mouth = face.verts[face.landmarks[48:68]].mean(axis=0)
    (x, y), _ = (values[0] for values in portrait_camera(face.verts, LARGE).project(mouth[None]))
    x, y = round(float(x)), round(float(y))
    close = [head[y - CLOSE : y + CLOSE, x - CLOSE : x + CLOSE] for head in render_face(face, offsets, size=LARGE)]
    sheet(close, list(VISEMES), 4, 2.6, HERE / "visemes.png")
    sheet(list(render_lips(face, offsets)), list(VISEMES), 8, 1.2, HERE / "visemes_96.png")
    people = [random_identity(np.random.default_rng(seed)) for seed in range(8)]
    faces = [render_face(person, held(person, "ɑ" if i % 2 else "")[None])[0] for i, person in enumerate(people)]
    sheet(faces, [""] * len(faces), 4, 2.6, HERE / "identities.png")


if __name__ == "__main__":
    main()
