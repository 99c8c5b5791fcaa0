"""The plots of a results page. A system has the same colour in all of them (`Palette`)."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from avsr.data.manifest import read_manifest
from avsr.files import atomic_path
from avsr.media.timing import FPS
from avsr.media.video import read_lips
from benchmarks.augmentation.plan import TOGETHER
from benchmarks.columns import HIGHER, ZERO, Column
from benchmarks.visemes import confusion_shares
from talking3d.predict import MOTIONS

CONTROLS = tuple(motion for motion in MOTIONS if motion != "student")
INK, GREYS = "#3d4450", ("#8d949e", "#aab0b8", "#c6cbd1")
# Okabe and Ito's, which the colour-blind tell apart (yellow, too light on white, left out), and two more
COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c6d31", "#6a51a3")
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
}


class Palette(dict):
    """Each system's colour: the next one when it is first asked for; the reference and the controls are grey."""

    def __init__(self):
        super().__init__({"reference": INK} | dict(zip(CONTROLS, GREYS, strict=True)))
        self._given = 0

    def __missing__(self, name: str) -> str:
        self[name] = COLORS[self._given % len(COLORS)]
        self._given += 1
        return self[name]


@contextlib.contextmanager
def figure_into(path: Path, size: tuple[float, float], rows: int = 1, columns: int = 1, **shared: bool) -> Iterator:
    """A figure of `size` in inches and its axes (rows, columns), then written whole or not at all."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(size, layout="constrained")
        yield figure, figure.subplots(rows, columns, squeeze=False, **shared)
        with atomic_path(path) as partial:
            figure.savefig(partial, dpi=170, bbox_inches="tight", pad_inches=0.06)


def noise_kinds(scores: dict) -> list[str]:
    """Kinds of noise that were measured at an SNR, without corruption."""
    return list(dict.fromkeys(row["kind"] for row in _noisy(scores)))


def plot_noise(scores: dict, path: Path, colors: Mapping[str, str]) -> None:
    """WER against SNR with its interval, a panel a noise kind; systems that don't hear are flat dashed lines."""
    kinds = noise_kinds(scores)
    with figure_into(path, (1.2 + 3.3 * len(kinds), 3.6), 1, len(kinds), sharey=True) as (figure, (panels,)):
        for axes, kind in zip(panels, kinds, strict=True):
            for system in scores["systems"]:
                _plot_system(axes, [row for row in scores["results"] if row["system"] == system], kind, colors[system])
            axes.set(xlabel="SNR (dB)", title=kind, ylim=(0, None))
        panels[0].set_ylabel("word error rate (%)")
        handles = [panels[0].plot([], [], color=colors[system], label=system)[0] for system in scores["systems"]]
        figure.legend(handles=handles, loc="outside lower center", ncols=8)


def _plot_system(axes, rows: list[dict], kind: str, color: str) -> None:
    clean = next(row for row in rows if row["condition"] == "clean")
    points = sorted((row for row in _noisy({"results": rows}) if row["kind"] == kind), key=lambda row: row["snr_db"])
    if not points:
        axes.axhline(clean["wer"], color=color, linestyle="--")
        return
    snrs_db = [row["snr_db"] for row in points]
    clean_at = snrs_db[-1] + 5
    low, high = ([row[end] for row in points] for end in ("low", "high"))
    axes.fill_between(snrs_db, low, high, color=color, alpha=0.15, linewidth=0)
    axes.plot(snrs_db, [row["wer"] for row in points], "o-", color=color)
    axes.plot([snrs_db[-1], clean_at], [points[-1]["wer"], clean["wer"]], ":o", color=color)
    axes.set_xticks([*snrs_db, clean_at], [*(f"{snr_db:g}" for snr_db in snrs_db), "clean"])


def _noisy(scores: dict) -> list[dict]:
    return [row for row in scores["results"] if row["snr_db"] is not None and row.get("corruption") is None]


def training_curves(scores: dict) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(system, minutes (E,), validation token error in % (E,)) after each epoch, of each checkpoint that records it.

    An epoch counts for as long as the training's mean epoch. An audio-visual recogniser's time is its own, without that
    of those it starts from.
    """
    curves = []
    for system, facts in scores["systems"].items():
        for checkpoint in facts.get("checkpoints", ()):
            record = Path(checkpoint).parent / "done.json"
            if record.is_file():
                done = json.loads(record.read_text(encoding="utf-8"))
                errors = 100 * np.array([epoch["valid"]["ter"] for epoch in done["history"]])
                curves.append((system, done["seconds"] / 60 * (np.arange(len(errors)) + 1) / len(errors), errors))
    return curves


def plot_training(curves: Sequence[tuple[str, np.ndarray, np.ndarray]], path: Path, colors: Mapping[str, str]) -> None:
    """A line for each of `training_curves`; systems have one name each in the legend, whatever their seeds."""
    with figure_into(path, (4.5, 3.6)) as (_, ((axes,),)):
        named = set()
        for system, minutes, errors in curves:
            axes.plot(minutes, errors, ".-", color=colors[system], label=None if system in named else system)
            named.add(system)
        axes.set(xlabel="training time (min)", ylabel="validation token error (%), greedy", yscale="log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.legend()


def plot_shares(scores: dict, path: Path, colors: Mapping[str, str]) -> None:
    """WER of both streams against the share of filmed clips, a line for each way of drawing; clean, and worst noises.

    scores: of `benchmarks.augmentation`. Sound alone is the point of nothing filmed and nothing drawn.
    """
    lines: dict[str, dict[int, str]] = {}
    for name, cell in scores["augmentation"].items():
        if cell["modality"] != "v":
            drawn = "nothing drawn" if not cell["times"] else f"{cell['arm']} x{cell['times']}"
            tuned = "" if cell["order"] == TOGETHER else f", {cell['order']}"
            lines.setdefault(drawn + tuned, {})[cell["percent"]] = name
    percents = sorted({percent for line in lines.values() for percent in line})
    figures = {(row["system"], row["condition"]): row for row in scores["results"]}
    conditions = list(dict.fromkeys(row["condition"] for row in scores["results"] if row.get("corruption") is None))
    conditions = [*conditions[:1], *conditions[1:][-2:]]
    with figure_into(path, (1.2 + 3.1 * len(conditions), 3.6), 1, len(conditions)) as (figure, (panels,)):
        for axes, condition in zip(panels, conditions, strict=True):
            for drawn, line in lines.items():
                shown = [(percents.index(p), figures[line[p], condition]) for p in percents if p in line]
                places, rows = zip(*shown, strict=True)
                around = [[row["wer"] - row["low"] for row in rows], [row["high"] - row["wer"] for row in rows]]
                axes.errorbar(places, [row["wer"] for row in rows], around, fmt="o-", color=colors[drawn], elinewidth=1)
            axes.set(title=condition.replace("_", " "), xlabel="filmed clips (%)", ylim=(0, None))
            axes.set_xticks(range(len(percents)), [f"{percent:g}" for percent in percents])
        panels[0].set_ylabel("word error rate (%)")
        handles = [panels[0].plot([], [], "o-", color=colors[drawn], label=drawn)[0] for drawn in lines]
        figure.legend(handles=handles, loc="outside lower center", ncols=6)


def plot_readback(scores: dict, path: Path, colors: Mapping[str, str]) -> None:
    """Read-back word error of every motion with its interval, a panel a reader."""
    readers, motions = list(scores["readers"]), list(scores["motions"])
    size = (1.3 + 3.2 * len(readers), 0.9 + 0.36 * len(motions))
    with figure_into(path, size, 1, len(readers), sharey=True, sharex=True) as (_, (panels,)):
        for axes, reader in zip(panels, readers, strict=True):
            for place, motion in enumerate(motions):
                read = scores["motions"][motion]["readback"].get(reader)
                if read is not None:
                    around = [[read["wer"] - read["low"]], [read["high"] - read["wer"]]]
                    axes.barh(place, read["wer"], 0.7, color=colors[motion], xerr=around, error_kw={"ecolor": INK})
                    axes.annotate(
                        f"{read['wer']:.1f}", (read["high"], place), (4, 0), textcoords="offset points", va="center"
                    )
            axes.set_xlabel(f"WER (%) read by {reader}")
            axes.grid(visible=False, axis="y")
        highest = max(read["high"] for of in scores["motions"].values() for read in of["readback"].values())
        panels[0].set_xlim(0, max(1.0, 1.2 * highest))  # room for the figures
        panels[0].set_yticks(range(len(motions)), motions)
        panels[0].invert_yaxis()


def plot_systems(
    measures: Sequence[Column], systems: Mapping[str, Mapping[str, dict]], path: Path, colors: Mapping[str, str]
) -> None:
    """Each measure's figures with their intervals, a panel each; the controls, far off, are left to the table.

    systems: {name: {key of a measure: its figure, interval and seeds}}.
    """
    shown = [name for name in systems if name != "reference" and name not in CONTROLS]
    directions = {HIGHER: "→", ZERO: "0"}
    size = (1.0 + 2.0 * len(measures), 0.9 + 0.3 * len(shown))
    with figure_into(path, size, 1, len(measures), sharey=True) as (_, (panels,)):
        for axes, measure in zip(panels, measures, strict=True):
            for place, name in enumerate(shown):
                figure = systems[name].get(measure.key)
                if figure is not None:
                    axes.plot([figure["low"], figure["high"]], [place, place], color=colors[name])
                    axes.plot(figure["value"], place, "o", color=colors[name])
                    if len(figure["seeds"]) > 1:
                        seeds = [place + 0.3] * len(figure["seeds"])
                        axes.plot(figure["seeds"], seeds, ".", color=colors[name], markersize=3, alpha=0.7)
            true = systems.get("reference", {}).get(measure.key)
            if true is not None and true["value"]:
                axes.axvline(true["value"], color=INK, linestyle="--", linewidth=1)
            axes.set_title(f"{measure.title} {directions.get(measure.better, '←')}", fontsize=9)
            axes.locator_params(axis="x", nbins=4)
            axes.ticklabel_format(axis="x", scilimits=(-3, 4), useMathText=True)
        panels[0].set_yticks(range(len(shown)), shown)
        panels[0].invert_yaxis()


def plot_shifts(curves: Mapping[str, Sequence[dict]], path: Path, colors: Mapping[str, str]) -> None:
    """The judge's distance of sound and motion against the motion's shift, with its interval, a line a motion."""
    with figure_into(path, (5.6, 3.6)) as (_, ((axes,),)):
        for name, curve in curves.items():
            shifts_ms, distances, low, high = (
                [at[key] for at in curve] for key in ("shift_ms", "distance", "low", "high")
            )
            axes.fill_between(shifts_ms, low, high, color=colors[name], alpha=0.15, linewidth=0)
            axes.plot(shifts_ms, distances, ".-", color=colors[name], label=name)
        axes.axvline(0, color=INK, linestyle=":", linewidth=1)
        axes.set(xlabel="motion taken later than its sound by (ms)", ylabel="distance, by the judge")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def plot_lips(manifests: Mapping[str, str], path: Path, colors: Mapping[str, str], n_frames: int = 14) -> None:
    """One utterance's lips under every motion (name: manifest), a row each, at the same times."""
    by_id = {
        name: {row["utt_id"]: row for row in read_manifest(manifest, need=("lips",))}
        for name, manifest in manifests.items()
    }
    first = next(iter(next(iter(by_id.values())).values()))
    clips = {name: read_lips(rows[first["utt_id"]]["lips"]) for name, rows in by_id.items()}
    frames = np.linspace(0, min(map(len, clips.values())) - 1, n_frames).round().astype(int)
    side = next(iter(clips.values())).shape[-1]
    with figure_into(path, (1.0 + 0.72 * n_frames, 0.45 + 0.73 * len(clips)), len(clips)) as (_, panels):
        for axes, (name, lips) in zip(panels[:, 0], clips.items(), strict=True):
            axes.imshow(np.hstack(list(lips[frames])), cmap="gray", vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
            axes.set_ylabel(name, rotation=0, ha="right", va="center")
            axes.spines[:].set_visible(False)
            axes.grid(visible=False)
        axes.set_xticks((np.arange(n_frames) + 0.5) * side, [f"{frame / FPS:.2f} s" for frame in frames], fontsize=7)
        axes.tick_params(length=0)
        panels[0, 0].set_title(f"“{first['text']}”")


def plot_confusions(pairs: Mapping[str, Counter], path: Path, colors: Mapping[str, str]) -> None:
    """What each viseme was read as, in % of its row, a panel a system; errors of 3 % and more are written out."""
    shares = {system: confusion_shares(of) for system, of in pairs.items()}
    with figure_into(path, (0.5 + 4.0 * len(shares), 4.3), 1, len(shares)) as (figure, (panels,)):
        for axes, (system, (visemes, columns, of)) in zip(panels, shares.items(), strict=True):
            picture = axes.imshow(of, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=100), aspect="auto")
            for row, column in np.argwhere(of >= 3):
                if visemes[row] != columns[column]:
                    color = "white" if of[row, column] > 40 else "black"
                    axes.text(column, row, f"{of[row, column]:.0f}", ha="center", va="center", fontsize=7, color=color)
            axes.set_xticks(range(len(columns)), [column or "out" for column in columns], fontsize=8)
            axes.set_yticks(range(len(visemes)), visemes, fontsize=8)
            axes.set(xlabel="read as", title=system)
            axes.grid(visible=False)
        panels[0].set_ylabel("viseme of the text")
        figure.colorbar(picture, ax=panels, label="% of the row", ticks=(0, 5, 20, 50, 100), fraction=0.02, pad=0.01)
