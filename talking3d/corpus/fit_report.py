"""How well a template was fitted to filmed clips: figures for every clip and for all, and pictures to judge by.

Letters: T video frames, H W picture height and width.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avsr.files import write_json, write_text
from avsr.media.audio import read_audio
from avsr.media.landmarks import Landmarks
from avsr.media.timing import FPS
from avsr.media.video import stream_frames, write_video
from talking3d.corpus.motion_dataset import phones_of
from talking3d.face.landmark_fit import LIPS
from talking3d.face.motion import Motion
from talking3d.face.regions import lip_aperture_mm, lip_width_mm
from talking3d.face.template import FaceTemplate
from talking3d.metrics import CLOSED_MM, closures
from talking3d.render.compare import caption, in_rows, write_picture
from talking3d.render.renderer import render_face

WORST = 10  # clips that quality.md lists
SIDE = 256  # px, of the pictures
SHEET_FRAMES, SHEET_COLUMNS = 12, 6
LONGEST_FRAMES = 250  # of the side-by-side clip
ABOUT_FACE = 1.5  # the picture's side as a share of the face's
_FITTED, _DETECTED = (40, 230, 60), (235, 40, 40)


@dataclass(frozen=True)
class ClipQuality:
    """One clip's fit.

    lip_error (T,): mean distance of the lips' landmarks as a share of the mouth's width, NaN without a face.
    opening_r, width_r: correlation of the template's lip opening and width with the detector's, over frames with a
    face; None where either stands still. closed: share of the frames whose lips touch. closures: for each bilabial of
    the alignment's phones, whether the lips touch. confidence: the mean.
    """

    utt_id: str
    lip_error: np.ndarray
    opening_r: float | None
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
    offsets, seen = motion.offsets_for(template), landmarks.found
    opening, width = lip_aperture_mm(template, offsets), lip_width_mm(template, offsets)
    points = landmarks.points
    return ClipQuality(
        utt_id=row["utt_id"],
        lip_error=lip_error,
        opening_r=_correlation(opening[seen], np.linalg.norm(points[seen, 66] - points[seen, 62], axis=1)),
        width_r=_correlation(width[seen], np.linalg.norm(points[seen, 54] - points[seen, 48], axis=1)),
        closed=float((opening <= CLOSED_MM).mean()),
        closures=tuple(closures(opening, phones_of(row))),
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
    for name in ("opening_r", "width_r"):
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
            "opening_r": clip.opening_r,
            "width_r": clip.width_r,
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
            f"| correlation of lip {what} with the landmarks' (clips) | {_said(figures[f'{name}_median'])} | "
            f"{_said(figures[f'{name}_10'])} |"
            for what, name in (("opening", "opening_r"), ("width", "width_r"))
        ),
        "",
        f"Lips touch in {100 * figures['closed_frames']:.1f} % of the frames"
        + (
            f" and on {100 * figures['bilabials_closed']:.1f} % of {figures['bilabials']} bilabials."
            if figures["bilabials"]
            else "; the alignments have no phones to find bilabials by."
        ),
        "",
        "| worst clips | lips off, % | opening | width | confidence |",
        "|---|---|---|---|---|",
        *(
            f"| {clip.utt_id} | {100 * clip.median_error:.2f} | {_said(clip.opening_r)} | {_said(clip.width_r)} | "
            f"{clip.confidence:.2f} |"
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
    """Yield (2 SIDE, SIDE, 3) for each of the frames: the film with the detector's (red) and the fit's points (green),
    and the drawn face below it."""
    template, motion = FaceTemplate.load(row["template"]), Motion.load(row["motion"]).part(shown)
    with np.load(out_dir / "fits" / f"{row['utt_id']}.npz") as tracks:
        fitted = tracks["points"]
    detected = Landmarks.load(row["landmarks"]).points
    drawn = render_face(template, motion.offsets_for(template), motion.head_pose, size=SIDE)
    middle, side = _frame_of(detected)
    film = itertools.islice(stream_frames(row["video"]), int(shown.max()) + 1)
    wanted = set(shown.tolist())
    pictures = ((t, picture) for t, picture in enumerate(film) if t in wanted)
    for (t, picture), below in zip(pictures, drawn, strict=True):
        yield np.concatenate([_film_tile(picture, detected[t], fitted[t], middle, side), below])


def _frame_of(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Middle (2,) and side of a square about the face through the clip, pixels."""
    low, high = (np.nanquantile(points.reshape(-1, 2), q, axis=0) for q in (0.01, 0.99))
    return (low + high) / 2, ABOUT_FACE * float((high - low).max())


def _film_tile(picture, detected, fitted, middle, side) -> np.ndarray:
    import cv2

    scale = SIDE / side
    shift = (SIDE - 1) / 2 - scale * middle
    tile = cv2.warpAffine(picture, np.array([[scale, 0, shift[0]], [0, scale, shift[1]]]), (SIDE, SIDE))
    for points, color in ((detected, _DETECTED), (fitted, _FITTED)):
        for number in range(len(points)):
            if np.isfinite(points[number]).all():
                x, y = scale * points[number] + shift
                cv2.circle(tile, (round(16 * x), round(16 * y)), 16 if number < LIPS[0] else 20, color, -1, shift=4)
    return tile


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return None
    return round(float(np.corrcoef(a, b)[0, 1]), 4)


def _said(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
