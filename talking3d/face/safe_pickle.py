"""Pickled arrays read without running what else a pickle may hold.

Morphable models are published as pickles of numpy, scipy.sparse and chumpy objects (chumpy doesn't install beside
today's numpy). Only these are rebuilt, the latter two as plain data, and become numpy arrays; any other name in the
file is an InputError. Python's documentation calls this restricting globals.
"""

import io
import pickle
from pathlib import Path

import numpy as np

from avsr.errors import InputError


class _Stored:
    """Stands for an object of a class that isn't loaded; keeps its state."""

    def __init__(self, *args):
        self.state = {}

    def __setstate__(self, state):
        self.state = state if isinstance(state, dict) else {"state": state}


class _Chumpy(_Stored):
    def plain(self):
        if "x" in self.state:
            return plain(self.state["x"])
        if {"a", "idxs"} <= self.state.keys():  # chumpy.reordering.Select: some of another one's elements
            chosen = np.ravel(plain(self.state["a"]))[np.ravel(plain(self.state["idxs"]))]
            shape = self.state.get("preferred_shape")
            return chosen if shape is None else chosen.reshape(plain(shape))
        raise InputError(f"a chumpy object holds no values, only {', '.join(map(str, self.state)) or 'nothing'}")


class _Sparse(_Stored):
    by_column = True

    def plain(self):
        from scipy.sparse import csc_matrix, csr_matrix

        shape = self.state.get("_shape", self.state.get("shape"))
        parts = tuple(self.state[key] for key in ("data", "indices", "indptr"))
        return (csc_matrix if self.by_column else csr_matrix)(parts, shape=shape).toarray()


class _SparseRows(_Sparse):
    by_column = False


def _reconstructor(kind, base, state):
    """copyreg's, for the classes above: their state comes later."""
    return kind()


_CLASSES = {"csc_matrix": _Sparse, "csc_array": _Sparse, "csr_matrix": _SparseRows, "csr_array": _SparseRows}
_NUMPY = {  # name -> where numpy has it now; old pickles say numpy.core
    **dict.fromkeys(("ndarray", "dtype"), "numpy"),
    **dict.fromkeys(("_reconstruct", "scalar"), "numpy._core.multiarray"),
    "_frombuffer": "numpy._core.numeric",
}


def _encode(text, encoding="latin1"):
    """_codecs.encode, as numpy's pickles use it for bytes."""
    if encoding != "latin1" or not isinstance(text, str):
        raise pickle.UnpicklingError(f"unexpected encoding {encoding!r}")
    return text.encode("latin1")


class _Reader(pickle.Unpickler):
    def find_class(self, module, name):
        top = module.split(".")[0]
        if top == "numpy" and name in _NUMPY:
            return super().find_class(_NUMPY[name], name)
        if top == "scipy" and name in _CLASSES:
            return _CLASSES[name]
        if top == "chumpy":
            return _Chumpy
        known = {
            ("copy_reg", "_reconstructor"): _reconstructor,
            ("copyreg", "_reconstructor"): _reconstructor,
            ("__builtin__", "object"): object,
            ("builtins", "object"): object,
            ("_codecs", "encode"): _encode,
            ("collections", "OrderedDict"): dict,
        }
        if (module, name) in known:
            return known[module, name]
        raise InputError(f"it holds {module}.{name}; only arrays of numpy, scipy.sparse and chumpy are read")


def plain(value):
    """Arrays, numbers and text as they are; what stands for chumpy and scipy as arrays, in dicts and lists too."""
    if isinstance(value, _Stored):
        return value.plain()
    if isinstance(value, dict):
        return {key.decode("latin1") if isinstance(key, bytes) else key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    if isinstance(value, np.ndarray) and value.dtype == object and value.ndim == 0:
        return plain(value.item())
    return value


def read_pickled(path: str | Path) -> dict:
    """The dict of arrays in a .pkl, .npy (of one pickled dict) or .npz file.

    InputError on a missing or unreadable file, on one that holds no dict, and on one that names anything but arrays.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with open(path, "rb") as file:
            start = file.read(6)
            file.seek(0)
            if start[:2] == b"PK":
                return _read_npz(path)
            if start == b"\x93NUMPY":
                return _read_npy(file, path)
            value = plain(_Reader(file, encoding="latin1").load())
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:
        raise InputError(f"{path}: not a readable pickle of arrays ({error})") from error
    return _dict(value, path)


def _read_npz(path):
    import zipfile

    out = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            content = io.BytesIO(archive.read(member))
            out[member.removesuffix(".npy")] = _npy_value(content)
    return out


def _read_npy(file, path):
    return _dict(_npy_value(file), path)


def _npy_value(file):
    version = np.lib.format.read_magic(file)
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in header:
        raise InputError(f"numpy format {version} is not read")
    shape, fortran, dtype = header[version](file)
    if dtype.hasobject:
        value = _Reader(file, encoding="latin1").load()
        return plain(value)
    values = np.frombuffer(file.read(), dtype=dtype, count=int(np.prod(shape)))
    return values.reshape(shape, order="F" if fortran else "C")


def _dict(value, path):
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds {type(value).__name__}, expected a dict of arrays")
    return value
