"""The plots of a results page."""

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from avsr.data.manifest import read_manifest
from avsr.files import atomic_path
from avsr.media.video import read_lips


@contextlib.contextmanager
def figure_into(path: Path, size: tuple[float, float], rows: int = 1, dpi: int = 130) -> Iterator:
    """Axes, or an array of `rows`, of a figure of `size` in inches that is then written whole or not at all."""
    figure = Figure(size, layout="constrained")
    yield figure.subplots(rows, 1)
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=dpi)


def plot_recognizer(name: str, scores: dict, path: Path) -> None:
    """WER against SNR, a line a system and noise kind; systems that don't hear are flat dashed lines."""
    with figure_into(path, (5.5, 4)) as axes:
        for i, system in enumerate(scores["systems"]):
            rows = [row for row in scores["results"] if row["system"] == system and row.get("corruption") is None]
            clean = next(row for row in rows if row["condition"] == "clean")
            noisy = [row for row in rows if row["snr_db"] is not None]
            if not noisy:
                axes.axhline(clean["wer"], color=f"C{i}", linestyle="--", label=system)
            kinds = dict.fromkeys(row["kind"] for row in noisy)
            for style, kind in zip(itertools.cycle(("-", ":", "--", "-.")), kinds, strict=False):
                points = sorted((row for row in noisy if row["kind"] == kind), key=lambda row: row["snr_db"])
                snrs_db = [row["snr_db"] for row in points]
                axes.plot(
                    snrs_db, [row["wer"] for row in points], f"o{style}", color=f"C{i}", label=f"{system}, {kind}"
                )
                low, high = ([row[end] for row in points] for end in ("low", "high"))
                axes.fill_between(snrs_db, low, high, color=f"C{i}", alpha=0.15, linewidth=0)
                clean_at = snrs_db[-1] + 5
                axes.plot(clean_at, clean["wer"], "o", color=f"C{i}")
                axes.set_xticks([*snrs_db, clean_at], [*(f"{snr_db:g}" for snr_db in snrs_db), "clean"])
        axes.set(xlabel="SNR (dB)", ylabel="word error rate (%)", title=name, ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)


def plot_training(scores: dict, path: Path) -> None:
    """Validation token error after each epoch against training time, a line a checkpoint, where that is recorded.

    An epoch counts for as long as the training's mean epoch. An audio-visual recogniser's time is its own, without that
    of those it starts from.
    """
    curves = []
    for i, (system, facts) in enumerate(scores["systems"].items()):
        for checkpoint in facts["checkpoints"]:
            record = Path(checkpoint).parent / "done.json"
            if record.is_file():
                curves.append((f"C{i}", system, json.loads(record.read_text())))
    if not curves:
        return
    with figure_into(path, (5.5, 4)) as axes:
        named = set()
        for color, system, done in curves:
            errors = [100 * epoch["valid"]["ter"] for epoch in done["history"]]
            minutes = done["seconds"] / 60 * (np.arange(len(errors)) + 1) / len(errors)
            axes.plot(minutes, errors, ".-", color=color, label=None if system in named else system)
            named.add(system)
        axes.set(xlabel="training time (min)", ylabel="validation token error (%), greedy", yscale="log")
        axes.grid(alpha=0.3, which="both")
        axes.legend(frameon=False)


def plot_generator(name: str, scores: dict, path: Path) -> None:
    """Read-back word error of every motion, grouped by reader."""
    readers, motions = list(scores["readers"]), list(scores["motions"])
    width = 0.8 / len(readers)
    with figure_into(path, (6, 3.5)) as axes:
        for i, reader in enumerate(readers):
            cells = [(m, scores["motions"][motion]["readback"].get(reader)) for m, motion in enumerate(motions)]
            places = [m + i * width for m, cell in cells if cell is not None]
            axes.bar(places, [cell["wer"] for _, cell in cells if cell is not None], width, label=f"read by {reader}")
        axes.set_xticks([m + 0.4 - width / 2 for m in range(len(motions))], motions)
        axes.set(ylabel="read-back WER (%)", title=name)
        axes.grid(axis="y", alpha=0.3)
        axes.legend(frameon=False)


def plot_lips(scores: dict, path: Path, n_frames: int = 16) -> None:
    """One utterance's lips under every motion, a row each, at the same times."""
    rows = {name: read_manifest(row["manifest"], need=("lips",)) for name, row in scores["motions"].items()}
    utt_id = rows["reference"][0]["utt_id"]
    clips = {name: read_lips(next(r for r in of if r["utt_id"] == utt_id)["lips"]) for name, of in rows.items()}
    times = np.linspace(0, min(map(len, clips.values())) - 1, n_frames).round().astype(int)
    with figure_into(path, (n_frames * 0.8, len(clips) * 0.95), rows=len(clips), dpi=110) as axes:
        for axis, (name, lips) in zip(axes, clips.items(), strict=True):
            axis.imshow(np.hstack(list(lips[times])), cmap="gray", vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[], ylabel=name)
        axes[0].set_title(f"{utt_id}: {rows['reference'][0]['text']}")
