"""Checkpoints of a known network: from a file, released weights by name, or seeded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from refine_export.checkpoint.checkpoint_options import Architecture, CheckpointOptions
from refine_export.checkpoint.recognition import TRAINING_ONLY, expected_shapes, recognise, without_wrappers
from refine_export.checkpoint.released_weights import RELEASED, weights_path
from refine_export.checkpoint.seeded_weights import seeded_values
from refine_export.checkpoint.weights_file import tensors_from_file
from refine_export.errors import CheckpointError
from refine_export.support.files import user_path
from refine_export.support.imports import require
from refine_export.support.manifest import sha256_of_file
from refine_export.support.progress import Progress, Silent

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_WEIGHTS = "rife-4.0"
"""Name of the released weights that are used where no others are given."""

IFNET_OR_2R = (
    "IFNet_2R has the same keys and shapes as IFNet; if these are weights of IFNet_2R, give a recipe with "
    'variant = "IFNet_2R" under [checkpoint]'
)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Weights of a known architecture, complete and finite."""

    state_dict: Mapping[str, Tensor]
    """FP32 on the CPU (a float64 file is rounded), keys as upstream's."""
    architecture: Architecture
    source: str
    """Name of the file, or a description of the weights; every artifact carries it."""
    sha256: str
    """Hash of the file; for seeded weights of the keys and values."""
    stored_dtype: str
    """Type in the file, such as `float32`."""
    seeded: bool = False
    """Random weights, not trained."""
    unused: tuple[str, ...] = ()
    """Parts of the file that inference does not use, such as `block_tea`."""

    @property
    def network(self) -> str:
        """The network that is made of them, which the file itself does not decide alone; every artifact carries it."""
        return self.architecture + (" without refinement" if "unet" in self.unused else "")


def checkpoint_from_options(options: CheckpointOptions, progress: Progress | None = None) -> Checkpoint:
    """Load the file, released weights by name, or seeded weights.

    Args:
        options: source of the weights.
        progress: receives the download of released weights, then the loading.
    """
    seeded = options.path is None and options.weights == "seeded"
    name = options.path or DEFAULT_WEIGHTS
    # A file of that name wins: released weights have names that no weights file has; a folder may be their output.
    released = not seeded and name in RELEASED and not Path(name).is_file()
    path = weights_path(name, progress) if released else user_path(name)
    with (progress or Silent()).step("load the weights") as say:
        if seeded:
            checkpoint = seeded_checkpoint(options.architecture, options.seed)
        else:
            checkpoint = checkpoint_from_file(path, variant=options.variant, refine=options.refine)
        say(f"{checkpoint.architecture}, {checkpoint.source}")
    return checkpoint


def checkpoint_from_file(
    path: Path, *, variant: Literal["auto", "IFNet_2R"] = "auto", refine: bool = True
) -> Checkpoint:
    """Load a .pkl, .pth or .safetensors file; its content decides, not its name.

    Args:
        path: of the file.
        variant: as in `recognise`.
        refine: use the refinement of a RIFE 4.0 file that has one.

    Raises:
        CheckpointError: as in `tensors_from_file` and `recognise`; or `not-finite`.
        UnavailableError: torch or safetensors is missing.
    """
    stored = without_wrappers(tensors_from_file(path))
    unused = _unused_parts(stored, refine=refine)
    stored = {key: tensor for key, tensor in stored.items() if key.partition(".")[0] not in unused}
    architecture = recognise(path, stored, variant)
    weights = {key: tensor.float().contiguous() for key, tensor in stored.items()}
    for key, tensor in weights.items():
        if not bool(tensor.isfinite().all()):
            problem = f"is damaged: {key} has NaN or infinite values in FP32"
            raise CheckpointError.about(path, "not-finite", problem, key=key)
    return Checkpoint(
        state_dict=weights,
        architecture=architecture,
        source=path.name,
        sha256=sha256_of_file(path),
        stored_dtype=" and ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in stored.values()})),
        unused=unused,
    )


def _unused_parts(stored: Mapping[str, Tensor], *, refine: bool) -> tuple[str, ...]:
    """Return the parts of a RIFE 4 file that are left out: what only training needs, and a refinement if asked."""
    parts = {key.partition(".")[0] for key in stored}
    if "block3" not in parts:  # the modules of the older networks have the teacher, as upstream's do
        return ()
    left_out = set(TRAINING_ONLY) if refine else {*TRAINING_ONLY, "contextnet", "unet"}
    return tuple(sorted(parts & left_out))


def seeded_checkpoint(architecture: Architecture, seed: int = 0) -> Checkpoint:
    """Make random weights that depend only on the seed; see `seeded_values`."""
    torch = require("torch", extra="torch")
    arrays = {key: seeded_values(key, shape, seed) for key, shape in expected_shapes(architecture).items()}
    digest = hashlib.sha256()
    for key, array in arrays.items():
        digest.update(key.encode() + array.tobytes())
    return Checkpoint(
        state_dict={key: torch.from_numpy(array) for key, array in arrays.items()},
        architecture=architecture,
        source=f"seeded random weights (seed {seed}, untrained)",
        sha256=digest.hexdigest(),
        stored_dtype="float32",
        seeded=True,
    )


def checkpoint_description(checkpoint: Checkpoint) -> dict[str, Any]:
    """Summarise a checkpoint for `inspect`: architecture, parameters, type, hash, and the value range of each part."""
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
        "unused": list(checkpoint.unused),
        "notes": [IFNET_OR_2R] if checkpoint.architecture == "IFNet" and not checkpoint.seeded else [],
    }
