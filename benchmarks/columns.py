"""What the tables of generated motion show: each figure's name, format, better direction and definition."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

LOWER, HIGHER, ZERO, TRUTH = "lower", "higher", "near 0", "near the reference's"


@dataclass(frozen=True)
class Column:
    """One figure of a motion; `spec` formats it, `better` is the direction of improvement."""

    key: str
    title: str
    spec: str
    better: str

    def text(self, value: float, signed: bool = False) -> str:
        """The figure as a cell; signed: as a difference."""
        return format(value, f"+{self.spec.removeprefix('+')}" if signed else self.spec)


GEOMETRY = (
    Column("lve_mm", "LVE mm", ".2f", LOWER),
    Column("lve_m2", "LVE m²", ".2e", LOWER),
    Column("mve_mm", "MVE mm", ".2f", LOWER),
    Column("ldtw_mm", "LDTW mm", ".2f", LOWER),
    Column("fdd", "FDD m²", "+.2e", ZERO),
    Column("fdd_abs", "abs. FDD m²", ".2e", LOWER),
    Column("closure_rate", "closed on p b m", ".0%", HIGHER),
    Column("lip_correlation", "lip-opening r", ".2f", HIGHER),
    Column("lower_correlation", "lower lip r", ".2f", HIGHER),
    Column("width_correlation", "width r", ".2f", HIGHER),
    Column("filmed_lower_correlation", "lower lip r, film", ".2f", HIGHER),
    Column("filmed_width_correlation", "width r, film", ".2f", HIGHER),
    Column("mtm_ms", "MTM ms", ".0f", LOWER),
    Column("slcc", "SLCC", ".2f", TRUTH),
    Column("lse_d", "LSE-D", ".3f", LOWER),
    Column("lse_c", "LSE-C", ".3f", HIGHER),
    Column("rtf", "RTF", ".2g", LOWER),
)
READBACK = (
    Column("wer", "WER", ".1f", LOWER),
    Column("cer", "CER", ".1f", LOWER),
    Column("ver", "VER", ".1f", LOWER),
)


def columns(readers: Sequence[str]) -> list[Column]:
    """Geometry, then the error rates of each reader, whose keys are `readback_key`'s."""
    read = [
        Column(readback_key(column.key, reader), f"{column.title} read by {reader}", column.spec, column.better)
        for reader in readers
        for column in READBACK
    ]
    return [*GEOMETRY, *read]


def readback_key(rate: str, reader: str) -> str:
    """The key of a reader's error rate (wer, cer or ver)."""
    return f"{rate}:{reader}"


def definitions(
    measured: Collection[str], n_lips: int, n_verts: int, n_upper: int, judge: str, hardware: Mapping[str, str]
) -> str:
    """The protocol behind the figures with the keys `measured`, in sentences; hardware: of each motion with an RTF."""
    said = {
        "lve_mm": f"LVE: per frame the largest distance over the {n_lips} lip vertices, averaged over all frames "
        "pooled; squared in m² (the literature's) and rooted in mm.",
        "mve_mm": f"MVE: mean over all {n_verts} vertices.",
        "ldtw_mm": "LDTW: mean lip distance after dynamic time warping.",
        "fdd": f"FDD: {n_upper} upper-face vertices; the signed mean over utterances, and the mean of absolute values. "
        "25 fps.",
        "closure_rate": "Closed on p b m: inner lips within 0.5 mm.",
        "lip_correlation": "Lip-opening r: mean over utterances of Pearson's r between the inner-lip gaps.",
        "lower_correlation": "Lower lip r, width r: the same of the lower inner lip's height and of the distance "
        "between the mouth's corners.",
        "filmed_lower_correlation": "Film: mean over utterances of Pearson's r between the motion's lower inner lip or "
        "mouth's width and those of the filmed landmarks, which are laid over the clip's mean face by nose and "
        "eyes' corners; over the frames whose face was found.",
        "mtm_ms": "MTM: mean temporal misalignment of the gaps' extrema, pooled over those that find a partner.",
        "slcc": "SLCC: over utterances Pearson's r between the speech's RMS and the lips' intensity (RMS over time of "
        "their mean speed), both z-normalised by speaker (Chae-Yeon et al., CVPR 2025); intervals take the z-scores as "
        "given.",
        "lse_d": f"LSE-D, LSE-C: mean over utterances, by the judge {judge}, over ±15 frames; comparable within this "
        "table only.",
        "rtf": "RTF: seconds of computing by seconds of speech, from sound in memory to motion in memory, an utterance "
        f"at a time ({'; '.join(f'{name}: {device}' for name, device in hardware.items())}).",
    }
    if any(":" in key for key in measured):
        said["read"] = (
            "WER, CER, VER: words, characters and visemes (Amazon Polly's, one pronunciation a word) of what a lip "
            "reader reads, in %."
        )
    return " ".join(text for key, text in said.items() if key in measured or key == "read")
