"""What a Triton server says of itself and its models; what it can't have said raises, and names what is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from refine_export.runners.triton.transport import numpy_name


@dataclass(frozen=True, kw_only=True)
class ServedTensor:
    """An input or output of a served model."""

    name: str
    dtype: str
    """numpy's name, such as `float32`."""
    shape: tuple[int | None, ...]
    """None where any size is taken; with the batch, where the model has one."""


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """What a server says of a model."""

    name: str
    versions: tuple[str, ...]
    """That are ready."""
    platform: str
    """`onnxruntime_onnx`, `tensorrt_plan`, `ensemble`, ..."""
    inputs: tuple[ServedTensor, ...]
    outputs: tuple[ServedTensor, ...]


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A version of a model in the list of models."""

    name: str
    state: str
    """`READY`, `UNAVAILABLE`, ...; empty where it was never loaded."""
    reason: str


def server_from_answer(found: Any) -> str:
    """Name and version, such as `triton 2.51.0`.

    Raises:
        ValueError, TypeError: the answer is no server's.
    """
    said = _mapping(found, "the server's metadata")
    return f"{_named(said, 'name')} {_text(said, 'version')}".strip()


def model_from_answer(model: str, found: Any) -> ServedModel:
    """Metadata.

    Raises:
        ValueError, TypeError: the answer is no model's metadata.
    """
    said = _mapping(found, "the metadata")
    _named(said, "name")
    versions = tuple(_listed(said, "versions"))
    if strange := [one for one in versions if not isinstance(one, str) or not re.fullmatch("[0-9]{1,18}", one)]:
        raise ValueError(f"a version is {strange[0]!r}")
    return ServedModel(
        name=model,
        versions=versions,
        platform=_text(said, "platform"),
        inputs=tuple(map(_tensor, _listed(said, "inputs"))),
        outputs=tuple(map(_tensor, _listed(said, "outputs"))),
    )


def list_from_answer(found: Any) -> list[Listed]:
    """The list of models.

    Raises:
        ValueError, TypeError: the answer is none.
    """
    if not isinstance(found, list):
        raise TypeError(f"the list of models is {found!r}")
    models = [_mapping(one, "a model") for one in found]
    return [Listed(name=_named(one, "name"), state=_text(one, "state"), reason=_text(one, "reason")) for one in models]


def config_from_answer(found: Any) -> dict[str, Any]:
    """A config as it came, where all that is read of it here is of its type.

    Raises:
        ValueError, TypeError: the answer is no model's config.
    """
    config = dict(_mapping(found, "the config"))
    _named(config, "name")
    int(config.get("max_batch_size", 0))
    for name, value in _mapping(config.get("parameters", {}), "parameters").items():
        _text(_mapping(value, name), "string_value")
    for step in _listed(_mapping(config.get("ensemble_scheduling", {}), "ensemble_scheduling"), "step"):
        _named(_mapping(step, "a step"), "model_name")
    for sample in _listed(config, "model_warmup"):
        for name, value in _mapping(_mapping(sample, "a warm-up").get("inputs", {}), "inputs").items():
            for size in _listed(_mapping(value, name), "dims"):
                int(size)
    return config


def _tensor(found: Any) -> ServedTensor:
    said = _mapping(found, "a tensor")
    shape = tuple(None if int(size) < 0 else int(size) for size in _listed(said, "shape"))
    return ServedTensor(name=_named(said, "name"), dtype=numpy_name(_named(said, "datatype")), shape=shape)


def _mapping(found: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(found, Mapping):
        raise TypeError(f"{what} is {found!r}")
    return found


def _listed(found: Mapping[str, Any], key: str) -> list[Any]:
    value = found.get(key, [])
    if not isinstance(value, list):
        raise TypeError(f"{key} is {value!r}")
    return value


def _text(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key, "")
    if not isinstance(value, str):
        raise TypeError(f"{key} is {value!r}")
    return value


def _named(found: Mapping[str, Any], key: str) -> str:
    if not _text(found, key):
        raise ValueError(f"{key} is missing")
    return _text(found, key)
