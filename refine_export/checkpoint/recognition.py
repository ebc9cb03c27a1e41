"""Find out which network a state dict belongs to, and check that it is complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from refine_export.checkpoint.checkpoint_options import Architecture
from refine_export.errors import CheckpointError
from refine_export.support.imports import require
from refine_export.support.text import listed

if TYPE_CHECKING:
    from torch import Tensor, nn


TRAINING_ONLY = ("block_tea", "caltime")
"""Parts that upstream's training leaves in some files, and that inference does not use."""


def without_wrappers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without what wrappers put before its keys, such as `module._orig_mod.` or `flownet.`.

    A network has several parts: one name before all keys is a wrapper's (DistributedDataParallel, torch.compile, a
    model that holds the network), unless it is a part's own. torch.compile can also wrap a single part.
    """
    found = {key.replace("_orig_mod.", ""): tensor for key, tensor in state_dict.items()}
    while len(first := {key.partition(".")[0] for key in found}) == 1:
        if first & {"contextnet", "unet"} or min(first).startswith("block"):
            break
        inner = {key.partition(".")[2]: tensor for key, tensor in found.items()}
        if "" in inner:  # tensors without a network
            break
        found = inner
    return found


def empty_network(
    architecture: Architecture, shapes: Mapping[str, Sequence[int]] | None = None, scale: float = 1.0
) -> nn.Module:
    """Build the reference network of an architecture on the meta device: shapes without values.

    Args:
        architecture: what `recognise` returns.
        shapes: of the state dict; RIFE 4 is built after them.
        scale: one of `SCALES`, by which the scales of the blocks are divided.

    Raises:
        KeyError: `shapes` lacks a key that every RIFE 4 network has.
    """
    torch = require("torch", extra="torch")
    from rife.hdv3 import HDv3
    from rife.ifnet import IFNet, IFNet_m
    from rife.ifnet_2r import IFNet_2R
    from rife.refine import Contextnet, Unet
    from rife.rife4 import Rife4, Rife4Config

    with torch.device("meta"):
        if architecture == "refinement":
            return torch.nn.ModuleDict({"contextnet": Contextnet(), "unet": Unet()})  # type: ignore[no-any-return]
        if architecture == "RIFE 4":
            return Rife4(Rife4Config.from_shapes(shapes or {}), scale)
        return {"IFNet": IFNet, "IFNet_m": IFNet_m, "IFNet_2R": IFNet_2R, "HDv3": HDv3}[architecture](scale)


def expected_shapes(
    architecture: Architecture, shapes: Mapping[str, Sequence[int]] | None = None
) -> dict[str, tuple[int, ...]]:
    """Return the keys of an architecture's state dict, and their shapes; arguments as in `empty_network`."""
    return {key: tuple(value.shape) for key, value in empty_network(architecture, shapes).state_dict().items()}


def recognise(path: Path, state_dict: Mapping[str, Tensor], variant: Literal["auto", "IFNet_2R"]) -> Architecture:
    """Find the architecture that all keys and shapes of a state dict fit.

    Args:
        path: for messages.
        state_dict: keys as upstream's, without those of `TRAINING_ONLY` parts that the network does not have.
        variant: `IFNet_2R` where that is what IFNet's keys and shapes mean; the file does not tell.

    Raises:
        CheckpointError: `unsupported-network`, `unknown-network`, or `wrong-keys` with the fields `missing`,
            `unexpected` and `misshapen`.
    """
    architecture = _architecture_by_parts(path, state_dict)
    if variant == "IFNet_2R":
        if architecture != "IFNet":
            raise CheckpointError.about(
                path, "wrong-variant", f"holds {architecture} weights; expected those of IFNet_2R, or no variant"
            )
        architecture = "IFNet_2R"
    shapes = {key: tuple(tensor.shape) for key, tensor in state_dict.items()}
    try:
        expected = expected_shapes(architecture, shapes)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:  # it is built after the keys and shapes
        missing = [error.args[0]] if isinstance(error, KeyError) else []
        problem = f"its key {missing[0]} is missing" if missing else f"its shapes do not fit each other ({error})"
        raise CheckpointError.about(
            path,
            "wrong-keys",
            f"looks like {architecture} weights, but {problem}; fetch the file again",
            missing=missing,
            unexpected=[],
            misshapen=[],
        ) from error
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
        problem = f"looks like {architecture} weights, but the keys do not fit. {text}; fetch the file again"
        raise CheckpointError.about(path, "wrong-keys", problem, **problems)
    return architecture


def _architecture_by_parts(path: Path, state_dict: Mapping[str, Tensor]) -> Architecture:
    parts = {key.partition(".")[0] for key in state_dict}
    refinement = parts & {"contextnet", "unet"}
    layers = {".".join(key.split(".", 2)[:2]) for key in state_dict}
    seems_hdv3 = "block0.convblock0" in layers
    # Blocks of 3.5 have fewer pairs of convolutions than HDv3's; before it, they ended in one layer for the flow alone.
    if (seems_hdv3 and "block0.convblock3" not in layers) or "block0.conv1.weight" in state_dict:
        raise CheckpointError.about(
            path,
            "unsupported-network",
            "looks like RIFE 3.5 or older; expected IFNet, IFNet_m, IFNet_2R, HDv3 (RIFE 3.8 and 3.9) or RIFE 4.x",
        )
    if seems_hdv3:
        return "HDv3"
    if "block3" in parts:
        return "RIFE 4"
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
        f"{listed(part[:80] for part in sorted(parts))}; expected block0 to block2 (IFNet, IFNet_m, "
        "IFNet_2R, HDv3), block0 to block3 or block4 (RIFE 4.x), or contextnet and unet (the refinement)",
    )
