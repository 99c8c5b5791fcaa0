"""The trainings of a plan: what each learns from, how often it sees it, and where it starts.

OUT/manifests/       filmed, drawn and unseen parts of the corpus, by share of filmed clips
OUT/trainings.jsonl  the trainings, in an order in which each comes after those that it starts from
OUT/trainings/NAME-DIGEST/   what a training leaves; another plan or other clips make another digest
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from avsr.data.manifest import read_manifest, write_manifest
from avsr.errors import InputError
from avsr.files import read_jsonl, write_jsonl
from avsr.train import RecognizerTraining, train
from avsr.training.config import load_config
from benchmarks.augmentation.plan import NONE, TUNED, Plan, System
from benchmarks.decodings import READ
from benchmarks.digests import Digests, digest_of


@dataclass(frozen=True)
class Training:
    """One recogniser to train.

    manifests, times: what an epoch goes through, and how often; filmed_share: of the clips that it shows.
    folder: where it is trained, below OUT; init: folders of those that it starts from, which are of earlier waves.
    """

    name: str
    modality: str
    seed: int
    manifests: list[str]
    times: list[int]
    epochs: int
    filmed_share: float
    init: list[str]
    wave: int
    folder: str


def seeded(name: str, seed: int) -> str:
    """The name of a training: a recogniser's and its seed."""
    return f"{name}_seed{seed}"


def plan_trainings(plan: Plan, out: Path) -> list[Training]:
    """Write the manifests and trainings.jsonl of a plan.

    Raises InputError: manifests that are missing, a filmed clip that `sound` lacks, a clip that an arm lacks.
    """
    planner = _Planner(plan, out.resolve())
    for system in plan.systems():
        planner.add(system)
    trainings = list(planner.trainings.values())
    write_jsonl(out / "trainings.jsonl", map(asdict, trainings))
    return trainings


def read_trainings(out: Path) -> list[Training]:
    """Raises InputError where nothing is planned in `out`."""
    path = out / "trainings.jsonl"
    if not path.is_file():
        raise InputError(
            f"{out}: no trainings.jsonl; plan the experiment first: python -m benchmarks.augmentation plan"
        )
    return [Training(**line) for line in read_jsonl(path)]


def train_one(plan: Plan, training: Training, out: Path) -> None:
    """Train, or go on; returns at once where that is done. Raises InputError as `avsr.train.train` does."""
    for start in training.init:
        if not (out / start / "done.json").is_file():
            raise InputError(f"{training.name} starts from {start}, which is not trained yet: train that first")
    train(plan.config, [f"out={out / training.folder}", *_settings(plan, training, out)], plan.preset)


def _settings(plan: Plan, training: Training, out: Path) -> list[str]:
    manifests, times, starts = (
        f"[{','.join(map(str, of))}]"
        for of in (training.manifests, training.times, [checkpoint_of(out, start) for start in training.init])
    )
    return [
        f"recognizer.modalities={training.modality}",
        f"data.train={manifests}",
        f"data.train_times={times}",
        f"data.valid=[{plan.valid}]",
        f"data.tokenizer={plan.tokenizer}",
        f"init={starts}",
        f"trainer.max_epochs={training.epochs}",
        f"trainer.seed={training.seed}",
        "trainer.select=last",  # epochs are of unlike length, and nothing filmed may choose among them
        *plan.overrides,
        *(plan.joint_overrides if training.modality == "av" else ()),
    ]


def checkpoint_of(out: Path, folder: str) -> str:
    """The checkpoint that a training leaves in its folder."""
    return str(out / folder / "checkpoint")


class _Planner:
    """Makes each training once: systems share those of sound, and what is drawn before it is tuned."""

    def __init__(self, plan: Plan, out: Path):
        self.plan, self.out, self.digests = plan, out, Digests()
        self.trainings: dict[str, Training] = {}
        self.sound = {row["utt_id"]: row for row in read_manifest(plan.sound, need=("audio", "text", "duration_s"))}
        config = load_config(plan.config, [*_placeholders(plan), *plan.overrides], RecognizerTraining, plan.preset)
        self.batch_utts = config.data.max_utts
        self.how = [self.digests.of(plan.config), plan.preset, plan.overrides, self.digests.of(plan.tokenizer)]

    def add(self, system: System) -> None:
        """The trainings, from every seed, of a system's recognisers of lips and of both streams, or of sound alone."""
        plan = self.plan
        shown, drawn, unseen = self._parts(system)
        filmed = self._often(shown, plan.filmed_share_v)
        # without drawn lips a lip reader sees nothing but filmed ones, and as many clips an epoch
        rows = sum(self._length(path) * times for path, times in (*filmed, *(drawn or unseen)))
        alone = filmed if drawn else [(path, max(1, round(rows / self._length(path)))) for path, _ in filmed]
        name = system.name("v")
        for seed in plan.seeds:
            sound = self._make("a", "a", seed, [(plan.sound, 1)], plan.steps_a, filmed=0)
            if not system.sees:
                continue
            if system.order == TUNED:
                first = self._make(f"{name}_before", "v", seed, drawn, plan.steps_v // 2, filmed=0)
                lips = self._make(name, "v", seed, filmed, plan.steps_v // 2, filmed=1, init=[first])
            else:
                lips = self._make(name, "v", seed, [*alone, *drawn], plan.steps_v, filmed=len(alone))
            both = [*self._often(shown, plan.filmed_share_av), *(drawn or unseen)]
            self._make(system.name("av"), "av", seed, both, plan.steps_av, filmed=len(filmed), init=[sound, lips])

    def _often(self, filmed: list[str], share: float) -> list[tuple[str, int]]:
        """Manifests with how often an epoch goes through each, so that filmed clips are a share of what it shows."""
        shown = sum(map(self._length, filmed))
        others = self.plan.renditions * (len(self.sound) - shown)
        return [(path, max(1, round(share / (1 - share) * others / shown))) for path in filmed]

    def _parts(self, system: System) -> tuple[list[str], list, list]:
        """Manifests of filmed clips, and of drawn ones and of sound of the others with how often an epoch has each."""
        plan, percent = self.plan, system.percent
        shown: set[str] = set()
        filmed = []
        if percent > 0:
            path = plan.filmed.format(percent=percent)
            shown = {row["utt_id"] for row in read_manifest(path, need=("audio", "lips", "text"))}
            if strangers := sorted(shown - self.sound.keys()):
                raise InputError(
                    f"{path}: utterance {strangers[0]!r} is not in {plan.sound}, of which it is to be a part"
                )
            filmed = [path]
        rest = [row for utt_id, row in self.sound.items() if utt_id not in shown]
        if not rest:
            return filmed, [], []
        if system.arm == NONE:
            bare = [row | {"lips": None, "video": None, "source": None} for row in rest]
            return filmed, [], [(self._written(f"sound_{percent}", bare), plan.renditions)]
        each = plan.renditions // system.times
        return filmed, [(self._drawn(system, i, rest), each) for i in range(system.times)], []

    def _drawn(self, system: System, rendition: int, rest: list[dict]) -> str:
        path = self.plan.arms[system.arm].manifests.format(percent=system.percent, rendition=rendition)
        rows = {row["utt_id"]: row for row in read_manifest(path, need=("audio", "lips", "text"))}
        if missing := [row["utt_id"] for row in rest if row["utt_id"] not in rows]:
            raise InputError(
                f"{path}: {len(missing)} clips of {self.plan.sound} are not drawn, the first is {missing[0]!r}; "
                f"an arm draws all that are not filmed"
            )
        name = f"{system.arm}_{system.percent}_{rendition}"
        return self._written(name, [rows[row["utt_id"]] for row in rest])

    def _written(self, name: str, rows: list[dict]) -> str:
        path = self.out / "manifests" / f"{name}.jsonl"
        write_manifest(path, rows)
        return str(path)

    def _length(self, path: str) -> int:
        return len(read_manifest(path, check_files=False))

    def _clips(self, path: str, modality: str) -> str:
        """The digest of what a recogniser learns from the rows of a manifest."""
        rows = read_manifest(path, use=("lips", "alignment"))
        return digest_of([self.digests.of_rows(rows, (*READ[modality], "alignment")), [row["text"] for row in rows]])

    def _make(
        self, name: str, modality: str, seed: int, mix: list, steps: int, *, filmed: int, init: list["Training"] = ()
    ) -> "Training":
        """filmed: how many of the mix's manifests, the first ones, are filmed."""
        name = seeded(name, seed)
        if name in self.trainings:
            return self.trainings[name]
        rows = [self._length(path) * times for path, times in mix]
        epochs = max(1, round(steps * self.batch_utts / sum(rows)))
        clips = [self._clips(path, modality) for path, _ in mix]
        joint = self.plan.joint_overrides if modality == "av" else []
        starts = [start.folder for start in init]
        times = [times for _, times in mix]
        digest = digest_of([self.how, modality, seed, clips, times, epochs, starts, joint])
        self.trainings[name] = Training(
            name,
            modality,
            seed,
            [str(Path(path).resolve()) for path, _ in mix],
            times,
            epochs,
            sum(rows[:filmed]) / sum(rows),
            starts,
            1 + max((start.wave for start in init), default=0),
            f"trainings/{name}-{digest[:8]}",
        )
        return self.trainings[name]


def _placeholders(plan: Plan) -> list[str]:
    """What a recogniser's config lacks until a training says it."""
    return ["data.train=[x]", f"data.valid=[{plan.valid}]", f"data.tokenizer={plan.tokenizer}"]
