"""Weights to a checkpoint of a known architecture: strictly, or with a clear refusal; the demo weights, seeded ones."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export.checkpoint.checkpoint_options import Architecture, CheckpointOptions
from refine_export.checkpoint.weights_file import tensors_from_file
from refine_export.errors import CheckpointError
from refine_export.support.files import user_path
from refine_export.support.imports import require
from refine_export.support.manifest import sha256_of_file

if TYPE_CHECKING:
    from torch import Tensor, nn


DEMO_WEIGHTS = Path(__file__).parent / "demo.safetensors"
"""IFNet_m, FP16: trained by `scripts/train_demo.py`, described in docs/demo_weights.md."""

LISTED = 10  # keys named in an error, before "and N more"
PRELU_SLOPE = 0.25


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Weights of a known architecture, complete and finite."""

    state_dict: Mapping[str, Tensor]
    """FP32 on the CPU (a float64 file is rounded), keys as upstream's, without a leading `module.`."""
    architecture: Architecture
    source: str
    """The file's name, or that the weights are seeded; every artifact says it."""
    sha256: str
    """Of the file; for seeded weights of the keys and values."""
    stored_dtype: str
    """The type in the file, such as `float32`."""
    seeded: bool = False
    """Random weights, not trained."""


def checkpoint_from_options(options: CheckpointOptions) -> Checkpoint:
    """The file's weights, the demo weights, or the seeded ones."""
    if options.path is not None:
        return checkpoint_from_file(user_path(options.path))
    if options.weights == "demo":
        return demo_checkpoint()
    return seeded_checkpoint(options.architecture, options.seed)


def checkpoint_from_file(path: Path) -> Checkpoint:
    """Read a .pkl, .pth or .safetensors file; its content decides, not its name.

    Raises:
        CheckpointError: the message says what the file seems to be.
        UnavailableError: torch or safetensors is missing.
    """
    state_dict = tensors_from_file(path)
    if state_dict and all(key.startswith("module.") for key in state_dict):
        state_dict = {key.removeprefix("module."): tensor for key, tensor in state_dict.items()}
    architecture = _recognise(path, state_dict)
    _check_complete(path, state_dict, architecture)
    weights = {key: tensor.float().contiguous() for key, tensor in state_dict.items()}
    for key, tensor in weights.items():
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{path}: {key} has NaN or infinite values in FP32; these weights are damaged")
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in state_dict.values()})
    return Checkpoint(
        state_dict=weights,
        architecture=architecture,
        source=path.name,
        sha256=sha256_of_file(path),
        stored_dtype=" and ".join(dtypes),
    )


def demo_checkpoint() -> Checkpoint:
    """The weights of this package: good enough to see a middle frame, not for footage.

    Raises:
        CheckpointError: the package is damaged.
        UnavailableError: torch or safetensors is missing.
    """
    return replace(checkpoint_from_file(DEMO_WEIGHTS), source="demo weights (trained on drawn motion)")


def seeded_checkpoint(architecture: Architecture, seed: int = 0) -> Checkpoint:
    """Random weights that depend on the key and the seed alone: the same on every machine.

    He initialisation for a PReLU of slope 0.25 keeps the activations' scale from layer to layer; the last convolutions
    are scaled down: flows come out at up to about 10 pixels, and the residual is a detail on the blended frame.
    """
    import numpy as np

    torch = require("torch", extra="torch")
    state_dict: dict[str, Tensor] = {}
    digest = hashlib.sha256()
    for key, shape in expected_shapes(architecture).items():
        generator = np.random.Generator(np.random.PCG64([seed, zlib.crc32(key.encode())]))
        if key.endswith(".bias"):
            values = generator.standard_normal(shape) * 0.02
        elif len(shape) == 4:
            # ConvTranspose2d 4x4 with stride 2: a quarter of the taps of shape[0] channels meet in one output.
            transposed = "lastconv" in key or ".up" in key
            fan_in = shape[0] * shape[2] * shape[3] / 4 if transposed else shape[1] * shape[2] * shape[3]
            gain = 0.15 if key == "unet.conv.weight" else 0.25 if "lastconv" in key else 1.0
            values = generator.standard_normal(shape) * gain * (2 / (1 + PRELU_SLOPE**2) / fan_in) ** 0.5
        else:
            values = generator.uniform(0.1, 0.4, shape)
        array = values.astype(np.float32)
        digest.update(key.encode() + array.tobytes())
        state_dict[key] = torch.from_numpy(array)
    return Checkpoint(
        state_dict=state_dict,
        architecture=architecture,
        source=f"seeded random weights (seed {seed}, untrained)",
        sha256=digest.hexdigest(),
        stored_dtype="float32",
        seeded=True,
    )


def empty_network(architecture: Architecture) -> nn.Module:
    """The reference network of an architecture on the meta device: shapes without values."""
    torch = require("torch", extra="torch")
    from rife.ifnet import IFNet, IFNet_m
    from rife.refine import Contextnet, Unet

    with torch.device("meta"):
        if architecture == "refinement":
            return torch.nn.ModuleDict({"contextnet": Contextnet(), "unet": Unet()})  # type: ignore[no-any-return]
        return IFNet() if architecture == "IFNet" else IFNet_m()


def expected_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """The state dict's keys and shapes."""
    return {key: tuple(value.shape) for key, value in empty_network(architecture).state_dict().items()}


def _recognise(path: Path, state_dict: Mapping[str, Tensor]) -> Architecture:
    parts = {key.partition(".")[0] for key in state_dict}
    first = state_dict.get("block0.conv0.0.0.weight")
    if "block0" in parts and not parts & {"contextnet", "unet"}:
        raise CheckpointError(
            f"{path} looks like a RIFE 4.x checkpoint (blocks, but no contextnet and unet); this tool takes the "
            "weights of IFNet and IFNet_m, which have the refinement stage"
        )
    if first is not None and first.ndim == 4:
        return "IFNet_m" if first.shape[1] == 7 else "IFNet"
    if "block0" in parts:
        return "IFNet"
    if parts & {"contextnet", "unet"}:
        return "refinement"
    raise CheckpointError(
        f"{path} is a state dict of something else: its {len(state_dict)} keys start with "
        f"{_listed(sorted(parts))}; expected block0 to block2, block_tea, contextnet and unet (IFNet, IFNet_m), or "
        "contextnet and unet (the refinement)"
    )


def _check_complete(path: Path, state_dict: Mapping[str, Tensor], architecture: Architecture) -> None:
    expected = expected_shapes(architecture)
    missing = [key for key in expected if key not in state_dict]
    unexpected = [key for key in state_dict if key not in expected]
    misshapen = [
        f"{key} {list(state_dict[key].shape)} instead of {list(shape)}"
        for key, shape in expected.items()
        if key in state_dict and tuple(state_dict[key].shape) != shape
    ]
    problems = [
        f"{len(keys)} {kind}: {_listed(keys)}"
        for kind, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of the wrong shape", misshapen),
        )
        if keys
    ]
    if problems:
        raise CheckpointError(
            f"{path} looks like {architecture} weights, but the keys do not fit. " + ". ".join(problems)
        )


def _listed(names: list[str]) -> str:
    more = len(names) - LISTED
    return ", ".join(name[:80] for name in names[:LISTED]) + (f" and {more} more" if more > 0 else "")


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """What `inspect` shows: architecture, parameters, type, hash, and the value range of each part."""
    parts: dict[str, dict[str, Any]] = {}
    for key, tensor in checkpoint.state_dict.items():
        part = parts.setdefault(key.partition(".")[0], {"parameters": 0, "min": float("inf"), "max": float("-inf")})
        part["parameters"] += tensor.numel()
        part["min"] = min(part["min"], tensor.min().item())
        part["max"] = max(part["max"], tensor.max().item())
    return {
        "source": checkpoint.source,
        "architecture": checkpoint.architecture,
        "parameters": sum(part["parameters"] for part in parts.values()),
        "tensors": len(checkpoint.state_dict),
        "dtype": checkpoint.stored_dtype,
        "sha256": checkpoint.sha256,
        "parts": parts,
    }
