"""Check of GridSample layers: each samples as in the ONNX file, whatever the parser made of it.

The parser of 10.1 to 11.1 (and perhaps later ones) silently takes opset 20's `linear` for nearest
(NVIDIA/TensorRT#4646). Checked against the API documentation of 10.12 to 11.4; not run. Run with
TensorRT for RTX 1.7.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import onnx

from refine_export.artifacts import signature_of_model, stacked_signature_of_model
from refine_export.engine.bindings import title_of
from refine_export.errors import GraphError, UnavailableError
from refine_export.graph.model_file import all_nodes

if TYPE_CHECKING:
    import tensorrt as trt

_MODES: Final = {"bilinear": "LINEAR", "linear": "LINEAR", "nearest": "NEAREST", "bicubic": "CUBIC", "cubic": "CUBIC"}
_PADDINGS: Final = {"border": "CLAMP", "zeros": "FILL", "reflection": "REFLECT"}
_METADATA: Final = re.compile(r"\[ONNX Layer: (.*?)(?: \| .*?)?\]")


@dataclass(frozen=True)
class Sampling:
    """Sampling of a GridSample, in TensorRT's names; the fields are the layer's attributes."""

    interpolation_mode: str
    sample_mode: str
    align_corners: bool


@dataclass(frozen=True, kw_only=True)
class Repair:
    """An attribute that the parser got wrong, and that was put right."""

    layer: str
    attribute: str
    found: str
    set: str


@dataclass(frozen=True, kw_only=True)
class GridSampleReport:
    """Result of the check."""

    layers: int
    """GridSample layers of the network, all of which sample as in the file."""
    sampling: Mapping[str, int]
    """Layers by their attributes, as read back, such as `LINEAR CLAMP aligned`."""
    repairs: tuple[Repair, ...]


OF_NETWORKS: Final = Sampling(interpolation_mode="LINEAR", sample_mode="CLAMP", align_corners=True)
"""Sampling of every warp of the networks: bilinear, border padding, aligned corners."""


def samplings(model: onnx.ModelProto) -> list[tuple[str, Sampling]]:
    """List name and sampling of each GridSample node of a file, those in bodies and functions included.

    Raises:
        GraphError: `bad-attribute`; a mode or padding that ONNX does not have.
    """
    return [(node.name, _sampling(node)) for node in all_nodes(model) if node.op_type == "GridSample"]


def check_grid_samples(module: Any, network: trt.INetworkDefinition, model: onnx.ModelProto) -> GridSampleReport:
    """Compare each GridSample layer with its ONNX node, and set right what differs.

    The nodes of our graphs must sample as the networks do, whatever the file has. Which node a layer comes from is read
    from its metadata, or its name; where all nodes sample alike, it does not matter.

    Args:
        module: of the library.
        network: as the parser left it; modified.
        model: what was parsed; external data need not be loaded.

    Raises:
        GraphError: `sampler-mismatch`; another number of layers than of nodes, a layer whose node is not known, or an
            attribute that stays wrong. `wrong-sampling`; a node of our graphs does not sample as the networks do.
    """
    nodes = samplings(model)
    ours = signature_of_model(model) or stacked_signature_of_model(model)
    if ours and any(sampling != OF_NETWORKS for _, sampling in nodes):
        name, found = next(node for node in nodes if node[1] != OF_NETWORKS)
        raise GraphError(
            f"GridSample {name!r} does not sample as the networks do: {found}; expected {OF_NETWORKS}: export the file "
            "again",
            code="wrong-sampling",
            node=name,
        )
    layers = grid_sample_layers(module, network)
    if len(layers) != len(nodes):
        raise GraphError(
            f"{title_of(module)} made {len(layers)} GridSample layers of {len(nodes)} GridSample nodes; "
            "expected one each: build with --fallback gather, which samples without them",
            code="sampler-mismatch",
        )
    repairs, sampling = [], Counter[str]()
    for layer in layers:
        expected = _expected(layer, nodes)
        for attribute, wanted in (
            ("interpolation_mode", module.InterpolationMode.__members__[expected.interpolation_mode]),
            ("sample_mode", module.SampleMode.__members__[expected.sample_mode]),
            ("align_corners", expected.align_corners),
        ):
            found = getattr(layer, attribute)
            if found == wanted:
                continue
            setattr(layer, attribute, wanted)
            if getattr(layer, attribute) != wanted:
                raise GraphError(
                    f"{title_of(module)} read {layer.name!r} with {attribute} {_text(found)}, which stays "
                    f"so; expected {_text(wanted)}, as the file has it: export at opset 18 with mode bilinear, or "
                    "build with --fallback gather",
                    code="sampler-mismatch",
                    layer=layer.name,
                    attribute=attribute,
                )
            repairs.append(Repair(layer=layer.name, attribute=attribute, found=_text(found), set=_text(wanted)))
        corners = "aligned" if layer.align_corners else "not aligned"
        sampling[f"{_text(layer.interpolation_mode)} {_text(layer.sample_mode)} {corners}"] += 1
    return GridSampleReport(layers=len(layers), sampling=dict(sampling), repairs=tuple(repairs))


def grid_sample_layers(module: Any, network: trt.INetworkDefinition) -> list[trt.IGridSampleLayer]:
    """Return the GridSample layers of a network, with their own attributes.

    `get_layer` gives the base class, and pybind11 never downcasts: assigning the class is NVIDIA's documented way.
    """
    found = []
    for index in range(network.num_layers):
        layer: Any = network.get_layer(index)
        if layer.type == module.LayerType.GRID_SAMPLE:
            layer.__class__ = module.IGridSampleLayer
            found.append(layer)
    return found


def keep_from_fusing(module: Any, network: trt.INetworkDefinition) -> tuple[str, ...]:
    """Mark inputs and outputs of each GridSample as debug tensors, which prevents fusion.

    (`mark_unfused_tensors_as_debug_tensors`, in spite of its name, does not.) A context has debug tensors off unless
    they are turned on, so that each costs a store and a load, and no listener. Inputs and outputs of the network are
    tensors of their own already.

    Returns:
        Names of the tensors that were marked.

    Raises:
        UnavailableError: `tensorrt-failed`; TensorRT refuses to mark one.
    """
    tensors: dict[str, Any] = {}  # two layers may share one
    for layer in grid_sample_layers(module, network):
        ends: list[Any] = [layer.get_input(index) for index in range(layer.num_inputs)]
        ends += [layer.get_output(index) for index in range(layer.num_outputs)]
        tensors |= {end.name: end for end in ends if not (end.is_network_input or end.is_network_output)}
    for name, tensor in tensors.items():
        if not network.mark_debug(tensor):
            raise UnavailableError(
                f"{title_of(module)} cannot keep {name!r} from fusing; expected a tensor that can be marked "
                "for debugging: build with --fallback gather",
                code="tensorrt-failed",
                tensor=name,
            )
    return tuple(tensors)


def _sampling(node: onnx.NodeProto) -> Sampling:
    given: Mapping[str, Any] = {attribute.name: attribute for attribute in node.attribute}
    mode = given["mode"].s.decode() if "mode" in given else "bilinear"  # opset 16 to 19; `linear` from 20 on
    padding = given["padding_mode"].s.decode() if "padding_mode" in given else "zeros"
    if mode not in _MODES or padding not in _PADDINGS:
        raise GraphError(
            f"GridSample {node.name!r} has mode {mode!r} and padding {padding!r}; expected {', '.join(_MODES)} and "
            f"{', '.join(_PADDINGS)}: export it again",
            code="bad-attribute",
            node=node.name,
        )
    aligned = bool(given["align_corners"].i) if "align_corners" in given else False
    return Sampling(interpolation_mode=_MODES[mode], sample_mode=_PADDINGS[padding], align_corners=aligned)


def _expected(layer: trt.ILayer, nodes: list[tuple[str, Sampling]]) -> Sampling:
    if len({sampling for _, sampling in nodes}) == 1:
        return nodes[0][1]
    count = Counter(name for name, _ in nodes)
    by_name = {name: sampling for name, sampling in nodes if name and count[name] == 1}
    for name in node_names(layer):
        if name in by_name:
            return by_name[name]
    raise GraphError(
        f"the GridSample nodes of the file differ in how they sample, and layer {layer.name!r} is none of "
        f"{', '.join(sorted(by_name)) or 'them, which have no names of their own'}; expected nodes with names of their "
        "own: name them, or build with --fallback gather",
        code="sampler-mismatch",
        layer=layer.name,
    )


def node_names(layer: trt.ILayer) -> list[str]:
    """Return the names that the ONNX node of a layer may have: those in its metadata, then its own."""
    return [*_METADATA.findall(layer.metadata), layer.name]


def _text(value: Any) -> str:
    return str(getattr(value, "name", value))
