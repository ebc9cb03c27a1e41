"""One of the five graphs to ONNX: opset 18, GridSample as a standard op, named I/O, static or dynamic sizes.

How a file becomes right at every size: nothing that the trace reads depends on one. `warp` and `interpolate` are
replaced, while tracing, by forms whose sizes the runtime computes (Shape, Range; Resize with constant scales), and a
dynamic graph is traced at two sizes: only when both traces are the same graph, node by node and byte by byte, are its
dimensions declared free. (A symbolic `torch.export` proves the same in two to six times the time, and specialises
`linspace` to the traced size.)

    from refine_export.checkpoint import seeded_checkpoint
    from refine_export.export import ExportOptions, onnx_from_network
    from refine_export.network import reference_network

    checkpoint = seeded_checkpoint("IFNet")
    model = onnx_from_network(reference_network(checkpoint), "refine", ExportOptions(dynamic=True))
"""

from __future__ import annotations

import ast
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refine_export import __version__
from refine_export.errors import InternalError
from refine_export.network import graph_network
from refine_export.optional import require
from refine_export.signature import SIGNATURES, GraphName, Signature, TensorSpec, parse_size

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir
    from torch import Tensor, nn
    from torch.overrides import TorchFunctionMode

OPSET = 18
"""The newest opset whose GridSample says `bilinear`; from 20 it says `linear`, which TensorRT reads as nearest."""

TRACE_SIZES = ((1, 128, 192), (2, 96, 160))
"""Batch, height, width of the two traces of a dynamic graph: no dimension of one is equal in the other."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What the ONNX file is made for."""

    dynamic: bool = False
    """One file for every batch and every height and width that are multiples of 32, instead of one size."""
    batch: int = 1
    """Frame pairs per call of a static file."""
    size: str | None = None
    """HEIGHTxWIDTH of a static file in pixels, multiples of 32; without it, that of the frames, padded."""

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}; expected 1 or more")
        if self.size is not None:
            parse_size(self.size)
        if self.dynamic and (self.size is not None or self.batch != 1):
            raise ValueError("dynamic is true, but a size or a batch is given; they are for a static file")


def onnx_from_network(
    reference: nn.Module, graph: GraphName, options: ExportOptions, metadata: dict[str, str] | None = None
) -> onnx.ModelProto:
    """Trace a graph of the reference network.

    Args:
        reference: what `network.reference_network` returns; not modified.
        graph: one of the five.
        options: static size, or dynamic.
        metadata: added to the file's metadata, such as where the weights come from.

    Returns:
        A model that passes `onnx.checker` with full check and shape inference, whose inputs and outputs are those
        of the graph's signature.

    Raises:
        InternalError: the graph is not what it should be (baked-in sizes, wrong names or shapes), or a static
            export has no size.
        UnavailableError: torch or onnxscript is missing.
    """
    ir = require("onnx_ir", extra="torch")
    signature = SIGNATURES[graph]
    network = graph_network(reference, graph)
    if options.dynamic:
        model = _traced(network, signature, *TRACE_SIZES[0])
        _check_same(graph, model, _traced(network, signature, *TRACE_SIZES[1]))
    else:
        model = _traced(network, signature, options.batch, *_static_size(options))
    _declare_inputs(model.graph, signature, options)
    _optimize(model)
    _tidy(model, metadata or {}, graph)
    return _with_outputs(ir.serde.serialize_model(model), signature, options)


def _traced(network: nn.Module, signature: Signature, batch: int, height: int, width: int) -> ir.Model:
    """The graph as torch exports it, not optimised: every value has the traced size, no constant does."""
    torch = require("torch", extra="torch")
    require("onnxscript", extra="torch")
    examples = tuple(torch.zeros(spec.shape_at(batch, height, width)) for spec in signature.inputs)
    with torch.no_grad(), _quiet(), _size_free():
        program = torch.onnx.export(
            network,
            examples,
            dynamo=True,
            opset_version=OPSET,
            optimize=False,
            verbose=False,
            input_names=signature.input_names,
            output_names=signature.output_names,
        )
    model: ir.Model = program.model
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's words on packages that RIFE does not use and on its own deprecated calls."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _size_free() -> TorchFunctionMode:
    """While it is active, `warp` and `interpolate` trace to operators that ask for their size at run time."""
    import torch
    from torch.nn.functional import grid_sample, interpolate
    from torch.onnx.ops import symbolic
    from torch.overrides import TorchFunctionMode

    from rife.warplayer import warp

    def axis(size: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """linspace(-1, 1, size), and (size - 1) / 2; `length` is the traced size, for the shape alone."""
        zero, one = torch.zeros(()), torch.ones(())
        # FP32 counts pixels exactly, to 2**24; (2i - last) is exact too, so each value is rounded once.
        pixels: Tensor = symbolic("Range", (zero, size, one), dtype=torch.float32, shape=(length,), version=OPSET)
        last = size - 1.0
        return (pixels * 2.0 - last) / last, last / 2.0

    def size_free_warp(image: Tensor, flow: Tensor) -> Tensor:
        height, width = flow.shape[-2:]
        shape: Tensor = symbolic("Shape", (flow,), dtype=torch.int64, shape=(4,), version=OPSET)
        sizes = shape.to(torch.float32)
        column, half_width = axis(sizes[3], width)
        row, half_height = axis(sizes[2], height)
        x = column + flow[:, 0] / half_width
        y = row.unsqueeze(-1) + flow[:, 1] / half_height
        grid = torch.stack((x, y), dim=-1)
        return grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)

    def size_free_interpolate(x: Tensor, *, scale_factor: float, **_: Any) -> Tensor:
        batch, channels, height, width = x.shape
        scales = torch.tensor([1.0, 1.0, scale_factor, scale_factor])
        resized: Tensor = symbolic(
            "Resize",
            (x, None, scales),
            {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
            dtype=x.dtype,
            shape=(batch, channels, int(height * scale_factor), int(width * scale_factor)),
            version=OPSET,
        )
        return resized

    replacements = {warp: size_free_warp, interpolate: size_free_interpolate}

    class SizeFree(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            return replacements.get(func, func)(*args, **(kwargs or {}))

    return SizeFree()


def _check_same(graph: str, first: ir.Model, second: ir.Model) -> None:
    """Both traces are one graph: the same operators, attributes and constants, joined in the same way.

    Raises:
        InternalError: a node or a constant depends on the traced size.
    """
    for model in (first, second):
        _forget_shapes(model.graph)
    ours, theirs = (_fingerprints(model.graph) for model in (first, second))
    for (name, one), (_, other) in zip(ours, theirs, strict=False):
        if one != other:
            raise InternalError(f"{graph} can't be exported with dynamic sizes: {name} depends on the traced size")
    if len(ours) != len(theirs):
        raise InternalError(f"{graph} can't be exported with dynamic sizes: the traces differ in length")


def _fingerprints(graph: ir.Graph) -> list[tuple[str, object]]:
    """Each constant and node, with all that makes its meaning."""
    constants = [(name, value.const_value) for name, value in graph.initializers.items()]
    return [
        (f"the constant {name}", (name, tensor and (tensor.dtype, tensor.shape, tensor.tobytes())))
        for name, tensor in constants
    ] + [
        (
            f"the node {node.name}",
            (
                node.op_type,
                tuple(value and value.name for value in node.inputs),
                tuple(value.name for value in node.outputs),
                tuple(
                    (
                        key,
                        attribute.value.tobytes() if hasattr(attribute.value, "tobytes") else attribute.value,
                    )
                    for key, attribute in node.attributes.items()
                ),
            ),
        )
        for node in graph
    ]


def _forget_shapes(graph: ir.Graph) -> None:
    """Drop the traced shapes of all values but constants."""
    for node in graph:
        for value in node.outputs:
            value.shape = None


def _declare_inputs(graph: ir.Graph, signature: Signature, options: ExportOptions) -> None:
    """Give the inputs the signature's shapes, in numbers or in symbols."""
    import onnx_ir as ir

    for value, spec in zip(graph.inputs, signature.inputs, strict=True):
        value.shape = ir.Shape(_shape(spec, options))


def _shape(spec: TensorSpec, options: ExportOptions) -> tuple[int | str, ...]:
    if options.dynamic:
        return spec.shape
    return spec.shape_at(options.batch, *_static_size(options))


def _static_size(options: ExportOptions) -> tuple[int, int]:
    if options.size is None:
        raise InternalError("a static export was asked for without a size")
    return parse_size(options.size)


def _optimize(model: ir.Model) -> None:
    """Fold constants, share common subexpressions and equal constants, drop what is unused."""
    from onnx_ir.passes.common import DeduplicateInitializersPass
    from onnxscript.optimizer import optimize

    optimize(model)
    DeduplicateInitializersPass()(model)


def _tidy(model: ir.Model, metadata: dict[str, str], graph: GraphName) -> None:
    """Name nodes after their modules and constants after the state dict's keys; keep nothing of the machine."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    keys: dict[str, str] = {}
    taken: Counter[str] = Counter()
    outputs = set(model.graph.outputs)
    for node in model.graph:
        scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "['', '']"))
        scope = scopes[-2].removeprefix("ifnet.")
        name = f"{scope}/{node.op_type}" if scope else node.op_type
        taken[name] += 1
        node.name = name if taken[name] == 1 else f"{name}_{taken[name]}"
        for value in node.outputs:
            if value not in outputs:
                value.name = f"{node.name}/out"
        if node.op_type == "PRelu" and node.inputs[1] is not None:
            keys[node.inputs[1].name or ""] = f"{scope}.weight"  # the slope, folded to [C, 1, 1]
    for name, value in list(model.graph.initializers.items()):
        value.name = keys.get(name, name).removeprefix("ifnet.")
    ClearMetadataAndDocStringPass()(model)
    model.producer_name, model.producer_version = "refine-export", __version__
    model.graph.name = graph
    model.metadata_props.update({"refine_export.graph": graph, **metadata})


def _with_outputs(proto: onnx.ModelProto, signature: Signature, options: ExportOptions) -> onnx.ModelProto:
    """Declare the outputs' shapes, after a check against what the operators give.

    Raises:
        InternalError: the graph's names or sizes are not the signature's.
    """
    import onnx

    for names, values in (
        (signature.input_names, proto.graph.input),
        (signature.output_names, proto.graph.output),
    ):
        if tuple(value.name for value in values) != names:
            raise InternalError(f"{signature.graph} has {[value.name for value in values]}, not {list(names)}")
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    for value, spec in zip(inferred.graph.output, signature.outputs, strict=True):
        for dim, expected in zip(value.type.tensor_type.shape.dim, _shape(spec, options), strict=True):
            if dim.HasField("dim_value") and dim.dim_value != expected:
                raise InternalError(
                    f"{signature.graph}: {value.name} has a size {dim.dim_value} where {expected} belongs"
                )
            if isinstance(expected, int):
                dim.dim_value = expected
            else:
                dim.dim_param = expected
    if options.dynamic:
        del inferred.graph.value_info[:]  # symbols that no reader could join with the inputs'
    onnx.checker.check_model(inferred, full_check=True)
    return inferred
