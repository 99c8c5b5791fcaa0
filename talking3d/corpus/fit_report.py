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

    lip_error (T,): mean distance of the lips' landmarks as a share of the mouth's width, NaN without a face.
    opening_r, lower_r, width_r: correlation of the template's lip opening, lower inner lip's height and mouth width
    with the film's (`talking3d.face.face_frame`), over frames with a face; None where either stands still. closed:
    share of the frames whose lips touch. closures: for each bilabial of the alignment's phones, whether the lips touch.
    confidence: the mean.
    the alignment's phones, whether the lips touch. confidence: the mean.
    """

    utt_id: str
    lip_error: np.ndarray
    opening_r: float | None
    lower_r: float | None
    width_r: float | None
    closed: float
    closures: tuple[bool, ...]
    confidence: float

    @property
    def median_error(self) -> float:
        return float(np.nanmedian(self.lip_error))


def clip_quality(row: dict, fit: str | Path, template: FaceTemplate) -> ClipQuality:
    """Measure the fit of a row with `motion` and `landmarks`; fit: its file in fits/. InputError on damaged files."""
    motion, landmarks = Motion.load(row["motion"]), Landmarks.load(row["landmarks"])
    with np.load(fit) as tracks:
        lip_error, confidence = tracks["lip_error"], tracks["confidence"]
    mouth = modelled_mouth(template, motion.offsets_for(template))
    pairs = zip(mouth, filmed_mouth(landmarks), strict=True)
    opening_r, lower_r, width_r = (
        correlation(ours[landmarks.found], theirs[landmarks.found]) for ours, theirs in pairs
    )
    return ClipQuality(
        utt_id=row["utt_id"],
        lip_error=lip_error,
        opening_r=opening_r,
        lower_r=lower_r,
        width_r=width_r,
        closed=float((mouth.opening <= CLOSED_MM).mean()),
        closures=tuple(closures(mouth.opening, phones_of(row))),
        confidence=float(confidence.mean()),
    )


def summary(clips: Sequence[ClipQuality], n_dropped: int) -> dict:
    """The figures of all clips: of errors the median and the 90 % quantile over frames, of correlations the median and
    the 10 % quantile over clips; shares of bilabials and of frames whose lips touch."""
    errors = np.concatenate([clip.lip_error for clip in clips])
    closed = [flag for clip in clips for flag in clip.closures]
    figures = {
        "clips": len(clips),
        "dropped": n_dropped,
        "frames": len(errors),
        "frames_without_face": int(np.isnan(errors).sum()),
        "lip_error_median": float(np.nanmedian(errors)),
        "lip_error_90": float(np.nanquantile(errors, 0.9)),
        "closed_frames": float(np.average([c.closed for c in clips], weights=[len(c.lip_error) for c in clips])),
        "bilabials": len(closed),
        "bilabials_closed": float(np.mean(closed)) if closed else None,
        "confidence": float(np.mean([clip.confidence for clip in clips])),
    }
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
            "lip_error": round(clip.median_error, 5),
            **{name: None if (r := getattr(clip, name)) is None else round(r, 4) for name in R_OF},
            "closed_frames": round(clip.closed, 4),
            "bilabials": len(clip.closures),
            "bilabials_closed": sum(clip.closures),
            "confidence": round(clip.confidence, 4),
        }
        for clip in clips
    ]
    write_json(out_dir / "quality.json", {"summary": figures, "clips": each})
    lines = [
        "# Fit to video",
        "",
        f"{figures['clips']} clips, {figures['frames']} frames ({figures['frames_without_face']} without a face), "
        f"{figures['dropped']} clips dropped.",
        "",
        "| | median | 10 % / 90 % |",
        "|---|---|---|",
        f"| lip landmarks off, % of the mouth's width (frames) | {100 * figures['lip_error_median']:.2f} | "
        f"{100 * figures['lip_error_90']:.2f} |",
        *(
            f"| correlation of {what} with the landmarks' (clips) | {_said(figures[f'{name}_median'])} | "
            f"{_said(figures[f'{name}_10'])} |"
            for name, what in R_OF.items()
        ),
        "",
        f"Lips touch in {100 * figures['closed_frames']:.1f} % of the frames"
        + (
            f" and on {100 * figures['bilabials_closed']:.1f} % of {figures['bilabials']} bilabials."
            if figures["bilabials"]
            else "; the alignments have no phones to find bilabials by."
        ),
        "",
        "| worst clips | lips off, % | opening | lower lip | width | confidence |",
        "|---|---|---|---|---|---|",
        *(
            f"| {clip.utt_id} | {100 * clip.median_error:.2f} | "
            + "".join(f"{_said(getattr(clip, name))} | " for name in R_OF)
            + f"{clip.confidence:.2f} |"
            for clip in sorted(clips, key=lambda clip: -clip.median_error)[:WORST]
        ),
    ]
    write_text(out_dir / "quality.md", "\n".join(lines) + "\n")


def write_pictures(out_dir: Path, rows: Sequence[dict], clips: Sequence[ClipQuality]) -> None:
    """Write pictures/sheet.png and pictures/side_by_side.mp4 of the clip of median error, and pictures/sheet_worst.png.

    Of clips with a `video`; where none has one there are no pictures.
    """
    order = [i for i in np.argsort([clip.median_error for clip in clips]) if rows[i].get("video") is not None]
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
    with np.load(out_dir / "fits" / f"{row['utt_id']}.npz") as tracks:
        fitted = tracks["points"]
    detected = Landmarks.load(row["landmarks"]).points
    at = gaussian_filter1d(_middle(detected), FPS / 2, axis=0, mode="nearest")
    side = ABOUT_FACE * float(np.median(np.ptp(detected, axis=1).max(axis=1)))
    turned = motion.head_pose * ([1, 1, 1, 0, 0, 0])
    drawn = render_face(template, motion.offsets_for(template), turned, size=DRAWN)
    places = portrait_camera(template.verts, DRAWN).project(
        template.verts[template.landmarks[template.landmarks >= 0]]
    )[0]
    drawn_at, drawn_side = _middle(places), ABOUT_FACE * float(np.ptp(places, axis=0).max())
    film = itertools.islice(stream_frames(row["video"]), int(shown.max()) + 1)
    wanted = set(shown.tolist())
    pictures = ((t, picture) for t, picture in enumerate(film) if t in wanted)
    for (t, picture), below in zip(pictures, drawn, strict=True):
        above = _cut(picture, at[t], side, [(detected[t], _DETECTED), (fitted[t], _FITTED)])
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


def _said(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
