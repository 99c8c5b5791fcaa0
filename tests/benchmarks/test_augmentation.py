import json
from dataclasses import asdict

import numpy as np
import pytest

from avsr.data.alignment import write_alignment
from avsr.data.manifest import read_manifest, write_manifest
from avsr.data.noise import make_noise_manifest, write_noise_manifest
from avsr.data.text import train_tokenizer
from avsr.errors import InputError
from avsr.files import write_text
from avsr.media.audio import write_wav
from avsr.media.video import write_lips
from benchmarks.augmentation.__main__ import main
from benchmarks.augmentation.figures import measure
from benchmarks.augmentation.plan import TUNED, Arm, Plan, System
from benchmarks.augmentation.trainings import plan_trainings, read_trainings, train_one
from benchmarks.augmentation_section import augmentation_section
from benchmarks.conditions import Condition
from benchmarks.content import blocks_of, markdown_section
from benchmarks.page import Page

TEXTS = ["bin blue", "set red", "lay green", "now"]
CONFIG = """
model: recognizer
data: {frame_label: words, max_utts: 2}
recognizer: {dim: 16, heads: 2, ff_dim: 16, stream_layers: 1, layers: 1, visual_channels: [2, 2, 2], kernel: 3}
trainer: {num_threads: 1}
presets: {default: {}}
"""


@pytest.fixture
def corpus(tmp_path):
    """Ten clips, of which 20 % are filmed, with two renditions of drawn lips, and two test clips."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(12):
        utt_id, text = f"u{i}", TEXTS[i % len(TEXTS)]
        write_wav(tmp_path / f"{utt_id}.wav", rng.uniform(-0.1, 0.1, 16000).astype(np.float32))
        for face in ("filmed", "drawn_0", "drawn_1"):
            write_lips(tmp_path / face / f"{utt_id}.mp4", rng.integers(0, 255, (25, 96, 96), dtype=np.uint8))
        words = text.split()
        write_alignment(tmp_path / f"{utt_id}.json", [(0.3 * k, 0.3 * k + 0.3, word) for k, word in enumerate(words)])
        row = {"utt_id": utt_id, "speaker": "s", "text": text, "duration_s": 1.0, "source": "filmed"}
        files = {"audio": f"{utt_id}.wav", "lips": f"filmed/{utt_id}.mp4", "alignment": f"{utt_id}.json"}
        rows.append(row | {field: str(tmp_path / name) for field, name in files.items()})
    write_manifest(tmp_path / "train.jsonl", rows[:10])
    write_manifest(tmp_path / "filmed_20.jsonl", rows[3:5])
    write_manifest(tmp_path / "filmed_100.jsonl", rows[:10])
    write_manifest(tmp_path / "test.jsonl", rows[10:])
    for i in range(2):
        lips = [row | {"lips": str(tmp_path / f"drawn_{i}/{row['utt_id']}.mp4"), "source": "rendered"} for row in rows]
        write_manifest(tmp_path / f"drawn_{i}.jsonl", lips[:10])
    train_tokenizer(TEXTS, "word").save(tmp_path / "tokenizer.model")
    write_text(tmp_path / "recognizer.yaml", CONFIG)
    return tmp_path


def plan_of(corpus, **changes):
    settings = {
        "config": str(corpus / "recognizer.yaml"),
        "sound": str(corpus / "train.jsonl"),
        "filmed": str(corpus / "filmed_{percent}.jsonl"),
        "valid": str(corpus / "test.jsonl"),
        "tokenizer": str(corpus / "tokenizer.model"),
        "percents": [20, 100],
        "arms": {"rules": Arm(manifests=str(corpus / "drawn_{rendition}.jsonl"), percents=[0, 20], times=[1, 2])},
        "seeds": [0],
        "filmed_share_av": 0.5,
        "steps_a": 10,
        "steps_v": 32,
        "steps_av": 32,
    }
    return Plan(**settings | changes)


def shown(training):
    """How often an epoch shows each clip, by face."""
    counts = {}
    for path, times in zip(training.manifests, training.times, strict=True):
        for row in read_manifest(path):
            face = "sound" if row["lips"] is None or training.modality == "a" else row["lips"].split("/")[-2]
            counts.setdefault(face, {}).setdefault(row["utt_id"], 0)
            counts[face][row["utt_id"]] += times
    return counts


def test_systems_are_shares_and_arms_and_each_has_its_bare_one(corpus):
    systems = plan_of(corpus).systems()
    assert [s.name("av") for s in systems] == [
        "av", "av_0_rules_1", "av_0_rules_2", "av_20", "av_20_rules_1", "av_20_rules_2", "av_100",
    ]  # fmt: skip
    assert systems[0].modalities == ("a",) and systems[4].bare == systems[3] == System(20)
    tuned = plan_of(corpus, arms={"rules": Arm(str(corpus / "drawn_0.jsonl"), [0, 20], orders=[TUNED])}).systems()
    assert [s.name("v") for s in tuned if s.times] == ["v_20_rules_1_tuned"]


def test_with_drawn_lips_and_without_filmed_clips_are_shown_as_often(corpus):
    trainings = {t.name: t for t in plan_trainings(plan_of(corpus), corpus / "out")}
    bare, once, twice = (trainings[f"{name}_seed0"] for name in ("av_20", "av_20_rules_1", "av_20_rules_2"))
    others = {f"u{i}" for i in range(10)} - {"u3", "u4"}
    assert shown(bare) == {"filmed": {"u3": 8, "u4": 8}, "sound": dict.fromkeys(others, 2)}
    assert shown(once) == {"filmed": {"u3": 8, "u4": 8}, "drawn_0": dict.fromkeys(others, 2)}
    assert shown(twice)["drawn_0"] == shown(twice)["drawn_1"] == dict.fromkeys(others, 1)
    assert {t.epochs for t in (bare, once, twice)} == {2} and {t.filmed_share for t in (bare, once, twice)} == {0.5}
    # the lip reader without drawn lips sees nothing but filmed ones, and as many
    alone, with_drawn = trainings["v_20_seed0"], trainings["v_20_rules_2_seed0"]
    assert shown(alone) == {"filmed": {"u3": 16, "u4": 16}} and alone.epochs == with_drawn.epochs
    assert (alone.filmed_share, with_drawn.filmed_share) == (1.0, 0.5)
    assert shown(trainings["a_seed0"]) == {"sound": {f"u{i}": 1 for i in range(10)}}
    assert shown(trainings["av_100_seed0"])["filmed"] == {f"u{i}": 1 for i in range(10)}
    assert shown(trainings["v_0_rules_2_seed0"]).keys() == {"drawn_0", "drawn_1"}
    assert [t.wave for t in (trainings["a_seed0"], alone, bare)] == [1, 1, 2]
    assert bare.init == [trainings["a_seed0"].folder, alone.folder]


def test_filmed_clips_are_another_share_for_lips_than_for_both_streams(corpus):
    changes = {"filmed_share_v": 0.5, "filmed_share_av": 0.2}
    trainings = {t.name: t for t in plan_trainings(plan_of(corpus, **changes), corpus / "out")}
    assert shown(trainings["v_20_rules_2_seed0"])["filmed"] == {"u3": 8, "u4": 8}
    for name in ("av_20", "av_20_rules_1", "av_20_rules_2"):
        assert shown(trainings[f"{name}_seed0"])["filmed"] == {"u3": 2, "u4": 2}
        assert trainings[f"{name}_seed0"].filmed_share == 0.2
    assert trainings["av_100_seed0"].filmed_share == 1.0


def test_tuned_is_drawn_first_and_filmed_after(corpus):
    arms = {"rules": Arm(str(corpus / "drawn_0.jsonl"), [20], orders=[TUNED])}
    trainings = {t.name: t for t in plan_trainings(plan_of(corpus, arms=arms), corpus / "out")}
    before, tuned = trainings["v_20_rules_1_tuned_before_seed0"], trainings["v_20_rules_1_tuned_seed0"]
    assert shown(before).keys() == {"drawn_0"} and shown(tuned).keys() == {"filmed"}
    assert tuned.init == [before.folder] and trainings["av_20_rules_1_tuned_seed0"].wave == 3
    assert (before.filmed_share, tuned.filmed_share) == (0.0, 1.0)


def test_other_clips_or_settings_make_another_training_and_the_same_do_not(corpus):
    out = corpus / "out"
    first = plan_trainings(plan_of(corpus), out)
    assert read_trainings(out) == first == plan_trainings(plan_of(corpus), out)
    folders = {t.name: t.folder for t in first}
    write_lips(corpus / "drawn_0" / "u0.mp4", np.zeros((25, 96, 96), np.uint8))
    changed = {t.name for t in plan_trainings(plan_of(corpus), out) if t.folder != folders[t.name]}
    assert changed == {f"{name}_seed0" for name in ("v_0_rules_1", "v_0_rules_2", "v_20_rules_1", "v_20_rules_2")} | {
        f"{name}_seed0" for name in ("av_0_rules_1", "av_0_rules_2", "av_20_rules_1", "av_20_rules_2")
    }
    longer = {t.name for t in plan_trainings(plan_of(corpus, steps_a=100), out) if t.folder != folders[t.name]}
    assert "a_seed0" in longer and "av_100_seed0" in longer and "v_100_seed0" not in longer


def test_a_cell_is_trained_and_measured_against_the_fair_one(corpus, tmp_path):
    """From the command lines, the real loop in small; twice the same gives the same figures."""
    out = tmp_path / "out"
    plan = plan_of(corpus, percents=[20], arms={"rules": Arm(str(corpus / "drawn_0.jsonl"), [20])})
    lines = [f"{key}={value}" for key, value in asdict(plan).items() if isinstance(value, (str, int, float))]
    lines += ["percents=[20]", "seeds=[0]", f"arms.rules.manifests={corpus / 'drawn_0.jsonl'}"]
    write_text(tmp_path / "plan.yaml", "arms: {rules: {percents: [20]}}\npresets: {default: {}}\n")
    assert main(["plan", str(tmp_path / "plan.yaml"), *lines, "--out", str(out)]) == 0
    names = [training.name for training in read_trainings(out)]
    assert names == ["a_seed0", "v_20_seed0", "av_20_seed0", "v_20_rules_1_seed0", "av_20_rules_1_seed0"]
    with pytest.raises(InputError, match="av_20_seed0 starts from .*, which is not trained yet"):
        train_one(plan, read_trainings(out)[2], out)
    with pytest.raises(InputError, match="none of the plan's recognisers is trained from every seed"):
        measure(plan, out, str(corpus / "test.jsonl"), [Condition()], None, 1)
    for name in names:
        assert main(["train", str(out), name]) == 0

    rows = read_manifest(corpus / "test.jsonl")
    noise = make_noise_manifest(rows, kind="white", snr_db=-5.0, seed=0)
    write_noise_manifest(tmp_path / "noise" / "white_-5dB.jsonl", noise)
    command = ["measure", str(out), str(corpus / "test.jsonl"), "--noise", str(tmp_path / "noise")]
    assert main(command) == 0
    first = (out / "scores.json").read_text()
    for decoded in out.glob("read/*/hyp*.jsonl"):
        decoded.unlink()
    assert main(command) == 0 and (out / "scores.json").read_text() == first

    scores = json.loads(first)
    assert {(row["a"], row["b"]) for row in scores["paired"]} == {
        ("v_20", "v_20_rules_1"), ("av_20", "av_20_rules_1"), ("a", "av_20"), ("a", "av_20_rules_1"),
    }  # fmt: skip
    cells = scores["augmentation"]
    assert cells["av_20"]["steps"] == cells["av_20_rules_1"]["steps"] > 0
    assert cells["av_20"]["filmed_steps"] == cells["av_20_rules_1"]["filmed_steps"] == cells["av_20"]["steps"] / 2
    assert cells["v_20"]["filmed_steps"] == cells["v_20"]["steps"] == cells["v_20_rules_1"]["steps"]
    assert cells["v_20"]["filmed_clips"] == 2
    section = augmentation_section("test", scores)
    table = markdown_section(section)
    assert "| 20 % + rules x1 | 2 | " in table and "### What drawn lips gain" in table
    assert "AV white -5dB" in table and "### Against sound alone" in table
    assert not [block for block in blocks_of(Page("", {}, [section])) if block.kind == "picture"]


def test_shares_are_plotted(corpus, tmp_path):
    cells, results = {}, []
    for system in plan_of(corpus).systems():
        for modality in system.modalities:
            name = system.name(modality)
            cells[name] = asdict(system) | {"modality": modality, "filmed_clips": 2, "steps": 4, "filmed_steps": 2}
            for condition in ("clean", "white_-5dB") if "a" in modality else ("clean",):
                row = {"system": name, "condition": condition, "wer": 50.0, "low": 40.0, "high": 60.0, "each": [50.0]}
                results.append(row)
    protocol = {"utterances": 2, "words": 4, "source": "rendered", "decoding": "Greedy."}
    scores = {"protocol": protocol, "augmentation": cells, "results": results, "paired": []}
    section = augmentation_section("test", scores)
    assert section.blocks[0].markdown.startswith("Drawn faces, and in the embedded corpus synthetic speech")
    (picture,) = (block for block in section.blocks if block.kind == "picture")
    from benchmarks.plots import Palette

    picture.draw(tmp_path / picture.file, Palette())
    assert (tmp_path / "shares_test.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filmed_share_av": 1.0}, "filmed_share_av is a share between 0 and 1, got 1.0"),
        ({"steps_v": 0}, "steps_v is 0; expected at least 1"),
        ({"seeds": []}, "seeds is empty"),
        ({"percents": [0]}, "percents: 0 is no share of filmed clips"),
        ({"arms": {"none": Arm("m", [20])}}, "'none' cannot be an arm's name"),
        ({"arms": {"a": Arm("m", [5])}}, "arms.a.percents: 5 is neither 0 nor one of percents below 100"),
        ({"arms": {"a": Arm("m", [100])}}, "arms.a.percents: 100 is neither"),
        ({"arms": {"a": Arm("m", [20], times=[2, 3])}}, "arms.a.times .2, 3.: each must divide the largest of all"),
        ({"arms": {"a": Arm("m", [20], orders=["first"])}}, "arms.a.orders: unknown 'first'"),
    ],
)
def test_wrong_plans(corpus, changes, message):
    with pytest.raises(InputError, match=message):
        plan_of(corpus, **changes)


def test_what_users_get_wrong(corpus, capsys):
    rows = read_manifest(corpus / "drawn_0.jsonl")
    write_manifest(corpus / "part.jsonl", rows[:6])
    with pytest.raises(InputError, match="part.jsonl: 4 clips of .*train.jsonl are not drawn, the first is 'u6'"):
        plan_trainings(plan_of(corpus, arms={"a": Arm(str(corpus / "part.jsonl"), [20])}), corpus / "out")
    write_manifest(corpus / "filmed_20.jsonl", read_manifest(corpus / "test.jsonl"))
    with pytest.raises(InputError, match="filmed_20.jsonl: utterance 'u10' is not in .*train.jsonl"):
        plan_trainings(plan_of(corpus), corpus / "out")
    assert main(["list", str(corpus / "nothing")]) == 2
    assert "no trainings.jsonl; plan the experiment first" in capsys.readouterr().err
    plan_trainings(plan_of(corpus, percents=[100], arms={}), corpus / "out")
    assert main(["train", str(corpus / "out"), "v_7"]) == 2
    assert "plans no training 'v_7'; its trainings: a_seed0, v_100_seed0, av_100_seed0" in capsys.readouterr().err
    assert main(["list", str(corpus / "out"), "--wave", "2"]) == 0
    assert capsys.readouterr().out.split() == ["av_100_seed0"]
