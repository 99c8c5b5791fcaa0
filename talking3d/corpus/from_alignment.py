"""Motion by rule for recorded speech of which the times of words or phones are known: nothing filmed, nothing learned.

The rules are the embedded corpus's (`talking3d.corpus.articulation`), in the sound's own time.
"""

from pathlib import Path

from tqdm import tqdm

from avsr.data.alignment import Interval, read_alignment
from avsr.data.manifest import write_manifest
from avsr.data.pronunciations import spread_phones
from avsr.data.text import Pronunciations
from avsr.errors import InputError
from avsr.media.audio import read_audio
from avsr.media.timing import FPS, SAMPLE_RATE
from talking3d.animate import head_sway
from talking3d.corpus.articulation import LipAperture, Style, articulate
from talking3d.face.motion import Motion
from talking3d.face.template import FaceTemplate
from talking3d.predict import moved_row, utterance_rng

GENERATOR = "rules"


def articulate_manifest(
    rows: list[dict],
    template: FaceTemplate,
    out_dir: str | Path,
    *,
    pronunciations: Pronunciations | None = None,
    style: Style | None = None,
    seed: int = 0,
) -> Path:
    """Write out_dir/motion/<utt_id>.npz for each row, out_dir/template.npz and out_dir/manifest.jsonl.

    Args:
        rows: manifest rows with `audio` and `alignment`.
        template: the face that moves; by `visemes.ARTICULATORS`.
        pronunciations: of the words of alignments without phones: the first one is spread over the word.
        style: how the speaker moves; None: the rule itself.
        seed: of all that is random; an utterance sways as `predict_manifest` has it.

    Returns:
        the manifest's path; its rows have `motion`, `template`, `generator`, and `lips` no longer.

    Raises:
        InputError: naming the utterance: an alignment that is wrong or has neither phones nor, in `pronunciations`,
            its words; a phone without a lip shape. And a template that rules don't move.
    """
    out_dir = Path(out_dir)
    aperture = LipAperture.of_template(template)
    face = out_dir / "template.npz"
    template.save(face)
    written = []
    for row in tqdm(rows, desc="motion by rule", unit="utt", disable=None):
        rng = utterance_rng(seed, row["utt_id"])
        duration_s = len(read_audio(row["audio"])) / SAMPLE_RATE
        try:
            phones = _phones(row["alignment"], duration_s, pronunciations)
            coefficients = articulate(phones, duration_s, style or Style(), aperture, rng)
        except InputError as error:
            raise InputError(f"{row['utt_id']}: {error}") from error
        n_frames = len(coefficients)
        sway = head_sway(n_frames, utterance_rng(seed, row["utt_id"]))
        path = out_dir / "motion" / f"{row['utt_id']}.npz"
        Motion.of_template(template, FPS, coefficients=coefficients, head_pose=sway).save(path)
        written.append(moved_row(row, path, face, n_frames, GENERATOR))
    manifest = out_dir / "manifest.jsonl"
    write_manifest(manifest, written)
    return manifest


def _phones(path: str, duration_s: float, pronunciations: Pronunciations | None) -> list[Interval]:
    alignment = read_alignment(path, duration_s)
    if alignment.get("phones"):
        return alignment["phones"]
    if pronunciations is None:
        raise InputError(f"{path} has no phones: give a pronouncing dictionary (--lexicon), to spread them over words")
    return spread_phones(alignment["words"], pronunciations)
