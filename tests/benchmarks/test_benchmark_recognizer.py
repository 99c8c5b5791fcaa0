import pytest

from avsr.data.noise import write_noise_manifest
from avsr.errors import InputError
from benchmarks.recognizer import System, conditions_in


def test_system_is_parsed_and_bad_ones_named():
    assert System.parse("AV=exp/av:checkpoint:av") == System("AV", "exp/av:checkpoint", "av")
    for text in ("exp/av", "A=exp/a", "A=exp/a:x", "=exp/a:a"):
        with pytest.raises(InputError, match="expected NAME=CHECKPOINT:MODALITY"):
            System.parse(text)


def test_conditions_are_clean_then_falling_snr(tmp_path):
    for snr_db in (-5.0, 10.0, 0.0):
        line = {"utt_id": "a", "kind": "white", "sources": [], "snr_db": snr_db, "seed": 0}
        write_noise_manifest(tmp_path / f"white_{snr_db:g}dB.jsonl", [line])
    assert list(conditions_in(str(tmp_path))) == ["clean", "white_10dB", "white_0dB", "white_-5dB"]
    assert conditions_in(None) == {"clean": None}
    with pytest.raises(InputError, match="no noise manifest"):
        conditions_in(str(tmp_path / "nothing"))
