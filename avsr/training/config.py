"""Configs: YAML files read strictly into dataclasses.

A dataclass is the schema: its fields are the valid keys, their annotations the types, their defaults the defaults.
OmegaConf (structured configs) converts and checks the values; an unknown key anywhere is an error, never a silent
default. Annotations may be plain types, other dataclasses, `X | None`, `list[X]`, `tuple[X, ...]` and `dict[str, X]`.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from avsr.errors import InputError
from avsr.files import write_text

Schema = TypeVar("Schema")


def load_config(path: str | Path, overrides: Sequence[str], schema: type[Schema], preset: str | None = None) -> Schema:
    """Read a YAML file and `key.sub_key=value` overrides into an instance of the dataclass `schema`.

    The file may hold variants of itself, `presets: {name: {key: value, …}}`; `preset` names the one to lay over it.
    Overrides come last, later ones win. Raises InputError, naming the file or the override and the full dotted key, for
    an unreadable file, an unknown key (with the nearest valid one), even in a preset that isn't used, a value of the
    wrong type, a mandatory value left out and an unknown preset.
    """
    where = str(path)
    mapping = read_yaml(path)
    presets = _pop_presets(mapping, schema, where)
    sources = [(where, mapping)]
    if preset is not None:
        if preset not in presets:
            raise InputError(f"{where}: no preset {preset!r}; it has {', '.join(presets) or 'none'}")
        sources.append((f"{where}: preset {preset}", presets[preset]))
    sources += [(f"override {override!r}", _parse_override(override)) for override in overrides]
    return _build(schema, sources, where)


def from_dict(schema: type[Schema], mapping: Mapping, where: str) -> Schema:
    """Build the dataclass `schema` from plain nested dicts, as strictly as `load_config`; `where` opens each error."""
    return _build(schema, [(where, mapping)], where)


def read_yaml(path: str | Path) -> dict:
    """Read a YAML file that holds a mapping; InputError where it is missing, malformed or something else.

    Interpolations (`${...}`) stay as they are written; `load_config` resolves them after the overrides.
    """
    path = Path(path)
    try:
        config = OmegaConf.load(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such config file") from None
    except (YAMLError, OSError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise InputError(f"{path}: not a readable YAML file: {error}") from error
    if not isinstance(config, DictConfig):
        raise InputError(f"{path}: expected 'key: value' lines at the top level")
    return OmegaConf.to_container(config)


def save_config(path: str | Path, config: Any) -> None:
    """Write a config dataclass (or nested dicts) as YAML, whole or not at all."""
    write_text(path, OmegaConf.to_yaml(OmegaConf.create(_plain(config))))


def keep_config(path: str | Path, config: Any, may_change: Sequence[str] = ()) -> None:
    """Write `config` to `path`; where a config lies there already, it must say the same.

    A folder of results belongs to one config. Raises InputError naming each dotted key that differs, except those in
    `may_change` (a new value of one of those is written). A key that is not there says the same as None: so a folder
    outlives a new setting that is off by default.
    """
    path = Path(path)
    if path.exists():
        before, now = _flatten(read_yaml(path)), _flatten(_plain(config))
        absent = "(absent)"
        differing = [
            f"{key} was {before.get(key, absent)!r} and is now {now.get(key, absent)!r}"
            for key in sorted(before.keys() | now.keys())
            if key not in may_change and before.get(key) != now.get(key)
        ]
        if differing:
            raise InputError(
                f"{path.parent} was made under another config: {'; '.join(differing)}. "
                "Restore the values to go on there, or choose another folder"
            )
        if before == now:
            return
    save_config(path, config)


def _pop_presets(mapping: dict, schema: type, where: str) -> dict[str, Mapping]:
    presets = mapping.pop("presets", None) or {}
    for name, part in presets.items() if isinstance(presets, Mapping) else [("", None)]:
        if not isinstance(part, Mapping):
            raise InputError(f"{where}: presets.{name}: expected presets: {{name: {{key: value}}}}")
        _check_keys(schema, schema, part, f"{where}: preset {name}", prefix="")
    return presets


def _build(schema: type[Schema], sources: Sequence[tuple[str, Mapping]], where: str) -> Schema:
    merged = OmegaConf.structured(schema)
    for source, mapping in sources:
        _check_keys(schema, schema, mapping, source, prefix="")
        try:
            _open(merged, schema, mapping)
            merged = OmegaConf.merge(merged, mapping)
        except OmegaConfBaseException as error:
            raise _input_error(error, source) from error
    try:
        OmegaConf.resolve(merged)
    except OmegaConfBaseException as error:
        raise _input_error(error, where) from error
    missing = sorted(OmegaConf.missing_keys(merged))
    if missing:
        raise InputError(f"{where}: no value for {', '.join(missing)}: set it in the file or as {missing[0]}=VALUE")
    try:
        return _restore_tuples(OmegaConf.to_object(merged))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except OmegaConfBaseException as error:
        raise _input_error(error, where) from error


def _open(node: DictConfig, schema: type, mapping: Mapping) -> None:
    """Let `mapping` be merged into `node`, frozen dataclasses included, which OmegaConf takes for read-only."""
    OmegaConf.set_readonly(node, False)
    for name, annotation in typing.get_type_hints(schema).items():
        below, given = _dataclass_in(annotation), mapping.get(name)
        if below is None:
            continue
        if isinstance(given, Mapping) and (OmegaConf.is_missing(node, name) or node[name] is None):
            node[name] = OmegaConf.structured(below)
        if not OmegaConf.is_missing(node, name) and node[name] is not None:
            _open(node[name], below, given if isinstance(given, Mapping) else {})


def _parse_override(override: str) -> Mapping:
    key, equals, _ = override.partition("=")
    if not equals or not key.strip():
        raise InputError(f"override {override!r}: expected key=value, for example trainer.lr=1e-3")
    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist([override]))
    except (YAMLError, OmegaConfBaseException) as error:
        raise InputError(f"override {override!r}: not a readable value: {error}") from error


def _check_keys(root: type, schema: type, mapping: Mapping, where: str, prefix: str) -> None:
    """Raise InputError for the first key of `mapping`, at any depth, that the dataclass `schema` lacks."""
    annotations = typing.get_type_hints(schema)
    valid = [field.name for field in dataclasses.fields(schema)]
    for key, value in mapping.items():
        if key not in valid:
            raise InputError(
                f"{where}: unknown key {prefix}{key}{_hint(root, str(key), valid, prefix)}; "
                f"valid {f'keys of {prefix[:-1]}' if prefix else 'top-level keys'}: {', '.join(valid)}"
            )
        below = _dataclass_in(annotations[key])
        if (
            _sequence_in(annotations[key]) is not None
            and isinstance(value, (str, int, float))
            and not str(value).startswith("${")
        ):
            raise InputError(f"{where}: {prefix}{key}: expected a list, got {value!r}; write [{value}]")
        if below is None or value is None:
            continue
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: {prefix}{key} holds keys of its own; expected a mapping, got {value!r}")
        _check_keys(root, below, value, where, f"{prefix}{key}.")


def _hint(root: type, key: str, valid: Sequence[str], prefix: str) -> str:
    """The nearest valid key: the same name at another depth (`lr` for `trainer.lr`), else one spelled like it."""
    by_name = {dotted.rpartition(".")[2]: dotted for dotted in reversed(_dotted_keys(root))}
    here = {name: prefix + name for name in valid}
    for names, cutoff in ((by_name, 1.0), (here, 0.6), (by_name, 0.6)):
        near = difflib.get_close_matches(key, names, n=1, cutoff=cutoff)
        if near:
            return f" (did you mean {names[near[0]]}?)"
    return ""


def _dotted_keys(schema: type, prefix: str = "") -> list[str]:
    keys = []
    for name, annotation in typing.get_type_hints(schema).items():
        keys.append(prefix + name)
        below = _dataclass_in(annotation)
        if below is not None:
            keys += _dotted_keys(below, f"{prefix}{name}.")
    return keys


def _choices(annotation: Any) -> tuple:
    """`X` for the annotation `X`; `X` and `None` for `X | None`."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if union else (annotation,)


def _dataclass_in(annotation: Any) -> type | None:
    """The dataclass that a field annotated `X` or `X | None` holds; None for any other annotation."""
    return next((choice for choice in _choices(annotation) if dataclasses.is_dataclass(choice)), None)


def _sequence_in(annotation: Any) -> Any:
    """Likewise for `list`, `list[X]`, `tuple` and `tuple[X, …]`."""
    return next((c for c in _choices(annotation) if (typing.get_origin(c) or c) in (list, tuple)), None)


def _restore_tuples(config: Any, key: str = "") -> Any:
    """OmegaConf hands tuples back as lists; make those of `tuple` fields tuples again, at every depth.

    Raises InputError for a tuple of another length than its annotation's.
    """
    if isinstance(config, dict):
        for name, value in config.items():
            _restore_tuples(value, f"{key}{name}.")
    elif isinstance(config, list):
        for index, value in enumerate(config):
            _restore_tuples(value, f"{key}{index}.")
    elif dataclasses.is_dataclass(config):
        for name, annotation in typing.get_type_hints(type(config)).items():
            value = _restore_tuples(getattr(config, name), f"{key}{name}.")
            wanted = _sequence_in(annotation)
            if value is None or (typing.get_origin(wanted) or wanted) is not tuple:
                continue
            items = typing.get_args(wanted)
            if items and Ellipsis not in items and len(value) != len(items):
                raise InputError(f"{key}{name}: expected {len(items)} values, got {list(value)}")
            object.__setattr__(config, name, tuple(value))  # the dataclass may be frozen
    return config


def _input_error(error: OmegaConfBaseException, where: str) -> InputError:
    reason = str(error.msg or error).splitlines()[0]
    return InputError(f"{where}: {error.full_key or 'config'}: {reason}")


def _plain(config: Any) -> Any:
    """Nested dicts and lists of numbers, strings, booleans and None that YAML holds without tags."""
    if dataclasses.is_dataclass(config):
        return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {str(key): _plain(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [_plain(value) for value in config]
    return str(config) if isinstance(config, Path) else config


def _flatten(mapping: Mapping, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
