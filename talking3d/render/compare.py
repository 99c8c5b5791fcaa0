"""Pictures to look at motion by: contact sheets of one motion, side-by-side clips of several.

Letters: T video frames, H W picture height and width in pixels. Pictures are uint8 RGB.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from avsr.errors import InputError
from avsr.files import atomic_path
from avsr.media.audio import read_audio
from avsr.media.timing import FPS, frames_of
from avsr.media.video import write_video
from talking3d.face.motion import Motion
from talking3d.face.procedural import procedural_face
from talking3d.face.template import FaceTemplate
from talking3d.render.renderer import render_face, render_lips

VIEWS = ("face", "lips")
SHEET_FRAMES, SHEET_COLUMNS, SHEET_SIZE = 12, 6, 256
COMPARE_SIZE, COMPARE_COLUMNS = 384, 4
FRAMES_AT_ONCE = 50  # drawn together; bounds memory
SOUND_MAY_DIFFER_FRAMES = 5  # codecs pad sound
GAP = 4  # px of paper between pictures
PAPER = 255
TEXT_SHARE = 0.62  # of a caption's height
DPI = 100


def contact_sheet(
    motion: str | Path,
    out: str | Path,
    *,
    template: str | Path | None = None,
    times_s: Sequence[float] | None = None,
    n_frames: int = SHEET_FRAMES,
    columns: int = SHEET_COLUMNS,
    size: int = SHEET_SIZE,
    view: str = "face",
) -> list[float]:
    """Draw frames of a motion file side by side, in rows, each with its time above it, to a .png.

    Args:
        template: the face that moves, .npz; None: the procedural one.
        times_s: when; each shows the nearest frame. None: n_frames (or all, if they are fewer) at even distances from
            the first to the last.
        size: pixels a side of the head's pictures; those of the lips have 96.
        view: "face" or "lips", as the recogniser sees them.

    Returns:
        the times (s) of the frames that are shown.

    Raises:
        InputError: another suffix, an unreadable motion or one of another rate or topology, a time outside the motion,
            fewer than one frame or column.
    """
    out = _with_suffix(out, ".png")
    if n_frames < 1 or columns < 1:
        raise InputError(f"a sheet needs at least one frame and one column, got {n_frames} and {columns}")
    face = _face(template)
    loaded = _load(motion, face)
    if times_s is None:
        shown = np.linspace(0, loaded.n_frames - 1, min(n_frames, loaded.n_frames)).round().astype(int)
    else:
        shown = np.array([_frame_at(time_s, loaded, motion) for time_s in times_s], int)
    pictures = list(_pictures(loaded, face, shown, view, size))
    side = pictures[0].shape[0]
    captions = [caption(f"{frame / FPS:.2f} s", side, max(20, side // 10)) for frame in shown]
    tiles = [np.concatenate([above, picture]) for above, picture in zip(captions, pictures, strict=True)]
    write_picture(out, in_rows(tiles, columns))
    return (shown / FPS).tolist()


def compare(
    motions: Sequence[str | Path],
    out: str | Path,
    *,
    labels: Sequence[str] | None = None,
    audio: str | Path | None = None,
    template: str | Path | None = None,
    size: int = COMPARE_SIZE,
    view: str = "face",
) -> None:
    """Draw motion files side by side in one clip (.mp4), on one face, with one sound and a label under each.

    Up to four stand in a row. labels: one for each motion; None: the files' names. template, size, view: as
    `contact_sheet`; size is even.

    Raises InputError: another suffix, no motions, another number of labels, motions of different lengths, an unreadable
    motion or one of another rate or topology, sound that is more than 0.2 s longer or shorter, an odd size.
    """
    out = _with_suffix(out, ".mp4")
    if not motions:
        raise InputError("no motions to compare: give at least one .npz file")
    labels = [Path(path).stem for path in motions] if labels is None else list(labels)
    if len(labels) != len(motions):
        raise InputError(f"{len(labels)} labels for {len(motions)} motions: give one for each, in their order")
    if size % 2:
        raise InputError(f"size {size} is odd; H.264 needs even sides")
    face = _face(template)
    loaded = [_load(path, face) for path in motions]
    lengths = {motion.n_frames for motion in loaded}
    if len(lengths) > 1:
        said = ", ".join(f"{path}: {motion.n_frames}" for path, motion in zip(motions, loaded, strict=True))
        raise InputError(f"the motions differ in length ({said} frames): compare motions made for the same sound")
    waveform = None if audio is None else read_audio(audio)
    (n_frames,) = lengths
    if waveform is not None and abs(frames_of(len(waveform)) - n_frames) > SOUND_MAY_DIFFER_FRAMES:
        raise InputError(
            f"{audio} lasts {frames_of(len(waveform)) / FPS:.2f} s, the motions {n_frames / FPS:.2f} s: "
            "give the sound that they were made for"
        )
    write_video(out, _side_by_side(loaded, labels, face, view, size), waveform)


def caption(text: str, width: int, height: int) -> np.ndarray:
    """A line of dark text on paper (height, width, 3), in the middle; long text is set smaller, until it fits."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    line = figure.text(0.5, 0.5, text, ha="center", va="center_baseline", color="0.1")
    line.set_fontsize(TEXT_SHARE * height * 72 / DPI)
    line.set_parse_math(False)
    extent = line.get_window_extent(canvas.get_renderer()).width
    if extent > 0.96 * width:
        line.set_fontsize(line.get_fontsize() * 0.96 * width / extent)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def in_rows(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Equal pictures (H, W, 3) in rows of at most `columns` on paper, gaps between; both sides of it are even."""
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), PAPER, np.uint8)
    sheet = np.pad(sheet, ((0, sheet.shape[0] % 2), (0, sheet.shape[1] % 2), (0, 0)), constant_values=PAPER)
    for i, tile in enumerate(tiles):
        y, x = i // columns * (height + GAP), i % columns * (width + GAP)
        sheet[y : y + height, x : x + width] = tile
    return sheet


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write a picture (H, W, 3) as .png or .jpg, whole or not at all."""
    from matplotlib.image import imsave

    with atomic_path(path) as partial:
        imsave(partial, picture)


def _with_suffix(out: str | Path, suffix: str) -> Path:
    out = Path(out)
    if out.suffix != suffix:
        raise InputError(f"{out}: cannot write {out.suffix or 'a file without suffix'!r}; use {suffix}")
    return out


def _face(template: str | Path | None) -> FaceTemplate:
    return procedural_face() if template is None else FaceTemplate.load(template)


def _load(path: str | Path, face: FaceTemplate) -> Motion:
    motion = Motion.load(path)
    if motion.fps != FPS:
        raise InputError(f"{path} runs at {motion.fps:g} fps, expected {FPS}: resample it first")
    try:
        motion.part(slice(1)).offsets_for(face)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return motion


def _frame_at(time_s: float, motion: Motion, path: str | Path) -> int:
    frame = round(time_s * FPS) if np.isfinite(time_s) else -1
    if not 0 <= frame < motion.n_frames:
        raise InputError(f"{path} has no frame at {time_s:g} s: it lasts {motion.n_frames / FPS:.2f} s")
    return frame


def _pictures(motion: Motion, face: FaceTemplate, frames: np.ndarray, view: str, size: int) -> Iterator[np.ndarray]:
    """Yield these frames (N,) of a motion as RGB pictures."""
    if view not in VIEWS:
        raise InputError(f"unknown view {view!r}: expected one of {', '.join(VIEWS)}")
    if view == "lips":  # a crop's place depends on the frames around it: the whole clip is drawn
        lips = render_lips(face, motion.offsets_for(face), motion.head_pose)[frames]
        yield from np.repeat(lips[..., None], 3, axis=-1)
        return
    for start in range(0, len(frames), FRAMES_AT_ONCE):
        part = motion.part(frames[start : start + FRAMES_AT_ONCE])
        yield from render_face(face, part.offsets_for(face), part.head_pose, size=size)


def _side_by_side(motions: list[Motion], labels: list[str], face: FaceTemplate, view: str, size: int):
    """Yield frames of the motions' pictures in rows, a label under each."""
    everything = np.arange(motions[0].n_frames)
    strips: list[np.ndarray] = []
    for pictures in zip(*(_pictures(motion, face, everything, view, size) for motion in motions), strict=True):
        side = pictures[0].shape[0]
        strips = strips or [caption(label, side, max(20, side // 12)) for label in labels]
        tiles = [np.concatenate([picture, strip]) for picture, strip in zip(pictures, strips, strict=True)]
        yield in_rows(tiles, COMPARE_COLUMNS)
