import io
import os
import pickle
import sys
import types

import numpy as np
import pytest
from scipy.sparse import csc_matrix, csr_matrix

from avsr.errors import InputError
from talking3d.face.safe_pickle import read_pickled


class Ch:
    """As chumpy.ch.Ch pickles itself: an object whose state holds its array."""

    def __init__(self, x):
        self.x = x


class Select:
    """As chumpy.reordering.Select: some elements of another object, in a shape."""

    def __init__(self, a, idxs, preferred_shape):
        self.a, self.idxs, self.preferred_shape = a, idxs, preferred_shape


@pytest.fixture(scope="module")
def chumpy():
    """Stands in for chumpy while a pickle is written."""
    modules = {name: types.ModuleType(name) for name in ("chumpy", "chumpy.ch", "chumpy.reordering")}
    for cls, name in ((Ch, "chumpy.ch"), (Select, "chumpy.reordering")):
        setattr(modules[name], cls.__name__, cls)
        cls.__module__ = name
    sys.modules.update(modules)
    yield modules
    for name in modules:
        del sys.modules[name]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_arrays_of_all_three_kinds_come_back_plain(chumpy, tmp_path, protocol):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 3))
    stored = {
        "plain": values,
        "chumpy": Ch(values),
        "selected": Select(Ch(values), np.array([0, 4, 8]), (3, 1)),
        "sparse": csc_matrix(values * (values > 0)),
        "rows": csr_matrix(values * (values > 0)),
        "number": np.float64(2.5),
        "list": [Ch(values), 3, "text"],
        "index": np.arange(5, dtype=np.uint32),
    }
    with open(tmp_path / "m.pkl", "wb") as file:
        pickle.dump(stored, file, protocol=protocol)
    read = read_pickled(tmp_path / "m.pkl")
    assert read.keys() == stored.keys()
    for name in ("plain", "chumpy"):
        np.testing.assert_array_equal(read[name], values)
    np.testing.assert_array_equal(read["selected"], values.ravel()[[0, 4, 8]].reshape(3, 1))
    for name in ("sparse", "rows"):
        np.testing.assert_array_equal(read[name], values * (values > 0))
    assert read["number"] == 2.5 and read["list"][1:] == [3, "text"]
    np.testing.assert_array_equal(read["list"][0], values)
    assert read["index"].dtype == np.uint32


def test_numpys_own_files_are_read_without_its_unpickler(tmp_path):
    values = np.arange(6.0).reshape(2, 3)
    np.savez(tmp_path / "m.npz", a=values, b=np.asfortranarray(values))
    read = read_pickled(tmp_path / "m.npz")
    np.testing.assert_array_equal(read["a"], values)
    np.testing.assert_array_equal(read["b"], values)
    np.save(tmp_path / "m.npy", np.array({"faces": values}, dtype=object), allow_pickle=True)
    np.testing.assert_array_equal(read_pickled(tmp_path / "m.npy")["faces"], values)


class Bomb:
    def __init__(self, what):
        self.what = what

    def __reduce__(self):
        return self.what


@pytest.mark.parametrize(
    "what",
    [(os.mkdir, ("{}",)), (eval, ("__import__('os').mkdir('{}')",)), (np.save, ("{}", 1)), (getattr, (os, "mkdir"))],
)
def test_nothing_in_a_pickle_is_run(tmp_path, what):
    target = tmp_path / "made"
    call, arguments = what
    arguments = tuple(a.format(target) if isinstance(a, str) else a for a in arguments)
    if arguments[0] is os:
        arguments = ("text", "upper")
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"v_template": Bomb((call, arguments))}))
    with pytest.raises(InputError, match=r"m.pkl: it holds .*; only arrays of numpy, scipy.sparse and chumpy"):
        read_pickled(tmp_path / "m.pkl")
    hidden = io.BytesIO()
    np.save(hidden, np.array([Bomb((call, arguments))], dtype=object), allow_pickle=True)
    (tmp_path / "m.npy").write_bytes(hidden.getvalue())
    with pytest.raises(InputError, match="only arrays"):
        read_pickled(tmp_path / "m.npy")
    assert not target.exists() and not target.with_suffix(".npy").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nonsense", "not a readable pickle"),
        (b"PK\x03\x04 no archive", "not a readable pickle"),
        (pickle.dumps([1, 2]), "holds list, expected a dict"),
        (b"\x93NUMPY\x07\x00nonsense", "numpy format .* is not read"),
    ],
)
def test_other_files_are_named(tmp_path, content, message):
    (tmp_path / "m.pkl").write_bytes(content)
    with pytest.raises(InputError, match=f"m.pkl: {message}"):
        read_pickled(tmp_path / "m.pkl")
    with pytest.raises(InputError, match="absent.pkl: no such file"):
        read_pickled(tmp_path / "absent.pkl")
