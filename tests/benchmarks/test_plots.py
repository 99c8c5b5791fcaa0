import json
from collections import Counter

import numpy as np
import pytest
from matplotlib.image import imread

from avsr.data.manifest import write_manifest
from avsr.media.video import write_lips
from benchmarks.columns import GEOMETRY
from benchmarks.plots import (
    CONTROLS,
    Palette,
    noise_kinds,
    plot_confusions,
    plot_lips,
    plot_noise,
    plot_readback,
    plot_shifts,
    plot_systems,
    plot_training,
    training_curves,
)


def colors_in(path):
    """The colours of a picture, as "#rrggbb"."""
    pixels = (imread(path)[..., :3] * 255).round().astype(int).reshape(-1, 3)
    return {"#{:02x}{:02x}{:02x}".format(*pixel) for pixel in np.unique(pixels, axis=0)}


def result(system, kind=None, snr_db=None, corruption=None, wer=10.0):
    condition = "clean" if kind is None else f"{kind}_{snr_db}"
    row = {"system": system, "condition": condition, "kind": kind, "snr_db": snr_db, "corruption": corruption}
    return row | {"wer": wer, "low": wer - 1, "high": wer + 1}


def test_a_system_keeps_its_colour_and_controls_are_grey():
    palette = Palette()
    first = [palette[name] for name in ("A", "V", "reference", "AV", "mean")]
    assert [palette[name] for name in ("A", "V", "reference", "AV", "mean")] == first
    assert len(set(first)) == 5
    other = Palette()
    assert other["AV"] == first[0] and other["reference"] == first[2]
    for name in ("reference", *CONTROLS):
        channels = [int(palette[name][i : i + 2], 16) for i in (1, 3, 5)]
        assert max(channels) - min(channels) < 25
    many = [palette[str(i)] for i in range(20)]
    assert all(color.startswith("#") for color in many)


def test_each_noise_kind_is_a_panel_with_every_system(tmp_path):
    scores = {
        "systems": {"A": {}, "V": {}},
        "results": [
            result("A"), result("V"), result("V", corruption="frozen"), result("A", "reverb"),
            *(result("A", kind, snr_db) for kind in ("babble", "pink") for snr_db in (0, -5)),
            result("A", "white", 0, corruption="frozen"),
        ],
    }  # fmt: skip
    assert noise_kinds(scores) == ["babble", "pink"]
    palette = Palette()
    plot_noise(scores, tmp_path / "two.png", palette)
    assert {palette["A"], palette["V"]} <= colors_in(tmp_path / "two.png")
    scores["results"] = [row for row in scores["results"] if row["kind"] != "pink"]
    plot_noise(scores, tmp_path / "one.png", palette)
    assert imread(tmp_path / "two.png").shape[1] > 1.5 * imread(tmp_path / "one.png").shape[1]


def test_training_curves_are_of_what_is_recorded(tmp_path):
    scores = {"systems": {"A": {"checkpoints": [str(tmp_path / f"{i}/checkpoint") for i in range(3)]}, "V": {}}}
    assert training_curves(scores) == []
    for i in range(2):
        history = [{"valid": {"ter": 0.5 / epoch}} for epoch in (1, 2, 4)]
        (tmp_path / f"{i}").mkdir()
        (tmp_path / f"{i}/done.json").write_text(json.dumps({"seconds": 180.0, "history": history}))
    curves = training_curves(scores)
    assert [system for system, _, _ in curves] == ["A", "A"]
    assert curves[0][1].tolist() == pytest.approx([1, 2, 3]) and curves[0][2].tolist() == pytest.approx([50, 25, 12.5])
    palette = Palette()
    plot_training(curves, tmp_path / "training.png", palette)
    assert palette["A"] in colors_in(tmp_path / "training.png")


def test_what_each_reader_reads_is_a_panel(tmp_path):
    read = {"wer": 20.0, "low": 15.0, "high": 25.0}
    motions = {"reference": {"filmed": read}, "student": {"filmed": read, "drawn": read}}
    scores = {
        "readers": {"filmed": "", "drawn": ""}, "motions": {name: {"readback": of} for name, of in motions.items()}
    }  # fmt: skip
    palette = Palette()
    plot_readback(scores, tmp_path / "readback.png", palette)
    assert {palette["reference"], palette["student"]} <= colors_in(tmp_path / "readback.png")


def test_systems_are_plotted_without_the_controls(tmp_path):
    column = next(column for column in GEOMETRY if column.key == "lve_mm")
    figure = {"value": 2.0, "low": 1.5, "high": 2.5, "seeds": [1.9, 2.1]}
    systems = {"reference": {"lve_mm": figure | {"value": 0.0}}, "mean": {"lve_mm": figure}}
    systems |= {"one": {"lve_mm": figure}, "two": {}, "three": {"lve_mm": figure | {"seeds": [2.0]}}}
    palette = Palette()
    plot_systems([column], systems, tmp_path / "systems.png", palette)
    shown = colors_in(tmp_path / "systems.png")
    assert {palette["one"], palette["three"]} <= shown and not {palette["mean"], palette["two"]} & shown


def test_distance_is_a_line_over_shifts_a_motion(tmp_path):
    def curve(least):
        return [{"shift_ms": x, "distance": least + abs(x), "low": least, "high": 90} for x in (-40, 0, 40)]

    palette = Palette()
    plot_shifts({"reference": curve(0), "one": curve(10)}, tmp_path / "shifts.png", palette)
    assert {palette["reference"], palette["one"]} <= colors_in(tmp_path / "shifts.png")


def test_lips_stand_in_a_row_a_motion(tmp_path):
    manifests = {}
    for name, level in (("reference", 255), ("student", 0)):
        write_lips(tmp_path / f"{name}.mp4", np.full((20, 96, 96), level, np.uint8))
        row = {"utt_id": "u", "speaker": "s", "text": "pin", "duration_s": 0.8, "lips": str(tmp_path / f"{name}.mp4")}
        manifests[name] = tmp_path / f"{name}.jsonl"
        write_manifest(manifests[name], [row | {"source": "rendered"}])
    plot_lips(manifests, tmp_path / "lips.png", Palette())
    gray = imread(tmp_path / "lips.png")[..., 0]
    half = len(gray) // 2
    assert (gray[:half] < 0.1).mean() < 0.02 and (gray[half:] < 0.1).mean() > 0.5


def test_confusions_are_a_panel_a_system(tmp_path):
    pairs = {"A": Counter({("p", "p"): 9, ("p", "t"): 1, ("t", ""): 2, ("", "t"): 5}), "V": Counter({("t", "t"): 1})}
    plot_confusions(pairs, tmp_path / "visemes.png", Palette())
    assert "#08306b" in colors_in(tmp_path / "visemes.png")  # all of a row
