"""The recipes as a user runs them: options, stages, errors, and the small loop from nothing to a table."""

import importlib.util
import json
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from avsr.data.alignment import read_alignment, write_alignment
from avsr.data.manifest import write_manifest
from avsr.data.pronunciations import read_pronunciations
from avsr.errors import InputError
from avsr.lm import load_ngram
from talking3d.corpus.sentences import open_vocabulary

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ["mini", "grid"]


def run_recipe(name: str, *options: str, cwd: Path = ROOT, script="run.sh") -> subprocess.CompletedProcess:
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", str(ROOT / "egs" / name / script), *options]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("name", RECIPES)
def test_dry_run_prints_every_stage_and_makes_nothing(name, tmp_path):
    options = ("--grid", "some_folder") if name == "grid" else ()
    done = run_recipe(name, "--dry_run", "true", "--datadir", "d", "--expdir", "e", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for number, stage in enumerate(["data", "noise", "tokenizer", "train", "recognize"], 1):
        assert f"stage {number} {stage}" in done.stdout
    # the page of results comes last and shows the clips
    assert done.stdout.index("stage 8 demo") < done.stdout.index("stage 9 results")
    assert "/e/default/report/motions_" in done.stdout and "--labels student shuffled mean static" in done.stdout
    assert f"{tmp_path}/e/default/recognizer_av" in done.stdout  # folders are the caller's
    assert not list(tmp_path.iterdir())


def test_learn2talk_dry_run_keeps_losses_and_judges_apart(tmp_path):
    done = run_recipe("mini", "--dry_run", "true", "--expdir", "e", cwd=tmp_path, script="learn2talk.sh")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for number, stage in enumerate(["experts", "students", "animate", "ablation", "results"], 1):
        assert any(f"stage {number} {stage}" in line for line in lines)
    losses = " ".join(line for line in lines if "learn2talk.yaml" in line)
    (scoring,) = (line for line in lines if "benchmarks.ablation" in line)
    assert "expert=" in losses and "/expert/checkpoint" in losses and "/lipreader/checkpoint" in losses
    assert "/judge/checkpoint" in scoring and "default/recognizer_v/checkpoint" in scoring
    assert "/expert/" not in scoring and "/lipreader/" not in scoring
    seeds = [line.split("trainer.seed=")[1].strip() for line in lines if "faceformer.yaml" in line]
    assert seeds == ["0", "1", "2"] and scoring.count("/faceformer_") == 3
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name, unseen", [("mini", "test_unseen"), ("grid", "test")])
def test_teacher_dry_run_reads_its_lips_and_the_control(name, unseen, tmp_path):
    done = run_recipe(name, "--dry_run", "true", "--expdir", "e", cwd=tmp_path, script="teacher.sh")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for number, stage in enumerate(["expert", "teacher", "teach", "readback", "results"], 1):
        assert any(f"stage {number} {stage}" in line for line in lines)
    (trained,) = (line for line in lines if "teacher2d.yaml" in line)
    (scoring,) = (line for line in lines if "benchmarks.generator" in line)
    assert "expert=" in trained and "/teacher/syncnet2d/checkpoint" in trained
    for motion in ("taught", "shuffled"):
        manifest = f"{tmp_path}/e/default/teacher/generator/{unseen}/{motion}/drawn"
        assert f"{motion}={manifest}/manifest.jsonl" in scoring
        assert any("talking3d teach" in line and f"--out {manifest} " in line for line in lines)
    assert not list(tmp_path.iterdir())


def test_learn2talk_needs_the_loop_first(tmp_path):
    done = run_recipe("mini", "--expdir", str(tmp_path), script="learn2talk.sh")
    assert done.returncode == 2 and "run egs/mini/run.sh --preset default first" in done.stderr


def test_stages_by_name_and_by_number_are_the_same(tmp_path):
    by_name = run_recipe("mini", "--dry_run", "true", "--stage", "noise", "--stop_stage", "tokenizer")
    by_number = run_recipe("mini", "--dry_run", "true", "--stage", "2", "--stop_stage", "3")

    def commands(done):
        return [line for line in done.stdout.splitlines() if line.startswith("  ")]

    assert commands(by_name) == commands(by_number) != []


@pytest.mark.parametrize(
    "options, message",
    [
        (("--stage", "trian"), "no stage 'trian'; stages: 1=data 2=noise"),
        (("--stage", "results", "--stop_stage", "data"), "--stage results comes after --stop_stage data"),
        (("--presset", "smoke"), "unknown option --presset; options: --stage"),
        (("--preset", "huge"), "--preset 'huge' is not one of smoke, default, full"),
        (("--nj", "0"), "--nj takes 1 or more"),
        (("--ngpu", "two"), "--ngpu takes a whole number, not 'two'"),
        (("--seed",), "option --seed needs a value"),
        (("data",), "unexpected argument 'data'"),
    ],
)
def test_wrong_options_are_named(options, message):
    done = run_recipe("mini", *options)
    assert done.returncode == 2
    assert f"error: {message}" in done.stderr


def test_grid_asks_for_its_folder():
    done = run_recipe("grid", "--dry_run", "true")
    assert done.returncode == 2
    assert "error: where is GRID? give --grid DIR" in done.stderr


def test_a_command_that_fails_beside_others_ends_the_recipe_and_them(tmp_path):
    """Even one that has failed before anybody waits for it."""
    for name in ("path.sh", "db.sh", "cmd.sh"):
        (tmp_path / name).touch()
    (tmp_path / "run.sh").write_text(
        f". {ROOT}/egs/loop.sh\n"
        'stage_data() { beside "$exp/log/bad.log" false; sleep 0.3; beside "$exp/log/long.log" sleep 987; together; }\n'
        'loop "$@"\n'
    )
    command = ["bash", str(tmp_path / "run.sh"), "--stop_stage", "data", "--expdir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "error: a command failed; see" in done.stderr and "bad.log" in done.stderr
    assert "sleep 987" not in subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True).stdout


def grid_local(name):
    spec = importlib.util.spec_from_file_location(f"grid_{name}", ROOT / "egs" / "grid" / "local" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_grid_split_is_fixed_and_covers_the_rule():
    data = grid_local("data")
    listed = data.read_split(ROOT / "egs" / "grid" / "conf" / "split.tsv")
    assert {s: list(listed.values()).count(s) for s in data.SUBSETS} == {"train": 697, "valid": 45, "test": 108}
    assert all(data.subset_of(utt_id, {}) == subset for utt_id, subset in listed.items())


def test_grid_layout_becomes_rows_and_drops_are_named(tmp_path):
    data = grid_local("data")
    for name in ("s1/bbaf2n.mpg", "s1/lwbf3s.mpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "alignments/s1").mkdir(parents=True)
    (tmp_path / "alignments/s1/bbaf2n.align").write_text("0 23750 sil\n23750 29500 bin\n29500 74500 sil\n")
    spoken = read_pronunciations(ROOT / "egs/grid/conf/lexicon.txt")
    rows, dropped = data.collect(tmp_path, {"s1_bbaf2n": "test"}, spoken, tmp_path / "out")
    (row,) = rows["test"]
    assert (row["utt_id"], row["text"], row["duration_s"]) == ("s1_bbaf2n", "bin", 1.18)
    phones = read_alignment(row["alignment"])["phones"]
    assert [phone for _, _, phone in phones] == ["b", "ɪ", "n"] and (phones[0][0], phones[-1][1]) == (0.95, 1.18)
    assert [drop["utt_id"] for drop in dropped] == ["s1_lwbf3s"]
    with pytest.raises(InputError, match=r"no s\*/\*\.mpg; expected GRID's published layout"):
        data.collect(tmp_path / "out", {}, spoken, tmp_path / "out")
    (tmp_path / "split.tsv").write_text("s1_bbaf2n\ttraining\n")
    with pytest.raises(InputError, match=r"split\.tsv:1: expected 'utt_id<TAB>train\|valid\|test'"):
        data.read_split(tmp_path / "split.tsv")


def test_the_page_states_a_command_that_can_be_run_again(tmp_path):
    options = ("--dry_run", "true", "--expdir", "e", "--seeds", "0 1 2", "--stage", "results")
    done = run_recipe("mini", *options, cwd=tmp_path)
    report = shlex.split(next(line for line in done.stdout.splitlines() if "benchmarks.report" in line))
    script, *stated = shlex.split(report[report.index("--command") + 1])
    assert script.endswith("run.sh") and tuple(stated) == options


def test_seeds_are_trained_and_recognised_together(tmp_path):
    done = run_recipe("mini", "--dry_run", "true", "--expdir", "e", "--seed", "1", "--seeds", "1 2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    trained = [line for line in lines if "recognizer.yaml" in line]
    outs = [re.search(r"/recognizer_(\w+) ", line)[1] for line in trained]
    assert outs == ["v", "v_2", "a", "a_2", "av", "av_2"]
    assert [line.split("trainer.seed=")[1].strip() for line in trained] == ["1", "2"] * 3
    assert "recognizer_a_2/checkpoint" in trained[-1] and "recognizer_v_2/checkpoint" in trained[-1]
    (recognized,) = (line for line in lines if "benchmarks.recognizer" in line)
    assert "/recognizer_av/checkpoint" in recognized and "/recognizer_av_2/checkpoint:av" in recognized
    done = run_recipe("mini", "--dry_run", "true", "--seeds", "1,2", cwd=tmp_path)
    assert done.returncode == 2 and "error: --seeds takes whole numbers with blanks between" in done.stderr


@pytest.mark.parametrize(
    "name, preset, test, percents",
    [
        ("mini", "default", "test_unseen", (2, 10)),
        ("grid", "default", "test", (2, 10)),
        ("grid", "full", "test", (1, 2, 10)),
    ],
)
def test_augmentation_dry_run_draws_with_what_is_filmed_alone(name, preset, test, percents, tmp_path):
    options = ("--dry_run", "true", "--preset", preset, "--datadir", "d", "--expdir", "e")
    done = run_recipe(name, *options, cwd=tmp_path, script="augmentation.sh")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for number, stage in enumerate(["students", "draw", "plan", "train", "measure", "results"], 1):
        assert any(f"stage {number} {stage}" in line for line in lines)
    students = [line for line in lines if "audio2mesh.yaml" in line]
    for percent, line in zip(percents, students, strict=True):
        part = f"{tmp_path}/d/{preset}/shares/{'fit' if name == 'grid' else 'train'}_{percent}/manifest.jsonl"
        assert line.count(part) == 1 + 2 * 100 // percent and f"data.valid=\\[{part}\\]" in line  # all as long
    drawn = {re.search(r"--out (\S+)", line)[1] for line in lines if "talking3d draw" in line}
    (plan,) = (line for line in lines if "benchmarks.augmentation plan" in line)
    assert "percent" in plan and "/shares/train_\\{percent\\}/manifest.jsonl" in plan
    assert {f"{tmp_path}/e/{preset}/augmentation/drawn/learned_10_{i}" for i in range(4)} <= drawn
    assert {f"{tmp_path}/e/{preset}/augmentation/drawn/{control}_10_0" for control in ("shuffled", "static")} <= drawn
    by_rule = [line for line in lines if "/drawn/rules_0 " in line]
    assert len(by_rule) == (name == "grid") and all("/templates" in line for line in by_rule)
    (measured,) = (line for line in lines if "benchmarks.augmentation measure" in line)
    assert f"/{test}/manifest.jsonl" in measured and f"/noise/{test}_babble" in measured
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", RECIPES)
def test_benchmark_runs_when_it_is_asked_for(name, tmp_path):
    options = ("--dry_run", "true", "--datadir", "d", "--expdir", "e", *(("--grid", "g") if name == "grid" else ()))
    assert "benchmarks.perception" not in run_recipe(name, *options, cwd=tmp_path).stdout
    done = run_recipe(name, *options, "--stage", "benchmark", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    (perceived,) = (line for line in lines if "benchmarks.perception" in line)
    assert "--motion student=" in perceived and "--motion static" not in perceived and "--reader AV=" in perceived
    assert any("--snr_db -7.5 -10" in line for line in lines)
    assert sum("benchmarks.augmentation measure" in line for line in lines) == 1
    assert "benchmarks.report" in lines[-1] and f"{tmp_path}/e/default " in lines[-1]
    assert "learn2talk_0" not in perceived
    (test,) = re.findall(r"generator/(\w+)/student/", perceived)
    left = tmp_path / f"e/default/learn2talk/generator/{test}/learn2talk_0/drawn/manifest.jsonl"
    left.parent.mkdir(parents=True)
    left.touch()
    assert f"--motion learn2talk_0={left}" in run_recipe(name, *options, "--stage", "benchmark", cwd=tmp_path).stdout


def test_open_dry_run_counts_what_is_new_apart(tmp_path):
    done = run_recipe("mini", "--dry_run", "true", "--expdir", "e", cwd=tmp_path, script="open.sh")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    trained = [line for line in lines if "recognizer.yaml" in line]
    assert len(trained) == 3 and all("/open_train_drawn/" in line and "/train/" in line for line in trained)
    assert not any("open_test" in line for line in trained)
    free, words, lm = (line for line in lines if "benchmarks.recognizer" in line)
    assert all("--train" in line and "--noise" in line for line in (free, words, lm))
    assert "--lexicon" not in free and "--lexicon" in words and "--lm " in lm
    (texts,) = (line for line in lines if "avsr lm" in line)
    assert "open_train" in texts.split("--valid")[0] and "open_test" not in texts
    (spoken,) = (line for line in lines if "local/lexicon.py" in line)
    (units,) = (line for line in lines if "avsr tokenizer" in line)
    assert "open_test" not in spoken + units and "--kind phone" in units
    assert spoken.split("--out")[1].strip() == units.split("--lexicon")[1].split()[0]
    starts = [re.search(r"init=\\\[(\S+?)\\\]", line)[1] for line in trained]
    began = sorted(Path(start).parts[-3:-1] for start in starts[:2])
    assert began == [("default", "recognizer_a"), ("default", "recognizer_v")]
    assert starts[2].count("/default/open/recognizer_") == 2


def test_the_dictionary_of_open_words_has_what_was_said_and_what_training_lacks(tmp_path):
    said = {"the": ["ð ə"] * 30 + ["ð ɪ"], "hammer": ["h æ m ɚ", "h æ m ɚ ɹ", "h æ m ɚ"]}
    rows, phones = [], [(word, form.split()) for word, forms in said.items() for form in forms]
    for index, (word, spoken) in enumerate(phones):
        intervals = [(0.1 * number, 0.1 * (number + 1), phone) for number, phone in enumerate(spoken)]
        write_alignment(tmp_path / f"{index}.json", [(0.0, 0.1 * len(spoken), word)], intervals)
        rows.append({"utt_id": f"u{index}", "speaker": "s", "text": word, "audio": str(tmp_path / f"{index}.wav"),
                     "duration_s": 1.0, "alignment": str(tmp_path / f"{index}.json")})  # fmt: skip
    write_manifest(tmp_path / "manifest.jsonl", rows)
    script = [sys.executable, ROOT / "egs/mini/local/lexicon.py", tmp_path / "manifest.jsonl"]
    outs = ["--words", tmp_path / "words.txt", "--out", tmp_path / "lexicon.txt"]
    subprocess.run([*script, *outs], check=True, capture_output=True)
    spoken = read_pronunciations(tmp_path / "lexicon.txt")
    assert spoken["the"] == [("ð", "ə")] and spoken["hammer"] == [("h", "æ", "m", "ɚ"), ("h", "æ", "m", "ɚ", "ɹ")]
    assert spoken["jigsaw"] == [("dʒ", "ɪ", "ɡ", "s", "ɔː")]  # which training lacks
    assert set((tmp_path / "words.txt").read_text().split()) == set(spoken) == set.union(*open_vocabulary())


def test_fusion_dry_run_changes_the_meeting_alone(tmp_path):
    done = run_recipe("mini", "--dry_run", "true", "--expdir", "e", cwd=tmp_path, script="fusion.sh")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    trained = [line for line in lines if "recognizer.yaml" in line]
    late = [line for line in trained if "/early/" not in line]
    assert [re.search(r"recognizer.fusion=(\w+)", line)[1] for line in late] == ["concat", "cross_attention"]
    assert all("init=\\[" in line and "/default/recognizer_a/checkpoint" in line for line in late)
    early = [line for line in trained if "/early/" in line]
    assert len(early) == 3 and all("recognizer.layers=4" in line for line in early)
    (scored,) = (line for line in lines if "benchmarks.recognizer" in line)
    assert [f"{name}=" in scored for name in ("gated", "concat", "cross_attention", "early")] == [True] * 4


def test_motion_dry_run_takes_as_many_steps_on_any_share(tmp_path):
    done = run_recipe("grid", "--dry_run", "true", "--datadir", "d", "--expdir", "e", cwd=tmp_path, script="motion.sh")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    students = [line for line in lines if "audio2mesh.yaml" in line]
    for percent, times in ((1, 200), (2, 100), (10, 20), (100, 2)):
        alone, tuned, heard = (line for line in students if f"/train_{percent}/" in line)
        assert [line.count(f"/train_{percent}/") for line in (alone, tuned, heard)] == [times] * 3
        assert ["init=" in line for line in (alone, tuned, heard)] == [False, True, False]
        assert "encoder.pretrained=" in heard and "e/default/recognizer_a/checkpoint" in heard
    readers = [line for line in lines if "recognizer.yaml" in line]
    assert ["/drawn/" in line and "/drawn_1/" in line for line in readers] == [True, True]
    assert not any("/default/train/" in line or "/test/" in line for line in readers)  # no filmed lips, no test
    scored = [line for line in lines if "benchmarks.recognizer" in line]
    assert len(scored) == 4 and sum("--lm" in line for line in scored) == 2
    assert not list(tmp_path.iterdir())


def test_learn2talk_on_real_speech_reads_filmed_lips_to_judge(tmp_path):
    done = run_recipe("grid", "--dry_run", "true", "--expdir", "e", cwd=tmp_path, script="learn2talk.sh")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    (scoring,) = (line for line in lines if "benchmarks.ablation" in line)
    assert "/fit/test/manifest.jsonl" in scoring and "e/default/recognizer_v/checkpoint" in scoring
    assert "/judge/checkpoint" in scoring and "/expert/" not in scoring and "/lipreader/" not in scoring
    assert not any("motion_prior" in line for line in lines)


def test_grids_grammar_leads_from_slot_to_slot(tmp_path):
    grammar = grid_local("grammar")
    slots = [line.split() for line in (ROOT / "egs/grid/conf/grammar.txt").read_text().splitlines()]
    assert [len(words) for words in slots] == [4, 4, 4, 25, 10, 4]
    assert set(read_pronunciations(ROOT / "egs/grid/conf/lexicon.txt")) == {word for words in slots for word in words}
    grammar.grammar_model(slots).save(tmp_path / "grammar.arpa")
    model = load_ngram(tmp_path / "grammar.arpa")
    words = ["place", "red", "at", "g", "nine", "now"]
    sentence = sum(model.log_prob(word, words[:i]) for i, word in enumerate([*words, model.END]))
    assert sentence == pytest.approx(-math.log(4 * 4 * 4 * 25 * 10 * 4), abs=1e-4)
    for word, history in (("red", []), ("at", ["place"]), (model.END, ["place"]), ("nowhere", ["place"])):
        assert model.log_prob(word, history) < -200
    with pytest.raises(InputError, match="'at' is in the grammar twice"):
        grammar.grammar_model([["at"], ["by", "at"]])
    with pytest.raises(InputError, match="each with at least one word"):
        grammar.grammar_model([["at"], []])


def test_the_small_loop_runs_and_the_student_learns(tmp_path):
    folders = ("--datadir", str(tmp_path / "data"), "--expdir", str(tmp_path / "exp"))
    done = run_recipe("mini", "--preset", "smoke", *folders, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    exp = tmp_path / "exp" / "smoke"
    motions = json.loads((exp / "generator/test_unseen/scores.json").read_text())["motions"]
    assert motions["student"]["lve_mm"] < 0.9 * motions["mean"]["lve_mm"]
    assert motions["student"]["lve_mm"] < motions["shuffled"]["lve_mm"]
    results = json.loads((exp / "recognizer/test_unseen/scores.json").read_text())["results"]
    assert {(r["system"], r["condition"]) for r in results} >= {
        ("A", "babble_-5dB"),
        ("AV", "babble_-5dB"),
        ("V", "clean"),
    }
    table = (exp / "RESULTS.md").read_text()
    assert "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|" in table and "commit:" in table
    assert (exp / "report/demo.mp4").stat().st_size > 10_000
    page = (exp / "report/index.html").read_text()
    for name in ("wer_snr", "training", "visemes", "readback", "lips"):
        assert (exp / f"report/{name}_test_unseen.png").is_file()
    assert page.count('src="data:image/png') == 5 and page.count('src="data:video/mp4') == 2
    # Started again, it finds everything done.
    again = run_recipe("mini", "--preset", "smoke", "--stop_stage", "train", *folders, cwd=tmp_path)
    assert again.returncode == 0, again.stderr[-3000:]


@pytest.mark.slow
def test_the_small_joint_training_runs(tmp_path):
    folders = ("--preset", "smoke", "--datadir", str(tmp_path / "data"), "--expdir", str(tmp_path / "exp"))
    loop = run_recipe("mini", *folders, "--stop_stage", "train", cwd=tmp_path)
    assert loop.returncode == 0, loop.stdout[-3000:] + loop.stderr[-3000:]
    done = run_recipe("mini", *folders, "--seeds", "0", cwd=tmp_path, script="learn2talk.sh")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    scores = json.loads((tmp_path / "exp/smoke/learn2talk/ablation/test_unseen/scores.json").read_text())
    trained = {"student", "faceformer", "codetalker", "selftalk", "sync", "reading", "learn2talk"}
    assert set(scores["systems"]) == {"reference", "mean", *trained}
    measures = {name: system["measures"] for name, system in scores["systems"].items()}
    for name in trained:
        if name not in ("codetalker", "selftalk"):  # which seconds of training don't bring that far
            assert measures[name]["lve_mm"]["value"] < measures["mean"]["lve_mm"]["value"], name
        assert {"lse_d", "lse_c", "mtm_ms", "wer:V", "ver:V"} <= set(measures[name])
    assert {(c["a"], c["b"]) for c in scores["comparisons"]} >= {("faceformer", "learn2talk"), ("student", "sync")}
    assert "faceformer" in (tmp_path / "exp/smoke/learn2talk/RESULTS.md").read_text()


@pytest.mark.slow
def test_the_small_augmentation_runs(tmp_path):
    folders = ("--preset", "smoke", "--datadir", str(tmp_path / "data"), "--expdir", str(tmp_path / "exp"))
    loop = run_recipe("mini", *folders, "--stop_stage", "tokenizer", cwd=tmp_path)
    assert loop.returncode == 0, loop.stdout[-3000:] + loop.stderr[-3000:]
    done = run_recipe("mini", *folders, "--seeds", "0", cwd=tmp_path, script="augmentation.sh")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    out = tmp_path / "exp/smoke/augmentation"
    cells = json.loads((out / "augmentation/test_unseen/scores.json").read_text())["augmentation"]
    assert {"a", "av_2", "av_2_learned_4", "v_10_shuffled_4", "v_10_static_4", "av_100"} <= set(cells)
    assert cells["av_10"]["filmed_steps"] == cells["av_10_learned_4"]["filmed_steps"]
    assert "What drawn lips gain" in (out / "RESULTS.md").read_text()


@pytest.mark.slow
def test_the_small_loop_runs_on_real_video(shared, tmp_path):
    folders = ("--datadir", str(tmp_path / "data"), "--expdir", str(tmp_path / "exp"))
    done = run_recipe("grid", "--preset", "smoke", "--grid", str(shared / "grid"), *folders, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    scores = json.loads((tmp_path / "exp/smoke/generator/test/scores.json").read_text())
    assert set(scores["motions"]["student"]["readback"]) == {"filmed", "drawn"}
