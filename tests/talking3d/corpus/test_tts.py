import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest

from avsr.errors import InputError
from avsr.media.timing import SAMPLE_RATE
from talking3d.corpus.sentences import GRID_SLOTS, spoken_grid
from talking3d.corpus.tts import Synthesizer, _best_split, _edit_distance
from talking3d.corpus.visemes import viseme_classes


def excerpt(utterance, interval) -> np.ndarray:
    return utterance.waveform[round(interval[0] * SAMPLE_RATE) : round(interval[1] * SAMPLE_RATE)]


def rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def share_above(samples: np.ndarray, hertz: float) -> float:
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    return power[np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE) > hertz].sum() / power.sum()


def check_order(intervals, duration_s):
    assert intervals[0][0] >= 0 and intervals[-1][1] <= duration_s + 1e-3
    for start, end, label in intervals:
        assert end > start, label
    for (_, end, _), (start, _, _) in itertools.pairwise(intervals):
        assert start >= end - 1e-9


@pytest.mark.parametrize("preposition", GRID_SLOTS[2])
def test_every_grid_word_has_its_own_interval(synthesizer, preposition):
    """Also where the engine merges words ("at a") or gives a letter's last sound no time ("l", "in i")."""
    for n, letter in enumerate(GRID_SLOTS[3][::2] if preposition in ("by", "with") else GRID_SLOTS[3]):
        words = ("bin", "red", preposition, letter, GRID_SLOTS[4][n % 10], GRID_SLOTS[5][n % 4])
        said = synthesizer.synthesize(" ".join(words), spoken=spoken_grid(words))
        duration_s = len(said.waveform) / SAMPLE_RATE
        assert tuple(word for _, _, word in said.words) == words
        check_order(said.words, duration_s)
        check_order(said.phones, duration_s)
        assert min(end - start for start, end, _ in said.words) > 0.06
        assert min(end - start for start, end, _ in said.phones) > 0.012
        for start, end, word in said.words:
            inside = [(a, b) for a, b, _ in said.phones if a >= start - 1e-9 and b <= end + 1e-9]
            assert (inside[0][0], inside[-1][1]) == (start, end), word


def test_the_letter_a_is_not_the_article(synthesizer):
    words = ("set", "blue", "at", "a", "two", "now")
    said = synthesizer.synthesize(" ".join(words), spoken=spoken_grid(words))
    start, end, _ = said.words[3]
    assert [ipa for a, _, ipa in said.phones if start <= a < end] == ["ˈeɪ"]


@pytest.mark.parametrize("variant", [None, "m3", "klatt4"])
def test_stops_begin_with_their_closure(synthesizer, variant):
    said = synthesizer.synthesize("a copper teapot keeps a paper packet", variant=variant)
    stops = [phone for phone in said.phones if phone[2] in ("p", "t", "k")]
    assert len(stops) >= 6
    loudest = max(rms(excerpt(said, phone)) for phone in said.phones)
    for start, _, _ in stops:  # the vowel before may ring on at first
        assert rms(excerpt(said, (start + 0.025, start + 0.040))) < 0.01 * loudest
        assert rms(excerpt(said, (start + 0.040, start + 0.070))) > 0.03 * loudest


def test_sibilants_hiss_where_they_are_said_to(synthesizer):
    said = synthesizer.synthesize("she sees his shoes as he eases the seesaw")
    hiss = [share_above(excerpt(said, p), 3000) for p in said.phones if p[2] in ("s", "ʃ")]
    hum = [share_above(excerpt(said, p), 3000) for p in said.phones if p[2].strip("ˈ")[0] in "aæɔəe"]
    assert min(hiss) > 0.5 > 0.2 > max(hum)


def test_full_phoneme_names_are_read_whole(synthesizer):
    """`ˈɑːɹ` fills the eight bytes that the engine has for a name."""
    assert "ˈɑːɹ" in [ipa for _, _, ipa in synthesizer.synthesize("the farm").phones]


def test_merged_function_words_are_told_apart(synthesizer):
    text = "at a farm the kids of the town were in the house with a dog"
    said = synthesizer.synthesize(text)
    assert [word for _, _, word in said.words] == text.split()
    sounds = {}
    for start, end, word in said.words:
        sounds.setdefault(word, []).append([p.strip("ˈˌ") for a, b, p in said.phones if start <= a and b <= end])
    assert sounds["of"] == [["ʌ", "v"]]
    assert sounds["the"] == [["ð", "ə"]] * 3
    assert sounds["in"] == [["ɪ", "n"]]


@pytest.mark.parametrize("seed", range(5))
def test_best_split_is_the_best_of_all_splits(seed):
    rng = np.random.default_rng(seed)
    parts = [list(rng.choice(list("aekst"), rng.integers(1, 4))) for _ in range(3)]
    names = [p if rng.random() < 0.7 else str(rng.choice(list("aekst"))) for part in parts for p in part]

    def cost(sizes):
        edges = np.cumsum([0, *sizes])
        pieces = zip(itertools.pairwise(edges), parts, strict=True)
        return sum(_edit_distance(names[a:b], part) for (a, b), part in pieces)

    every = [s for s in itertools.product(range(1, len(names)), repeat=3) if sum(s) == len(names)]
    sizes = _best_split(names, parts)
    assert sum(sizes) == len(names)
    assert cost(sizes) == min(map(cost, every))


def test_the_same_request_gives_the_same_bytes_whatever_came_before(synthesizer):
    def digest(engine):
        said = engine.synthesize("bin blue with m four now", variant="f3", pitch=61, rate=150)
        return hashlib.sha256(said.waveform.tobytes()).hexdigest(), said.phones, said.words

    first = digest(synthesizer)
    for text in ("something else entirely", "and one more"):
        synthesizer.synthesize(text, variant="m2", language="de")
    with Synthesizer() as fresh:
        assert first == digest(synthesizer) == digest(fresh)


def test_formant_scale_keeps_words_and_sound_together(synthesizer):
    plain = synthesizer.synthesize("place white by s nine soon")
    small = synthesizer.synthesize("place white by s nine soon", formant_scale=54 / 49)
    assert len(small.waveform) == pytest.approx(len(plain.waveform) * 49 / 54, abs=1)
    np.testing.assert_allclose([w[0] for w in small.words], [w[0] * 49 / 54 for w in plain.words])
    hiss = [p for p in small.phones if p[2] == "s"]
    assert min(share_above(excerpt(small, p), 3000) for p in hiss) > 0.5


@pytest.mark.parametrize("language", ["en-gb", "fr-fr", "de", "es", "it", "nl", "pl", "ru", "sv", "tr"])
def test_languages_speak_and_their_sounds_have_lip_shapes(synthesizer, language):
    """A language that the engine doesn't find would silently be the last one's."""
    english = synthesizer.synthesize("radio taxi hotel museum")
    said = synthesizer.synthesize("radio taxi hotel museum", language=language)
    assert [p for _, _, p in said.phones] != [p for _, _, p in english.phones]
    assert all(viseme_classes(ipa) for _, _, ipa in said.phones)


@pytest.mark.parametrize(
    ("language", "text"), [("fr-fr", "le weekend au computer"), ("ru", "я говорю hello"), ("el", "καλημέρα hello")]
)
def test_marks_are_no_sounds(synthesizer, language, text):
    """The engine reports changes of language and palatalisation as phonemes of their own."""
    said = synthesizer.synthesize(text, language=language)
    assert [word for _, _, word in said.words] == text.split()
    check_order(said.phones, len(said.waveform) / SAMPLE_RATE)
    assert all(viseme_classes(ipa) and "(" not in ipa for _, _, ipa in said.phones)


def test_gpl_code_stays_out_of_this_process(synthesizer):
    synthesizer.synthesize("hello")
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("this system doesn't tell which libraries a process holds")
    assert "espeak" not in maps.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": "   "}, "0 words"),
        ({"text": "two words", "spoken": "one"}, "2 words to label and 1 to say"),
        ({"text": "hello", "variant": "m33"}, "no voice variant 'm33'; did you mean m3"),
        ({"text": "hello", "language": "en-uz"}, "no language 'en-uz'; did you mean en-us"),
        ({"text": "hello", "rate": 20}, "rate=20 is out of espeak-ng's range: expected 80 to 450"),
        ({"text": "hello ~~ you"}, "'~~' has no sound; join punctuation to words"),
    ],
)
def test_bad_requests_are_explained_and_the_next_one_works(synthesizer, arguments, message):
    with pytest.raises(InputError, match=message):
        synthesizer.synthesize(**arguments)
    assert synthesizer.synthesize("hello").words[0][2] == "hello"


def test_a_missing_engine_names_the_extra():
    with pytest.raises(InputError, match=r"liploop\[synth\].*nowhere/libespeak"):
        Synthesizer(library="/nowhere/libespeak-ng.so")
