"""Find out which network a state dict belongs to, and check that it is complete."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from refine_export.checkpoint.checkpoint_options import Architecture
from refine_export.errors import CheckpointError
from refine_export.support.imports import require
from refine_export.support.text import listed

if TYPE_CHECKING:
    from torch import Tensor, nn


def empty_network(architecture: Architecture) -> nn.Module:
    """Build the reference network of an architecture on the meta device: shapes without values."""
    torch = require("torch", extra="torch")
    from rife.ifnet import IFNet, IFNet_m
    from rife.refine import Contextnet, Unet

    with torch.device("meta"):
        if architecture == "refinement":
            return torch.nn.ModuleDict({"contextnet": Contextnet(), "unet": Unet()})  # type: ignore[no-any-return]
        return IFNet() if architecture == "IFNet" else IFNet_m()


def expected_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Return the keys of an architecture's state dict, and their shapes."""
    return {key: tuple(value.shape) for key, value in empty_network(architecture).state_dict().items()}


def recognise(path: Path, state_dict: Mapping[str, Tensor]) -> Architecture:
    """Find the architecture that all keys and shapes of a state dict fit.

    Args:
        path: for messages.
        state_dict: keys as upstream's.

    Raises:
        CheckpointError: `unsupported-network`, `unknown-network`, or `wrong-keys` with the fields `missing`,
            `unexpected` and `misshapen`.
    """
    architecture = _architecture_by_parts(path, state_dict)
    expected = expected_shapes(architecture)
    problems = {
        "missing": [key for key in expected if key not in state_dict],
        "unexpected": [key for key in state_dict if key not in expected],
        "misshapen": [
            f"{key} {list(state_dict[key].shape)} instead of {list(shape)}"
            for key, shape in expected.items()
            if key in state_dict and tuple(state_dict[key].shape) != shape
        ],
    }
    if any(problems.values()):
        text = ". ".join(
            f"{len(keys)} {kind}: {listed(key[:80] for key in keys)}" for kind, keys in problems.items() if keys
        )
        problem = f"looks like {architecture} weights, but the keys do not fit. {text}"
        raise CheckpointError.about(path, "wrong-keys", problem, **problems)
    return architecture


def _architecture_by_parts(path: Path, state_dict: Mapping[str, Tensor]) -> Architecture:
    parts = {key.partition(".")[0] for key in state_dict}
    refinement = parts & {"contextnet", "unet"}
    if "block0" in parts and not refinement:
        raise CheckpointError.about(
            path,
            "unsupported-network",
            "looks like a RIFE 4.x checkpoint (blocks, but no contextnet and unet); this tool takes the weights of "
            "IFNet and IFNet_m, which have the refinement stage",
        )
    if "block0" in parts:
        # The first convolution tells the two apart: the timestep is a seventh plane beside two RGB images.
        first = state_dict.get("block0.conv0.0.0.weight")
        return "IFNet_m" if first is not None and first.ndim == 4 and first.shape[1] == 7 else "IFNet"
    if refinement:
        return "refinement"
    raise CheckpointError.about(
        path,
        "unknown-network",
        f"is a state dict of another network: its {len(state_dict)} keys start with "
        f"{listed(part[:80] for part in sorted(parts))}; expected block0 to block2, block_tea, contextnet and unet "
        "(IFNet, IFNet_m), or contextnet and unet (the refinement)",
    )
