"""Build the reference network of a checkpoint (IFNet, IFNet_m, IFNet_2R, HDv3, Rife4), and each graph as a module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from refine_export.checkpoint.checkpoint import Checkpoint
from refine_export.checkpoint.checkpoint_options import Architecture
from refine_export.checkpoint.recognition import empty_network
from refine_export.errors import RequestError
from refine_export.signature import OLD_NAMES, SIGNATURES, GraphName, Signature, signature_of
from refine_export.support.imports import require

if TYPE_CHECKING:
    from torch import nn

_REFINEMENT: tuple[GraphName, ...] = ("refine", "contextnet", "unet")
_GRAPHS: dict[Architecture, tuple[GraphName, ...]] = {
    "refinement": _REFINEMENT,
    "IFNet": (*_REFINEMENT, "interpolator"),
    "IFNet_m": (*_REFINEMENT, "interpolator"),
    "IFNet_2R": ("refine", "interpolator"),  # its context maps are larger than those of the two other graphs
    "HDv3": ("interpolator",),
    "RIFE 4": ("interpolator",),
}


def graphs_of(checkpoint: Checkpoint) -> tuple[GraphName, ...]:
    """Return the graphs that a checkpoint's weights make."""
    refined = checkpoint.architecture == "RIFE 4" and "unet.conv.weight" in checkpoint.state_dict
    return (*(_REFINEMENT if refined else ()), *_GRAPHS[checkpoint.architecture])


def signature_of_network(network: nn.Module, graph: GraphName) -> Signature:
    """Return the signature of a graph of a reference network; weights of only a refinement have no interpolator."""
    known: Any = network
    if not hasattr(network, "multiple_of"):
        return signature_of(graph)
    return signature_of(graph, timestep=known.takes_timestep, multiple_of=known.multiple_of, scale=known.scale)


def signature_of_checkpoint(checkpoint: Checkpoint, graph: str, scale: float) -> Signature:
    """Return the signature of a graph of a checkpoint's weights; `scale` as in `reference_network`.

    Raises:
        RequestError: as `check_graph`.
    """
    return signature_of_network(_empty_network(checkpoint, scale), check_graph(checkpoint, graph))


def _empty_network(checkpoint: Checkpoint, scale: float) -> nn.Module:
    shapes = {key: tuple(tensor.shape) for key, tensor in checkpoint.state_dict.items()}
    return empty_network(checkpoint.architecture, shapes, scale)


def check_graph(checkpoint: Checkpoint, graph: str) -> GraphName:
    """Return the graph's name, if the checkpoint's weights make it.

    Raises:
        RequestError: they do not; the message names the graphs that they do make.
    """
    graphs = graphs_of(checkpoint)
    for known in graphs:
        if known == OLD_NAMES.get(graph, graph):
            return known
    made = ", ".join(graphs)
    if OLD_NAMES.get(graph, graph) not in SIGNATURES:
        raise RequestError(
            f"there is no graph {graph!r}; these weights make: {made}", code="unknown-graph", graph=graph
        )
    without = ". Their refinement is left out by --no-refine" if "unet" in checkpoint.unused else ""
    message = f"{checkpoint.architecture} weights do not make the graph {graph!r}; they make: {made}{without}"
    raise RequestError(message, code="graph-not-in-weights", graph=graph, architecture=checkpoint.architecture)


def reference_network(checkpoint: Checkpoint, scale: float = 1.0) -> nn.Module:
    """Return the reference module with the checkpoint's weights, FP32 on the CPU, in eval mode, without gradients.

    The scales of its blocks are divided by `scale`, one of `SCALES`: below 1 for large frames and motion.
    It is an `IFNet`, `IFNet_m`, `IFNet_2R`, `HDv3` or `Rife4`; for a checkpoint of only the refinement, a module with
    the children `contextnet` and `unet`.
    """
    torch = require("torch", extra="torch")
    network = _empty_network(checkpoint, scale)
    network.load_state_dict(dict(checkpoint.state_dict), strict=True, assign=True)
    # The layout of weights is that of every convolution: a CPU takes a sixth to a quarter less time in channels_last,
    # and a transposed convolution a third of the memory.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # no overload of torch has it
    return network.eval().requires_grad_(False)


def graph_network(reference: nn.Module, graph: GraphName) -> nn.Module:
    """Return the part of a reference network that is `graph`; the weights are shared, not copied.

    Its arguments are the graph's inputs in order; it returns a tensor, or a tuple of the outputs in order.
    """
    from refine_export.export.graph_modules import MODULES  # needs torch at import

    return MODULES[graph](reference).eval().requires_grad_(False)
