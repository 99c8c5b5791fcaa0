"""How well a template was fitted to filmed clips: figures for every clip and for all, and pictures to judge by.

Letters: T video frames, H W picture height and width.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from avsr.files import write_json, write_text
from avsr.media.audio import read_audio
from avsr.media.landmarks import Landmarks
from avsr.media.timing import FPS
from avsr.media.video import stream_frames, write_video
from talking3d.corpus.motion_dataset import phones_of
from talking3d.face.face_frame import filmed_mouth, modelled_mouth
from talking3d.face.landmark_fit import LIPS
from talking3d.face.motion import Motion
from talking3d.face.template import FaceTemplate
from talking3d.metrics import CLOSED_MM, closures, correlation
from talking3d.render.camera import portrait_camera
from talking3d.render.compare import caption, in_rows, write_picture
from talking3d.render.renderer import render_face

R_OF = {"opening_r": "lip opening", "lower_r": "the lower lip's height", "width_r": "mouth width"}
WORST = 10  # clips that quality.md lists
SIDE = 256  # px, of the pictures
SHEET_FRAMES, SHEET_COLUMNS = 12, 6
LONGEST_FRAMES = 250  # of the side-by-side clip
ABOUT_FACE = 1.4  # the picture's side as a share of the face's
DRAWN = 2 * SIDE  # of the head, of which the face is shown
_FITTED, _DETECTED = (40, 230, 60), (235, 40, 40)


@dataclass(frozen=True)
class ClipQuality:
    """One clip's fit.

    opening_r, lower_r, width_r: correlation of the template's lip opening, lower inner lip's height and mouth width
    with the film's (`talking3d.face.face_frame`), over frames with a face; None where either stands still and where
    there are no landmarks. closed: share of the frames whose lips touch. closures: for each bilabial of the alignment's
    phones, whether the lips touch. Of fits to landmarks only: lip_error (T,), the mean distance of the lips' landmarks
    as a share of the mouth's width, NaN without a face; confidence, the mean.
    """

    utt_id: str
    n_frames: int
    opening_r: float | None
    lower_r: float | None
    width_r: float | None
    closed: float
    closures: tuple[bool, ...]
    lip_error: np.ndarray | None = None
    confidence: float | None = None

    @property
    def median_error(self) -> float | None:
        return None if self.lip_error is None else float(np.nanmedian(self.lip_error))

    @property
    def badness(self) -> float:
        """What clips are ranked by: how far the lips are off, or else how badly their opening follows the film's."""
        return self.median_error if self.lip_error is not None else -(self.opening_r or 0.0)


def clip_quality(row: dict, template: FaceTemplate, fit: str | Path | None = None) -> ClipQuality:
    """Measure the motion of a row, against its `landmarks` where it has any; fit: the file in fits/ of a fit to them.

    InputError on damaged files.
    """
    mouth = modelled_mouth(template, Motion.load(row["motion"]).offsets_for(template))
    rs: dict[str, float | None] = dict.fromkeys(R_OF)
    if row["landmarks"] is not None:
        landmarks = Landmarks.load(row["landmarks"])
        n = min(len(mouth.opening), len(landmarks.found))
        seen, film = np.flatnonzero(landmarks.found[:n]), filmed_mouth(landmarks)
        rs = {name: correlation(a[seen], b[seen]) for name, a, b in zip(R_OF, mouth, film, strict=True)}
    tracks = {}
    if fit is not None:
        with np.load(fit) as stored:
            tracks = {"lip_error": stored["lip_error"], "confidence": float(stored["confidence"].mean())}
    return ClipQuality(
        utt_id=row["utt_id"],
        n_frames=len(mouth.opening),
        closed=float((mouth.opening <= CLOSED_MM).mean()),
        closures=tuple(closures(mouth.opening, phones_of(row))),
        **rs,
        **tracks,
    )


def summary(clips: Sequence[ClipQuality], n_dropped: int) -> dict:
    """The figures of all clips: of errors the median and the 90 % quantile over frames, of correlations the median and
    the 10 % quantile over clips; shares of bilabials and of frames whose lips touch."""
    closed = [flag for clip in clips for flag in clip.closures]
    figures = {
        "clips": len(clips),
        "dropped": n_dropped,
        "frames": sum(clip.n_frames for clip in clips),
        "closed_frames": float(np.average([clip.closed for clip in clips], weights=[clip.n_frames for clip in clips])),
        "bilabials": len(closed),
        "bilabials_closed": float(np.mean(closed)) if closed else None,
    }
    if all(clip.lip_error is not None for clip in clips):
        errors = np.concatenate([clip.lip_error for clip in clips])
        figures["frames_without_face"] = int(np.isnan(errors).sum())
        figures["lip_error_median"] = float(np.nanmedian(errors))
        figures["lip_error_90"] = float(np.nanquantile(errors, 0.9))
        figures["confidence"] = float(np.mean([clip.confidence for clip in clips]))
    for name in R_OF:
        known = [value for clip in clips if (value := getattr(clip, name)) is not None]
        figures[f"{name}_median"] = float(np.median(known)) if known else None
        figures[f"{name}_10"] = float(np.quantile(known, 0.1)) if known else None
    return figures


def write_quality(out_dir: Path, clips: Sequence[ClipQuality], n_dropped: int) -> None:
    """Write quality.json (all clips) and quality.md (the summary and the worst clips)."""
    figures = summary(clips, n_dropped)
    each = [
        {
            "utt_id": clip.utt_id,
            "lip_error": _rounded(clip.median_error, 5),
            **{name: _rounded(getattr(clip, name), 4) for name in R_OF},
            "closed_frames": round(clip.closed, 4),
            "bilabials": len(clip.closures),
            "bilabials_closed": sum(clip.closures),
            "confidence": _rounded(clip.confidence, 4),
        }
        for clip in clips
    ]
    write_json(out_dir / "quality.json", {"summary": figures, "clips": each})
    fitted = "lip_error_median" in figures
    without = f" ({figures['frames_without_face']} without a face)" if fitted else ""
    lines = [
        "# Fit to video",
        "",
        f"{figures['clips']} clips, {figures['frames']} frames{without}, {figures['dropped']} clips dropped.",
        "",
        "| | median | 10 % / 90 % |",
        "|---|---|---|",
    ]
    if fitted:
        off, most = (f"{100 * figures[f'lip_error_{name}']:.2f}" for name in ("median", "90"))
        lines.append(f"| lip landmarks off, % of the mouth's width (frames) | {off} | {most} |")
    lines += [
        f"| correlation of {what} with the landmarks' (clips) | {_said(figures[f'{name}_median'])} | "
        f"{_said(figures[f'{name}_10'])} |"
        for name, what in R_OF.items()
    ]
    bilabials = (
        f" and on {100 * figures['bilabials_closed']:.1f} % of {figures['bilabials']} bilabials."
        if figures["bilabials"]
        else "; the alignments have no phones to find bilabials by."
    )
    lines += [
        "",
        f"Lips touch in {100 * figures['closed_frames']:.1f} % of the frames{bilabials}",
        "",
        "| worst clips | lips off, % | opening | lower lip | width | confidence |",
        "|---|---|---|---|---|---|",
    ]
    for clip in sorted(clips, key=lambda clip: -clip.badness)[:WORST]:
        off = "–" if clip.median_error is None else f"{100 * clip.median_error:.2f}"
        cells = [clip.utt_id, off, *(_said(getattr(clip, name)) for name in R_OF), _said(clip.confidence)]
        lines.append(f"| {' | '.join(cells)} |")
    write_text(out_dir / "quality.md", "\n".join(lines) + "\n")


def write_pictures(out_dir: Path, rows: Sequence[dict], clips: Sequence[ClipQuality]) -> None:
    """Write pictures/sheet.png and pictures/side_by_side.mp4 of the clip of median error, and pictures/sheet_worst.png.

    Of clips with a `video` and landmarks; where none has them there are no pictures.
    """
    filmed = [row.get("video") is not None and row.get("landmarks") is not None for row in rows]
    order = [i for i in np.argsort([clip.badness for clip in clips]) if filmed[i]]
    if not order:
        return
    usual, worst = rows[order[len(order) // 2]], rows[order[-1]]
    for row, name in ((usual, "sheet.png"), (worst, "sheet_worst.png")):
        n_frames = Motion.load(row["motion"]).n_frames
        shown = np.linspace(0, n_frames - 1, min(SHEET_FRAMES, n_frames)).round().astype(int)
        tiles = list(_tiles(out_dir, row, shown))
        strips = [caption(f"{frame / FPS:.2f} s", SIDE, SIDE // 10) for frame in shown]
        tiles = [np.concatenate([strip, tile]) for strip, tile in zip(strips, tiles, strict=True)]
        write_picture(out_dir / "pictures" / name, in_rows(tiles, SHEET_COLUMNS))
    frames = np.arange(min(Motion.load(usual["motion"]).n_frames, LONGEST_FRAMES))
    pictures = (np.concatenate(np.split(tile, 2), axis=1) for tile in _tiles(out_dir, usual, frames))
    write_video(out_dir / "pictures" / "side_by_side.mp4", pictures, read_audio(usual["audio"]))


def _tiles(out_dir: Path, row: dict, shown: np.ndarray) -> Iterator[np.ndarray]:
    """Yield (2 SIDE, SIDE, 3) for each of the frames: the film about its face, with the detector's (red) and the fit's
    points (green), and the drawn face below it, which turns but stays in its place."""
    template, motion = FaceTemplate.load(row["template"]), Motion.load(row["motion"]).part(shown)
    landmarks, fit = Landmarks.load(row["landmarks"]), out_dir / "fits" / f"{row['utt_id']}.npz"
    marks = [(landmarks.points, _DETECTED)]
    if fit.is_file():
        with np.load(fit) as tracks:
            marks.append((tracks["points"], _FITTED))
    seen = np.flatnonzero(landmarks.found)
    found = landmarks.points[seen]
    place = np.concatenate([_middle(found), ABOUT_FACE * np.ptp(found, axis=1).max(axis=1, keepdims=True)], axis=1)
    place = np.stack([np.interp(np.arange(len(landmarks.found)), seen, column) for column in place.T], axis=1)
    place = gaussian_filter1d(place, FPS / 4, axis=0, mode="nearest")
    turned = motion.head_pose * ([1, 1, 1, 0, 0, 0])
    drawn = render_face(template, motion.offsets_for(template), turned, size=DRAWN)
    marked = template.landmarks[template.landmarks >= 0]
    places, _ = portrait_camera(template.verts, DRAWN).project(template.verts[marked])
    drawn_at, drawn_side = _middle(places), ABOUT_FACE * float(np.ptp(places, axis=0).max())
    film = itertools.islice(stream_frames(row["video"]), int(shown.max()) + 1)
    wanted = set(shown.tolist())
    pictures = ((t, picture) for t, picture in enumerate(film) if t in wanted)
    for (t, picture), below in zip(pictures, drawn, strict=True):
        above = _cut(picture, place[t, :2], place[t, 2], [(points[t], color) for points, color in marks])
        yield np.concatenate([above, _cut(below, drawn_at, drawn_side)])


def _middle(points: np.ndarray) -> np.ndarray:
    """Of the box about points (..., P, 2), (..., 2)."""
    return (points.min(axis=-2) + points.max(axis=-2)) / 2


def _cut(picture: np.ndarray, middle: np.ndarray, side: float, marks: Sequence[tuple] = ()) -> np.ndarray:
    """The square of a picture (H, W, 3) about `middle`, as (SIDE, SIDE, 3), with marks: points (P, 2) and colour."""
    import cv2

    scale = SIDE / side
    shift = (SIDE - 1) / 2 - scale * middle
    transform = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    tile = cv2.warpAffine(picture, transform, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
    for points, color in marks:
        for number in range(len(points)):
            if np.isfinite(points[number]).all():
                x, y = scale * points[number] + shift
                cv2.circle(tile, (round(16 * x), round(16 * y)), 16 if number < LIPS[0] else 20, color, -1, shift=4)
    return tile


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _said(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
