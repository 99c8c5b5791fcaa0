"""An hour of lips, from motion files to clips with a manifest: drawn, encoded and written, end to end.

    python -m benchmarks.speed hour [--minutes 60] [--nj 2] [--look random|plain] [--json OUT]

Before the clock starts, motion is made: random syllables, moved by the co-articulation rules, in clips of 4 to 10 s of
eight identities. On the clock is all that `talking3d draw` does: starting processes, loading kernels, motion and
faces, drawing, the codec, writing, the manifest. The first run after an installation also compiles the kernels.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from avsr.errors import InputError
from avsr.media.timing import FPS
from benchmarks.report import hardware
from talking3d.corpus.articulation import LipAperture, articulate, head_motion, random_style
from talking3d.face.motion import Motion
from talking3d.face.procedural import random_identity
from talking3d.render.lip_clips import LOOKS, draw_lip_clips

IDENTITIES = 8
CLIP_S = (4.0, 10.0)
CONSONANTS, VOWELS = "pbmfvθtdnlszʃkɡhɹwj", "iɪɛæɑʌəɔoʊu"
CONSONANT_S, VOWEL_S, PAUSE_S = (0.05, 0.11), (0.07, 0.19), (0.15, 0.45)
PAUSE_AFTER = 0.12  # share of syllables
IDLE_S = 0.25  # before the first syllable, and at least so long after the last


def syllables(duration_s: float, rng: np.random.Generator) -> list[tuple[float, float, str]]:
    """Phones (start_s, end_s, ipa) of consonants and vowels in turn, with pauses, that fit into duration_s."""
    phones, now_s = [], IDLE_S
    while True:
        syllable_s = [rng.uniform(*CONSONANT_S), rng.uniform(*VOWEL_S)]
        if now_s + sum(syllable_s) > duration_s - IDLE_S:
            return phones
        for length_s, inventory in zip(syllable_s, (CONSONANTS, VOWELS), strict=True):
            phones.append((now_s, now_s + length_s, inventory[rng.integers(len(inventory))]))
            now_s += length_s
        if rng.random() < PAUSE_AFTER:
            now_s += rng.uniform(*PAUSE_S)


def make_motion(folder: Path, minutes: float, seed: int = 0) -> list[dict]:
    """Motion files and templates in `folder` for `minutes` of clips; rows as `draw_lip_clips` takes them."""
    faces = []
    for index in range(IDENTITIES):
        rng = np.random.default_rng((seed, 0, index))
        face = random_identity(rng)
        face.save(folder / f"face{index}.npz")
        faces.append((face, LipAperture.of_template(face), random_style(rng)))
    rows, left = [], round(minutes * 60 * FPS)
    while left > 0:
        index = len(rows) % IDENTITIES
        face, aperture, style = faces[index]
        rng = np.random.default_rng((seed, 1, len(rows)))
        n_frames = min(left, round(rng.uniform(*CLIP_S) * FPS))
        left -= n_frames
        duration_s = n_frames / FPS
        coefficients = articulate(syllables(duration_s, rng), duration_s, style, aperture, rng)
        path = folder / "motion" / f"{len(rows):05d}.npz"
        pose = head_motion(n_frames, style, rng)
        Motion.of_template(face, FPS, coefficients=coefficients, head_pose=pose).save(path)
        files = {"motion": str(path), "template": str(folder / f"face{index}.npz")}
        rows.append({"utt_id": f"face{index}-{len(rows):05d}", "duration_s": duration_s, "source": "rendered", **files})
    return rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `measure`."""
    parser.add_argument("--minutes", type=float, default=60.0, help="of lips")
    parser.add_argument("--nj", type=int, default=2, help="processes")
    parser.add_argument("--look", choices=LOOKS, default="random")


def measure(minutes: float = 60.0, nj: int = 2, look: str = "random") -> dict:
    """Draw `minutes` of lips on nj processes: frames, clips, seconds, frames a second, x real time, megabytes."""
    if minutes <= 0:
        raise InputError(f"--minutes must be above 0, got {minutes:g}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = make_motion(folder, minutes)
        n_frames = round(sum(row["duration_s"] for row in rows) * FPS)
        load = os.getloadavg()[0]
        began_s = time.monotonic()
        draw_lip_clips(rows, folder / "drawn", generator="rules", n_jobs=nj, look=look)
        wall_s = time.monotonic() - began_s
        n_bytes = sum(path.stat().st_size for path in (folder / "drawn").rglob("*.mp4"))
    return {
        "frames": n_frames,
        "clips": len(rows),
        "processes": nj,
        "look": look,
        "wall_s": wall_s,
        "frames_per_s": n_frames / wall_s,
        "x_real_time": n_frames / FPS / wall_s,
        "megabytes": n_bytes / 1e6,
        "hardware": hardware(),
        "load_before": load,  # other work on the computer makes it slower
    }


def table(figures: dict) -> str:
    """The figures in two lines."""
    return (
        f"{figures['frames']:,} frames in {figures['clips']:,} clips: {figures['wall_s']:.1f} s, "
        f"{figures['frames_per_s']:,.0f} frames/s ({figures['x_real_time']:.0f} x real time), "
        f"{figures['megabytes']:.1f} MB\n"
        f"on {figures['processes']} processes; {figures['hardware']}; load before: {figures['load_before']:.1f}"
    )
