"""Make the reference network of a checkpoint, and each of the five graphs as a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refine_export.checkpoint.checkpoint import Checkpoint
from refine_export.checkpoint.checkpoint_options import Architecture
from refine_export.checkpoint.recognition import empty_network
from refine_export.errors import RequestError
from refine_export.signature import SIGNATURES, GraphName
from refine_export.support.imports import require

if TYPE_CHECKING:
    from torch import nn

GRAPHS_OF: dict[Architecture, tuple[GraphName, ...]] = {
    "refinement": ("refine", "contextnet", "unet"),
    "IFNet": ("refine", "interpolator", "contextnet", "unet"),
    "IFNet_m": ("refine", "interpolator_m", "contextnet", "unet"),
}
"""The graphs that the weights of an architecture make."""


def check_graph(architecture: Architecture, graph: str) -> GraphName:
    """Return the graph's name, if the weights of `architecture` make it.

    Raises:
        RequestError: they do not; the message names the graphs that they do make.
    """
    for known in GRAPHS_OF[architecture]:
        if known == graph:
            return known
    problem = (
        f"{architecture} weights do not make the graph {graph!r}"
        if graph in SIGNATURES
        else f"there is no graph {graph!r}"
    )
    raise RequestError(
        f"{problem}; these weights make: {', '.join(GRAPHS_OF[architecture])}",
        code="unknown-graph",
        graph=graph,
        architecture=architecture,
    )


def reference_network(checkpoint: Checkpoint) -> nn.Module:
    """Return the reference module with the checkpoint's weights, FP32 on the CPU, in eval mode, without gradients.

    `IFNet`, `IFNet_m`, or for a refinement alone a module with the children `contextnet` and `unet`.
    """
    require("torch", extra="torch")
    network = empty_network(checkpoint.architecture)
    network.load_state_dict(dict(checkpoint.state_dict), strict=True, assign=True)
    return network.eval().requires_grad_(False)


def graph_network(reference: nn.Module, graph: GraphName) -> nn.Module:
    """Return the part of a reference network that is `graph`; the weights are shared, not copied.

    Its arguments are the graph's inputs in order; it returns a tensor, or a tuple of the outputs in order.
    """
    from refine_export.export.graph_modules import MODULES  # needs torch at import

    return MODULES[graph](reference).eval().requires_grad_(False)
