"""Systems over seeds: averages by hand, spread, differences, the table, and what users get wrong."""

import argparse
import json

import numpy as np
import pytest

from avsr.errors import InputError
from avsr.files import write_json
from benchmarks import report
from benchmarks.ablation import compared, evaluate, over_seeds
from benchmarks.content import markdown_section
from benchmarks.generator_section import ablation_section
from benchmarks.measures import Bench


def test_seeds_are_averaged_within_each_utterance():
    first = {"wer": np.array([[100.0, 2], [0, 4]]), "mtm_ms": np.array([[40.0, 1], [0, 0]])}
    second = {"wer": np.array([[200.0, 2], [100, 4]])}
    averaged = over_seeds([first, second])
    assert averaged["wer"].tolist() == [[150, 2], [50, 4]]
    assert averaged["mtm_ms"][0, 0] / averaged["mtm_ms"][0, 1] == 40  # a seed without it leaves the figure alone


@pytest.fixture
def scores(manifests, reader, tmp_path):
    bench = Bench(manifests["reference"], tmp_path / "out", {"V": "exp/reader/checkpoint"})
    systems = {"two": [str(manifests["near"]), str(manifests["far"])], "one": [str(manifests["near"])]}
    return evaluate(bench, systems, [("one", "two"), ("one", "reference")], draws=500)


def test_figures_intervals_and_spread(scores):
    json.dumps(scores)
    systems = scores["systems"]
    assert set(systems) == {"reference", "two", "one"}
    one, two = (systems[name]["measures"] for name in ("one", "two"))
    near, far = two["lve_mm"]["seeds"]
    assert two["lve_mm"]["value"] == pytest.approx((near + far) / 2) and one["lve_mm"]["value"] == near
    assert two["lve_mm"]["seed_sd"] == pytest.approx((far - near) / np.sqrt(2)) and one["lve_mm"]["seed_sd"] is None
    assert two["lve_mm"]["low"] <= two["lve_mm"]["value"] <= two["lve_mm"]["high"]
    assert two["wer:V"]["value"] == pytest.approx(100 * (3 + 5) / 2 / 6)
    assert {"cer:V", "ver:V", "fdd", "fdd_abs", "ldtw_mm", "mtm_ms", "closure_rate"} <= set(two)
    assert systems["reference"]["measures"]["wer:V"]["value"] == 0


def test_shifts_are_averaged_over_seeds(manifests, judge, tmp_path):
    bench = Bench(manifests["reference"], tmp_path / "out", {}, judge=str(judge))
    near, far = str(manifests["near"]), str(manifests["far"])
    scores = evaluate(bench, {"two": [near, far], "near": [near], "far": [far]}, [], draws=50)
    two, near, far = (
        np.array([at["distance"] for at in scores["systems"][name]["shifts"]]) for name in ("two", "near", "far")
    )
    assert len(two) == 9 and two == pytest.approx((near + far) / 2)
    assert "shifts_test" in [getattr(block, "name", None) for block in ablation_section("test", scores).blocks]


def test_compared_pairs(scores):
    rows = {(row["a"], row["b"], row["key"]): row for row in scores["comparisons"]}
    row = rows["one", "two", "lve_mm"]
    values = [scores["systems"][name]["measures"]["lve_mm"]["value"] for name in ("one", "two")]
    assert row["difference"] == pytest.approx(values[1] - values[0]) and row["low"] > 0
    assert row["p"] == pytest.approx(2 / 501)  # every draw says so
    assert rows["one", "reference", "wer:V"]["difference"] == pytest.approx(-50)


def test_the_table_says_its_protocol(scores):
    text = markdown_section(ablation_section("test", scores))
    assert "seeds: two 2, one 1." in text and "500 draws" in text and "VER" in text and "540 lip vertices" in text
    assert "| measure | better | reference | two | one |" in text
    assert "| measure | better | two − one | reference − one |" in text
    (line,) = (line for line in text.splitlines() if line.startswith("| WER read by V | lower | 0.0 [0.0, 0.0] |"))
    assert "66.7 [" in line and " ± 23.6 |" in line and line.endswith(" |") and line.count("±") == 1
    assert "| lip-opening r | higher |" in text and "p 0.004" in text
    assert "| FDD m² | near 0 | +0.00e+00 [+0.00e+00, +0.00e+00] |" in text


def test_the_report_has_it_as_a_section(scores, tmp_path, monkeypatch, capsys):
    for system in scores["systems"].values():
        system["manifests"] = [str(tmp_path / "gone.jsonl")]  # so there are no lips to draw
    write_json(tmp_path / "exp/ablation/test_unseen/scores.json", scores)
    monkeypatch.setattr(
        "sys.argv", ["report", str(tmp_path / "exp"), "--title", "t", "--command", "c", "--recipe", str(tmp_path)]
    )
    report.main()
    page = (tmp_path / "exp/RESULTS.md").read_text()
    assert (
        markdown_section(ablation_section("test_unseen", scores)) in page
        and page.strip() == capsys.readouterr().out.strip()
    )
    html = (tmp_path / "exp/report/index.html").read_text()
    assert html.count("<img") == 1 and (tmp_path / "exp/report/systems_test_unseen.png").stat().st_size > 5_000


def test_an_interrupted_ablation_goes_on(manifests, reader, tmp_path):
    def bench():
        return Bench(manifests["reference"], tmp_path / "out", {"V": "exp/reader/checkpoint"})

    systems = {"two": [str(manifests["near"]), str(tmp_path / "not_drawn_yet.jsonl")]}
    with pytest.raises(InputError, match="not_drawn_yet"):
        evaluate(bench(), systems, [], draws=10)
    assert reader == ["reference", "near"]
    evaluate(bench(), {"two": [str(manifests["near"]), str(manifests["far"])]}, [], draws=10)
    assert reader == ["reference", "near", "far"]


def test_what_users_get_wrong(manifests, tmp_path):
    bench = Bench(manifests["reference"], tmp_path / "out", {})
    with pytest.raises(InputError, match="--compare names 'three', which is no --system: one"):
        evaluate(bench, {"one": [str(manifests["near"])]}, [("one", "three")])
    for text in ("one", "one:", ":two", "one:one"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected A:B, two systems"):
            compared(text)
