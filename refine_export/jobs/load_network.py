"""`load_network`: a checkpoint to a torch module that makes frames."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from refine_export.checkpoint.checkpoint import checkpoint_from_options
from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.errors import RequestError
from refine_export.export.export_options import ExportOptions
from refine_export.export.reference_network import reference_network
from refine_export.jobs.job_options import options_from_keywords
from refine_export.jobs.load_inputs import AnyPath, path_of
from refine_export.support.imports import require

if TYPE_CHECKING:  # torch is optional, and its classes are needed to define the module
    from refine_export.export.interpolation_network import InterpolationNetwork


def load_network(checkpoint: AnyPath | None = None, *, scale: float = 1.0, refine: bool = True) -> InterpolationNetwork:
    """Load a checkpoint as the network that this package compares everything with.

    Args:
        checkpoint: .pkl, .pth or .safetensors. Defaults to released RIFE 4.0.
        scale: 0.25, 0.5, 1 or 2: divides the scales at which motion is estimated; below 1 for large frames.
        refine: use the refinement of a RIFE 4.0 file that has one.

    Returns:
        A module in eval mode, FP32 on the CPU, without gradients; `network(img0, img1, timestep)` takes and returns
        frames [N, 3, H, W], RGB in [0, 1]. H and W are multiples of `network.multiple_of`.

    Raises:
        CheckpointError: the file is not a checkpoint of a known network.
        RequestError: `graph-not-in-weights`; the weights are only a refinement, which does not make frames. Or
            `wrong-option`; another scale, or `refine` is not a bool.
        UnavailableError: torch is missing.
    """
    require("torch", extra="torch")
    from refine_export.export.interpolation_network import InterpolationNetwork

    path = None if checkpoint is None else str(path_of(checkpoint))
    options = options_from_keywords(ExportOptions, {"scale": scale})
    weights = checkpoint_from_options(replace(options_from_keywords(CheckpointOptions, {"refine": refine}), path=path))
    if weights.architecture != "refinement":
        return InterpolationNetwork(reference_network(weights, options.scale)).eval()
    message = f"{weights.source} holds {weights.architecture} weights, which make no frames; expected a whole network's"
    raise RequestError(message, code="graph-not-in-weights", architecture=weights.architecture)
