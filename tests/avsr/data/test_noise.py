"""avsr.data.noise: the ratio is what was asked for, and a noise manifest is the same noise everywhere."""

import json
import shutil

import numpy as np
import pytest

from avsr.data.noise import (
    disturb,
    load_noise,
    make_babble,
    make_noise_manifest,
    mix_at_snr,
    noise_hash,
    pink_noise,
    read_noise_manifest,
    reverberate,
    white_noise,
    write_noise_manifest,
)
from avsr.errors import InputError
from avsr.media.audio import read_audio, write_wav


def power_db(waveform):
    return 10 * np.log10(np.mean(np.square(waveform, dtype=np.float64)))


@pytest.fixture
def speech():
    rng = np.random.default_rng(0)
    return (0.05 * rng.standard_normal(16_000) * np.hanning(16_000)).astype(np.float32)


@pytest.fixture
def rows(tmp_path):
    rng = np.random.default_rng(1)
    made = []
    for i in range(8):
        path = tmp_path / "audio" / f"u{i}.wav"
        write_wav(path, (0.2 * np.sin(np.arange(8000 + 500 * i) * (0.05 + 0.03 * i)) * rng.uniform(0.2, 1)))
        made.append({"utt_id": f"u{i}", "audio": str(path)})
    return made


@pytest.mark.parametrize("snr_db", [-10, -5.0, 0, 0.0, 5, 12.5, 40])
def test_the_ratio_is_what_was_asked_for_zero_decibels_too(speech, snr_db):
    noise = white_noise(len(speech), np.random.default_rng(2)) * 0.03
    mixed = mix_at_snr(speech, noise, snr_db)
    assert mixed.dtype == np.float32 and mixed.shape == speech.shape
    assert power_db(speech) - power_db(mixed - speech) == pytest.approx(snr_db, abs=0.01)


def test_clipping_scales_both_together(speech):
    speech = speech / np.abs(speech).max()
    noise = white_noise(len(speech), np.random.default_rng(2))
    mixed = mix_at_snr(speech, noise, 0)
    assert np.abs(mixed).max() == pytest.approx(1)
    a, b = np.linalg.lstsq(np.stack((speech, noise), 1).astype(np.float64), mixed.astype(np.float64))[0]
    assert a < 1
    assert power_db(a * speech) - power_db(b * noise) == pytest.approx(0, abs=0.01)


def test_mixing_leaves_its_inputs_alone(speech):
    noise = white_noise(len(speech), np.random.default_rng(2))
    kept = speech.copy(), noise.copy()
    mix_at_snr(speech, noise, -20)
    np.testing.assert_array_equal(speech, kept[0])
    np.testing.assert_array_equal(noise, kept[1])


def test_silence_has_no_ratio(speech):
    silence = np.zeros_like(speech)
    with pytest.raises(InputError, match="the speech is silent"):
        mix_at_snr(silence, speech, 0)
    with pytest.raises(InputError, match="the noise is silent"):
        mix_at_snr(speech, silence, 0)
    for snr_db in (float("nan"), float("inf")):
        with pytest.raises(InputError, match="snr_db must be a finite number"):
            mix_at_snr(speech, speech, snr_db)


@pytest.mark.parametrize(("make", "slope_db"), [(white_noise, 0.0), (pink_noise, -3.01)])
def test_colours_fall_by_their_slope_an_octave(make, slope_db):
    noise = make(1 << 18, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    hertz = np.fft.rfftfreq(len(noise), 1 / 16_000)
    edges = 62.5 * 2.0 ** np.arange(8)
    bands_db = [
        10 * np.log10(spectrum[(hertz >= a) & (hertz < b)].mean()) for a, b in zip(edges, edges[1:], strict=False)
    ]
    assert np.polyfit(np.arange(len(bands_db)), bands_db, 1)[0] == pytest.approx(slope_db, abs=0.15)
    assert power_db(noise) == pytest.approx(-20, abs=0.5)
    assert noise.dtype == np.float32


@pytest.mark.parametrize("n_samples", [1, 7, 640, 48_000])
def test_colours_have_any_length(n_samples):
    for make in (white_noise, pink_noise):
        assert make(n_samples, np.random.default_rng(0)).shape == (n_samples,)


def test_babble_is_the_sum_of_equally_loud_turned_talkers():
    """Against a plain loop that walks each talker sample by sample."""
    waveforms = [np.sin(np.arange(n) * f).astype(np.float32) * a for n, f, a in ((50, 0.3, 1), (80, 0.7, 0.01))]
    babble = make_babble(waveforms, 120, np.random.default_rng(4), n_talkers=2)
    rng = np.random.default_rng(4)
    order = rng.choice(2, 2, replace=False)
    expected = np.zeros(120)
    for k in order:
        w = waveforms[k].astype(np.float64)
        offset = rng.integers(len(w))
        rms = np.sqrt(np.mean(w**2))
        for n in range(120):
            expected[n] += 0.1 * w[(offset + n) % len(w)] / rms
    np.testing.assert_allclose(babble, expected, atol=1e-5)


def test_babble_of_few_talkers_repeats_and_of_none_is_an_error():
    assert make_babble([np.ones(10, np.float32)], 30, np.random.default_rng(0)).shape == (30,)
    with pytest.raises(InputError, match="at least one waveform"):
        make_babble([], 30, np.random.default_rng(0))


@pytest.mark.parametrize("kind", ["babble", "white", "pink", "recorded", "talker"])
def test_manifest_round_trip_gives_the_same_noise(tmp_path, rows, kind):
    paths = [rows[0]["audio"], rows[1]["audio"]]
    lines = make_noise_manifest(rows, kind=kind, snr_db=0, seed=5, noise_paths=paths)
    write_noise_manifest(tmp_path / "noise" / "n.jsonl", lines)
    again = read_noise_manifest(tmp_path / "noise" / "n.jsonl")
    assert again == lines
    assert [line["snr_db"] for line in again] == [0.0] * len(rows)
    assert noise_hash(again) == noise_hash(lines)
    for line, same in zip(lines, again, strict=True):
        np.testing.assert_array_equal(load_noise(line, 9000), load_noise(same, 9000))
    assert not np.array_equal(load_noise(lines[0], 9000), load_noise(lines[2], 9000))


def test_noise_does_not_depend_on_the_other_rows_nor_on_the_ratio(rows):
    """An utterance keeps its noise when the list is cut or turned; another seed gives another."""
    lines = make_noise_manifest(rows[:4], kind="babble", snr_db=0, seed=5, babble_rows=rows)
    turned = make_noise_manifest(rows[3::-1], kind="babble", snr_db=-5, seed=5, babble_rows=rows)
    assert [line | {"snr_db": -5.0} for line in lines] == turned[::-1]
    assert noise_hash(lines) != noise_hash(turned)
    other = make_noise_manifest(rows[:4], kind="babble", snr_db=0, seed=6, babble_rows=rows)
    assert all(a["sources"] != b["sources"] for a, b in zip(lines, other, strict=True))


def test_talkers_come_from_the_rows_given_and_never_from_the_utterance(rows):
    test, talkers = rows[:3], rows[3:]
    lines = make_noise_manifest(test, kind="babble", snr_db=0, seed=0, babble_rows=talkers)
    named = {path for line in lines for path, _ in line["sources"]}
    assert named <= {row["audio"] for row in talkers}
    for row, line in zip(rows, make_noise_manifest(rows, kind="babble", snr_db=0, seed=0), strict=True):
        assert row["audio"] not in {path for path, _ in line["sources"]}


def test_a_talker_has_another_voice(rows):
    for i, row in enumerate(rows):
        row["speaker"] = ("s1", "s2", None)[i % 3]
    heard = set()
    for seed in range(20):
        for row, line in zip(
            rows, make_noise_manifest(rows, kind="talker", snr_db=0, seed=seed, babble_rows=rows), strict=True
        ):
            [[path, _]] = line["sources"]
            other = next(candidate for candidate in rows if candidate["audio"] == path)
            assert other is not row and (row["speaker"] is None or other["speaker"] != row["speaker"])
            heard.add((row["utt_id"], other["utt_id"]))
    assert len(heard) > 30
    with pytest.raises(InputError, match="talker for u0: no utterance of another speaker"):
        make_noise_manifest(rows[:1], kind="talker", snr_db=0, seed=0, babble_rows=[rows[0], rows[3]])


def room(delay, n_samples=4000):
    """An impulse response: a direct path after `delay` samples, then a decaying tail."""
    rng = np.random.default_rng(delay)
    rir = np.zeros(delay + n_samples, np.float32)
    rir[delay + 1 :] = 0.08 * rng.standard_normal(n_samples - 1) * np.exp(-np.arange(n_samples - 1) / 600)
    rir[delay] = -0.5  # microphones may turn the sign
    return rir


def test_a_room_is_a_convolution_that_moves_and_scales_nothing(speech):
    rir = room(37, 200)
    heard = reverberate(speech[:600], rir)
    expected = np.zeros(600)
    for n in range(600):
        for k in range(len(rir)):
            if 0 <= n + 37 - k < 600:
                expected[n] += speech[n + 37 - k] * rir[k] / -0.5
    expected *= np.sqrt(np.mean(speech[:600] ** 2.0) / np.mean(expected**2))
    np.testing.assert_allclose(heard, expected, atol=1e-6)
    assert heard.dtype == np.float32 and power_db(heard) == pytest.approx(power_db(speech[:600]), abs=1e-4)
    echo_free = np.zeros(500, np.float32)
    echo_free[217] = -0.01
    np.testing.assert_allclose(reverberate(speech, echo_free), speech, atol=1e-6)  # wherever the direct path is


def test_speech_stays_in_its_place_in_real_rooms(shared):
    """The loudness of speech, in frames of 10 ms, correlates best with itself where it is not shifted."""
    speech = read_audio(shared / "speech" / "utterances" / "spk1_snt1.wav")

    def loudness(waveform):
        frames = waveform[: len(waveform) // 160 * 160].reshape(-1, 160)
        return np.log(np.mean(frames**2.0, axis=1) + 1e-5)

    for path in sorted((shared / "speech" / "rir").glob("*.wav")):
        heard = reverberate(speech, read_audio(path))
        assert heard.shape == speech.shape and np.abs(heard).max() <= 1
        a, b = loudness(speech), loudness(heard)
        r = {lag: np.corrcoef(a[30:-30], np.roll(b, -lag)[30:-30])[0, 1] for lag in range(-30, 31)}
        assert -1 <= max(r, key=r.get) <= 4, path.name  # the tail may pull it back a little


def test_a_silent_room_and_silence_in_a_room_are_errors(speech):
    with pytest.raises(InputError, match="the impulse response is silent"):
        reverberate(speech, np.zeros(100, np.float32))
    with pytest.raises(InputError, match="the speech is silent"):
        reverberate(np.zeros(100, np.float32), room(3))


def test_speech_in_a_room_never_clips(speech):
    heard = reverberate(speech / np.abs(speech).max(), room(5))
    assert np.abs(heard).max() <= 1


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 0])
def test_the_ratio_is_that_of_the_reverberant_speech(tmp_path, rows, speech, snr_db):
    write_wav(tmp_path / "rir.wav", room(20))
    rirs = [tmp_path / "rir.wav"]
    [line] = make_noise_manifest(rows[:1], kind="white", snr_db=snr_db, seed=0, rir_paths=rirs)
    heard = reverberate(0.1 * speech, read_audio(tmp_path / "rir.wav"))
    mixed = disturb(0.1 * speech, line)
    assert power_db(heard) - power_db(mixed - heard) == pytest.approx(snr_db, abs=0.01)
    del line["rir"]
    np.testing.assert_array_equal(disturb(speech, line), mix_at_snr(speech, load_noise(line, len(speech)), snr_db))


def test_rooms_in_a_manifest(tmp_path, rows):
    rirs = [tmp_path / "rooms" / f"{i}.wav" for i in range(3)]
    for i, path in enumerate(rirs):
        write_wav(path, room(10 * i))
    dry = make_noise_manifest(rows, kind="babble", snr_db=0, seed=5)
    wet = make_noise_manifest(rows, kind="babble", snr_db=0, seed=5, rir_paths=rirs)
    assert [{key: line[key] for key in line if key != "rir"} for line in wet] == dry  # the noise is as without
    alone = make_noise_manifest(rows, kind="none", snr_db=None, seed=5, rir_paths=rirs)
    assert [line["rir"] for line in alone] == [line["rir"] for line in wet]  # in every noise the same room
    assert len({line["rir"] for line in wet}) > 1
    assert len({noise_hash(lines) for lines in (dry, wet, alone)}) == 3
    for lines in (wet, alone):
        write_noise_manifest(tmp_path / "noise" / "n.jsonl", lines)
        assert "rooms/" in (tmp_path / "noise" / "n.jsonl").read_text()
        assert str(tmp_path) not in (tmp_path / "noise" / "n.jsonl").read_text()
        assert read_noise_manifest(tmp_path / "noise" / "n.jsonl") == lines
    speech = read_audio(rows[0]["audio"])
    np.testing.assert_array_equal(disturb(speech, alone[0]), reverberate(speech, read_audio(alone[0]["rir"])))
    shutil.rmtree(tmp_path / "rooms")
    with pytest.raises(InputError, match=r"n.jsonl:1: u0: noise file .*rooms.*doesn't exist"):
        read_noise_manifest(tmp_path / "noise" / "n.jsonl")


def test_hash_knows_noise_not_folders_or_order(tmp_path, rows):
    lines = make_noise_manifest(rows, kind="babble", snr_db=0, seed=5)
    shutil.copytree(tmp_path / "audio", tmp_path / "copy")
    moved = [
        {**line, "sources": [[p.replace("/audio/", "/copy/"), o] for p, o in line["sources"]]} for line in lines[::-1]
    ]
    assert noise_hash(moved) == noise_hash(lines)
    for change in ({"snr_db": 1.0}, {"seed": 1}, {"kind": "recorded"}, {"utt_id": "x"}):
        assert noise_hash([{**lines[0], **change}, *lines[1:]]) != noise_hash(lines)


def test_a_published_hash_stays_what_it_is():
    """Results name these: the draws and the canonical form may never change."""
    lines = make_noise_manifest([{"utt_id": "a", "audio": None}], kind="pink", snr_db=0, seed=7)
    assert lines == [{"utt_id": "a", "kind": "pink", "sources": [], "snr_db": 0.0, "seed": 140393515411199}]
    lines.append({"utt_id": "b", "kind": "babble", "sources": [["/x/é.wav", 3]], "snr_db": -5, "seed": 1})
    assert noise_hash(lines) == "0761924253b7c37a49e7dbfe444ac609a7f3f4c237250c0605ed23931e0c592c"


def test_recorded_noise_of_real_files(shared):
    """ESC-50 clips, some padded with digital silence: 44.1 kHz or 16 kHz, and every stretch sounds."""
    paths = sorted((shared / "speech" / "noise").glob("*.wav"))
    rows = [{"utt_id": f"u{i}", "audio": None} for i in range(20)]
    lines = make_noise_manifest(rows, kind="recorded", snr_db=-5, seed=0, noise_paths=paths)
    assert len({line["sources"][0][0] for line in lines}) > 2
    speech = read_audio(shared / "speech" / "utterances" / "spk1_snt1.wav")
    for line in lines:
        mixed = mix_at_snr(speech, load_noise(line, len(speech)), line["snr_db"])
        assert np.isfinite(mixed).all() and np.abs(mixed).max() <= 1


def test_what_no_noise_can_be_made_of(tmp_path, rows):
    def make(**arguments):
        make_noise_manifest(**({"rows": rows, "kind": "white", "snr_db": 0, "seed": 0} | arguments))

    with pytest.raises(InputError, match="kind 'brown': expected one of babble, recorded, white, pink"):
        make(kind="brown")
    with pytest.raises(InputError, match="snr_db must be a finite"):
        make(snr_db=float("nan"))
    with pytest.raises(InputError, match="absent for 'none'; found 0"):
        make(kind="none", rir_paths=["x.wav"])
    with pytest.raises(InputError, match="snr_db must be a finite number of decibels, .* found None"):
        make(snr_db=None)
    with pytest.raises(InputError, match="'none' is a room without noise: it needs rir_paths"):
        make(kind="none", snr_db=None)
    with pytest.raises(InputError, match="needs noise_paths"):
        make(kind="recorded")
    with pytest.raises(InputError, match="babble for u0: no other utterance"):
        make(rows=rows[:1], kind="babble")
    write_wav(tmp_path / "silent.wav", np.zeros(1000, np.float32))
    with pytest.raises(InputError, match="silent.wav: this noise is silent"):
        make(kind="recorded", noise_paths=[tmp_path / "silent.wav"])


def test_an_offset_past_the_end_means_another_file(rows):
    line = make_noise_manifest(rows, kind="recorded", snr_db=0, seed=0, noise_paths=[rows[0]["audio"]])[0]
    line["sources"][0][1] = 10**6
    with pytest.raises(InputError, match="noise for u0: offset 1000000 is past the end of .*u0.wav"):
        load_noise(line, 100)


GOOD = {"utt_id": "a", "kind": "white", "sources": [], "snr_db": 0, "seed": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not a line of JSON"),
        ([], "exactly the keys utt_id, kind"),
        (GOOD | {"snr": 1}, "exactly the keys"),
        (GOOD, "utt_id 'a' has a noise already"),
        (GOOD | {"utt_id": "b", "kind": "brown"}, "noise kind 'brown'"),
        (GOOD | {"utt_id": "b", "snr_db": None}, "snr_db must be a number"),
        (GOOD | {"utt_id": "b", "snr_db": float("nan")}, "snr_db must be a number"),
        (GOOD | {"utt_id": "b", "seed": -1}, "seed a count"),
        (GOOD | {"utt_id": "b", "sources": [["x.wav"]]}, r"sources must be a list of \[path, offset_samples\]"),
        (GOOD | {"utt_id": "b", "sources": [["x.wav", -1]]}, "sources must be a list"),
        (GOOD | {"utt_id": "b", "kind": "babble"}, "babble noise with 0 sources"),
        (GOOD | {"utt_id": "b", "kind": "talker"}, "talker noise with 0 sources"),
        (GOOD | {"utt_id": "b", "rir": 3}, "rir must be the path"),
        (GOOD | {"utt_id": "b", "rir": "r.wav"}, "b: noise file .*r.wav doesn't exist"),
        (GOOD | {"utt_id": "b", "kind": "none", "snr_db": None}, "rir must be the path"),
        (GOOD | {"utt_id": "b", "kind": "none", "rir": "r.wav"}, "snr_db must be a number"),
        (GOOD | {"utt_id": "b", "kind": "babble", "sources": [["x.wav", 1]]}, "b: noise file .*x.wav doesn't exist"),
    ],
)
def test_bad_noise_lines_are_named(tmp_path, line, message):
    path = tmp_path / "noise.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{line if isinstance(line, str) else json.dumps(line)}\n")
    with pytest.raises(InputError, match=rf"noise\.jsonl:2: .*{message}"):
        read_noise_manifest(path)


def test_missing_and_empty_noise_manifests(tmp_path):
    with pytest.raises(InputError, match="no such noise manifest"):
        read_noise_manifest(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(InputError, match="has no lines"):
        read_noise_manifest(tmp_path / "empty.jsonl")
