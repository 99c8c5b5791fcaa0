import json

import pytest

from avsr.errors import InputError
from talking3d.runtime import Runtime


def test_what_is_saved_is_loaded(tmp_path):
    assert Runtime.load(tmp_path) is None
    runtime = Runtime("a slide rule, 1 thread", {"u0": 0.25, "u1": 3.0})
    runtime.save(tmp_path)
    assert Runtime.load(tmp_path) == runtime


@pytest.mark.parametrize(
    "stored", ["no json", "[]", '{"hardware": "x"}', '{"hardware": "x", "seconds": {"u0": "long"}}']
)
def test_another_form_is_refused(tmp_path, stored):
    (tmp_path / "runtime.json").write_text(stored)
    with pytest.raises(InputError, match=r'runtime.json: expected \{"hardware": words, "seconds"'):
        Runtime.load(tmp_path)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_seconds_are_above_nothing(tmp_path, seconds):
    (tmp_path / "runtime.json").write_text(json.dumps({"hardware": "x", "seconds": {"u0": seconds}}))
    with pytest.raises(InputError, match="seconds numbers above 0"):
        Runtime.load(tmp_path)
