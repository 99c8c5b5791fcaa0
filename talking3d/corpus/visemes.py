"""What phones ask of the face: target positions by phonetic class, and phones parsed into them.

The tables feed the dominance functions of `articulation.py`. They are set by hand from phonetic classes and the rules
of JALI (Edwards et al. 2016); nothing here is fitted to people.

Letter: K = 16 articulators.
"""

import unicodedata
from dataclasses import dataclass

import numpy as np

from avsr.errors import InputError
from talking3d.corpus.tts import Interval

ARTICULATORS = (
    *("jaw_open", "jaw_forward", "lip_round", "lip_spread", "upper_raise", "lower_depress", "lower_tuck", "lip_press"),
    *("lip_funnel", "corner_up", "tongue_tip", "tongue_out", "tongue_dorsum", "brow_raise", "blink", "cheek_puff"),
)
COLUMN = {name: k for k, name in enumerate(ARTICULATORS)}


@dataclass(frozen=True)
class Consonant:
    """Targets of a class of consonants: articulator -> (target, alpha); the others get 0 with `alpha`."""

    ipa: str
    alpha: float
    theta: float  # 1/s
    targets: dict[str, tuple[float, float]]


SILENCE = Consonant("", 0.15, 9.0, {})
CONSONANTS = {
    "BMP": Consonant(
        *("p b m ɓ", 0.25, 16.0),
        {
            **{"jaw_open": (0.06, 2), "lip_press": (0.8, 6), "upper_raise": (0, 4), "lower_depress": (0, 4)},
            **{"lip_spread": (0, 0.2), "lip_round": (0, 0.1), "lip_funnel": (0, 0.6), "cheek_puff": (0.25, 1)},
        },
    ),
    "FV": Consonant(
        *("f v ɸ β ʋ ɱ", 0.3, 16.0),
        {
            **{"jaw_open": (0.08, 2), "lower_tuck": (1, 6), "upper_raise": (0.15, 1), "lip_press": (0, 3)},
            **{"lip_round": (0, 0.3), "lower_depress": (0, 3), "lip_funnel": (0, 1)},
        },
    ),
    "TH": Consonant(
        *("θ ð", 0.3, 14.0),
        {"jaw_open": (0.2, 1.2), "tongue_out": (1, 5), "lower_depress": (0.25, 1), "lip_spread": (0.1, 0.3)},
    ),
    "TDN": Consonant(
        *("t d n ɾ ʈ ɖ ɳ r ɲ ɽ", 0.15, 14.0),
        {"jaw_open": (0.16, 1), "tongue_tip": (0.85, 4), "lower_depress": (0.15, 0.5)},
    ),
    "L": Consonant(
        *("l ɫ ɭ ʎ", 0.2, 13.0),
        {"jaw_open": (0.28, 0.9), "tongue_tip": (1, 5), "lower_depress": (0.15, 0.5)},
    ),
    "SZ": Consonant(
        *("s z", 0.3, 14.0),
        {
            **{"jaw_open": (0.05, 2.2), "lip_spread": (0.3, 0.6), "upper_raise": (0.3, 0.8)},
            **{"lower_depress": (0.5, 1.2), "tongue_tip": (0.5, 2)},
        },
    ),
    "SH": Consonant(
        *("ʃ ʒ ɕ ʑ ʂ ʐ ç", 0.4, 13.0),
        {
            **{"jaw_open": (0.07, 2), "lip_funnel": (1, 3.5), "lip_round": (0.3, 1.5), "lip_spread": (0, 1.5)},
            **{"tongue_tip": (0.3, 1)},
        },
    ),
    "KG": Consonant("k ɡ g ŋ x ɣ q χ ʁ ɟ c", 0.08, 14.0, {"jaw_open": (0.24, 0.5), "tongue_dorsum": (0.95, 4)}),
    "H": Consonant("h ħ ʔ ɦ", 0.03, 14.0, {"jaw_open": (0.3, 0.1)}),
    "R": Consonant(
        *("ɹ ɻ", 0.3, 12.0),
        {
            **{"jaw_open": (0.2, 0.8), "lip_round": (0.4, 1.5), "lip_funnel": (0.4, 1.5), "tongue_tip": (0.25, 1)},
            **{"lip_spread": (0, 1)},
        },
    ),
    "W": Consonant(
        *("w ʍ ɥ", 0.6, 12.0),
        {"jaw_open": (0.05, 1.2), "lip_round": (1.1, 4), "lip_spread": (0, 2), "lip_funnel": (0, 0.6)},
    ),
    "J": Consonant("j", 0.4, 12.0, {"jaw_open": (0.15, 0.8), "lip_spread": (0.7, 1), "tongue_dorsum": (0.7, 2)}),
}

VOWEL_THETA = 9.0  # 1/s
VOWEL_ALPHA = 0.5  # of articulators that vowels have no target for
VOWEL_ARTICULATORS = {  # articulator: alpha; rounding pulls harder where the vowel is round, see _vowel
    **{"jaw_open": 1.0, "lip_round": 0.7, "lip_spread": 1.0, "tongue_dorsum": 1.0, "lip_funnel": 0.8},
    **{"lower_depress": 0.7, "upper_raise": 0.7},
}
ROUND_ALPHA = 1.6
# IPA: targets of jaw, round, spread, dorsum, funnel, lower_depress, upper_raise; then a scale of all alphas
VOWELS = {
    "i": (0.16, 0.00, 0.85, 0.70, 0.0, 0.3, 0.20, 1.0),
    "ɪ": (0.25, 0.00, 0.55, 0.45, 0.0, 0.2, 0.00, 1.0),
    "e": (0.38, 0.00, 0.60, 0.40, 0.0, 0.2, 0.00, 1.0),
    "ɛ": (0.48, 0.00, 0.45, 0.20, 0.0, 0.2, 0.15, 1.0),
    "æ": (0.72, 0.00, 0.40, 0.00, 0.0, 0.2, 0.25, 1.0),
    "a": (0.85, 0.00, 0.15, 0.00, 0.0, 0.0, 0.00, 1.0),
    "ä": (0.85, 0.00, 0.15, 0.00, 0.0, 0.0, 0.00, 1.0),
    "ɑ": (0.95, 0.00, 0.00, 0.00, 0.0, 0.0, 0.00, 1.0),
    "ɒ": (0.80, 0.40, 0.00, 0.00, 0.0, 0.0, 0.00, 1.0),
    "ʌ": (0.58, 0.00, 0.00, 0.00, 0.0, 0.0, 0.00, 1.0),
    "ɐ": (0.50, 0.00, 0.00, 0.00, 0.0, 0.0, 0.00, 0.7),
    "ə": (0.32, 0.00, 0.00, 0.00, 0.0, 0.0, 0.00, 0.5),
    "ᵻ": (0.24, 0.00, 0.35, 0.00, 0.0, 0.0, 0.00, 0.6),
    "ɜ": (0.36, 0.25, 0.00, 0.00, 0.3, 0.0, 0.00, 1.0),
    "ɚ": (0.30, 0.25, 0.00, 0.00, 0.3, 0.0, 0.00, 0.7),
    "ɔ": (0.66, 0.55, 0.00, 0.00, 0.0, 0.0, 0.00, 1.0),
    "o": (0.42, 0.78, 0.00, 0.00, 0.0, 0.0, 0.00, 1.0),
    "ʊ": (0.24, 0.65, 0.00, 0.00, 0.0, 0.0, 0.00, 1.0),
    "u": (0.10, 1.00, 0.00, 0.00, 0.0, 0.0, 0.00, 1.0),
    "ʉ": (0.12, 0.90, 0.00, 0.00, 0.0, 0.0, 0.00, 1.0),
    "y": (0.12, 0.95, 0.00, 0.60, 0.0, 0.0, 0.00, 1.0),
    "ʏ": (0.22, 0.80, 0.00, 0.45, 0.0, 0.0, 0.00, 1.0),
    "ø": (0.32, 0.75, 0.00, 0.40, 0.0, 0.0, 0.00, 1.0),
    "ɵ": (0.32, 0.70, 0.00, 0.20, 0.0, 0.0, 0.00, 1.0),
    "œ": (0.50, 0.60, 0.00, 0.20, 0.0, 0.0, 0.00, 1.0),
    "ɨ": (0.20, 0.00, 0.40, 0.40, 0.0, 0.0, 0.00, 1.0),
    "ɯ": (0.20, 0.00, 0.30, 0.00, 0.0, 0.0, 0.00, 1.0),
    "ɤ": (0.40, 0.00, 0.00, 0.00, 0.0, 0.0, 0.00, 1.0),
}
CLASS_OF = {symbol: name for name, consonant in CONSONANTS.items() for symbol in consonant.ipa.split()}

STRESSED, UNSTRESSED = 1.15, 0.92  # factors of a vowel's jaw target
SHORTEST_SILENCE_S = 0.03


@dataclass(frozen=True)
class Segment:
    """One target position: a vowel, a consonant, half a diphthong, or a silence."""

    start_s: float
    end_s: float
    kind: str  # a class of CONSONANTS, "vowel" or "silence"
    target: np.ndarray  # (K,)
    alpha: np.ndarray  # (K,)
    theta: float
    stressed: bool


def segments_of(phones: list[Interval], duration_s: float) -> list[Segment]:
    """Phones (start_s, end_s, ipa) and the silences around them as segments; diphthongs and clusters are shared out.

    Raises InputError on a symbol that the tables lack.
    """
    segments, reached_s = [], 0.0
    for start_s, end_s, ipa in phones:
        if start_s - reached_s >= SHORTEST_SILENCE_S:
            segments.append(_consonant("silence", SILENCE, reached_s, start_s))
        symbols = _symbols(ipa)
        edges = np.linspace(start_s, end_s, len(symbols) + 1)
        for symbol, left, right in zip(symbols, edges[:-1], edges[1:], strict=True):
            if symbol in VOWELS:
                segments.append(_vowel(symbol, left, right, ipa))
            else:
                segments.append(_consonant(CLASS_OF[symbol], CONSONANTS[CLASS_OF[symbol]], left, right))
        reached_s = end_s
    if not segments or duration_s - reached_s >= SHORTEST_SILENCE_S:
        segments.append(_consonant("silence", SILENCE, reached_s, max(duration_s, reached_s)))
    return segments


def viseme_classes(ipa: str) -> list[str]:
    """What a phone looks like: a class of `CONSONANTS`, or the vowel's symbol, for each part of it."""
    return [CLASS_OF.get(symbol, symbol) for symbol in _symbols(ipa)]


def _symbols(ipa: str) -> list[str]:
    """The vowels and consonants in a phone's name, without marks; affricates are their fricative."""
    symbols: list[str] = []
    for character in unicodedata.normalize("NFC", ipa):
        if unicodedata.category(character) in ("Mn", "Lm", "Sk", "Nd", "Po", "Pd", "Ps", "Pe") or character in "'^":
            continue  # stress, length, tone, diacritics
        if character not in VOWELS and character not in CLASS_OF:
            raise InputError(f"phone {ipa!r}: no lip shape is known for {character!r}; add it to articulation's tables")
        if symbols and symbols[-1] in "td" and CLASS_OF.get(character) in ("SH", "SZ"):
            symbols.pop()
        symbols.append(character)
    if not symbols:
        raise InputError(f"phone {ipa!r} names no vowel and no consonant")
    return symbols


def _consonant(kind: str, consonant: Consonant, start_s: float, end_s: float) -> Segment:
    target, alpha = np.zeros(len(ARTICULATORS)), np.full(len(ARTICULATORS), consonant.alpha)
    for name, (value, strength) in consonant.targets.items():
        target[COLUMN[name]], alpha[COLUMN[name]] = value, strength
    return Segment(start_s, end_s, kind, target, alpha, consonant.theta, stressed=False)


def _vowel(symbol: str, start_s: float, end_s: float, ipa: str) -> Segment:
    *values, scale = VOWELS[symbol]
    target, alpha = np.zeros(len(ARTICULATORS)), np.full(len(ARTICULATORS), VOWEL_ALPHA)
    for (name, strength), value in zip(VOWEL_ARTICULATORS.items(), values, strict=True):
        target[COLUMN[name]], alpha[COLUMN[name]] = value, strength
    if target[COLUMN["lip_round"]] > 0.2:
        alpha[COLUMN["lip_round"]] = ROUND_ALPHA
    target[COLUMN["jaw_open"]] *= STRESSED if "ˈ" in ipa else 1.0 if "ˌ" in ipa else UNSTRESSED
    return Segment(start_s, end_s, "vowel", target, scale * alpha, VOWEL_THETA, stressed="ˈ" in ipa)
