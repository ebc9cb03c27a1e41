"""Export a graph of the reference network to ONNX: opset 18, GridSample as a standard operator, named I/O.

The file is right at every size because nothing that the trace reads depends on one. `warp` and `interpolate` are
placeholders in the trace, which are then written in operators whose sizes the runtime computes (Shape, Range; Resize
with constant scales), and a dynamic graph is traced at two sizes: only when both traces are the same graph, step by
step and constant by constant, are its dimensions declared free. (A symbolic `torch.export` takes two to six times the
time, and specialises `linspace` to the traced size.)

    checkpoint = seeded_checkpoint("IFNet")
    model = onnx_from_network(reference_network(checkpoint), "refine", ExportOptions(dynamic=True))
"""

from __future__ import annotations

import ast
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import onnx
import onnx.checker
import onnx.shape_inference
import onnx_ir as ir
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    CommonSubexpressionEliminationPass,
    DeduplicateInitializersPass,
    LiftConstantsToInitializersPass,
    RemoveUnusedNodesPass,
)

from refine_export import __version__
from refine_export.errors import InternalError
from refine_export.export.export_options import ExportOptions
from refine_export.export.reference_network import graph_network, signature_of_network
from refine_export.export.size_free_operators import write_size_free_operators
from refine_export.export.size_free_trace import check_same, trace
from refine_export.graph.parser_cost import split_slices, widen_constants
from refine_export.signature import GraphName, Signature, TensorSpec, check_multiples, parse_size
from refine_export.support.imports import require

if TYPE_CHECKING:  # torch is optional, and this module is imported without it
    from torch import nn
    from torch.export import ExportedProgram

OPSET = 18
"""The newest opset whose GridSample states `bilinear`; from 20 it is `linear`, which TensorRT reads as nearest."""
TRACE_SIZES = ((1, 2, 7), (3, 5, 3))
"""Batch, height, width of the two traces of a dynamic graph, the sides in units of the network's padding: they differ
in each, in their order, sum and ratio."""


def onnx_from_network(
    reference: nn.Module, graph: GraphName, options: ExportOptions, metadata: dict[str, str] | None = None
) -> onnx.ModelProto:
    """Trace a graph of the reference network.

    Args:
        reference: from `reference_network`; not modified.
        graph: one that the network has.
        options: static size, or dynamic.
        metadata: added to the file's metadata, such as where the weights come from.

    Returns:
        A model that passes `onnx.checker` with full check and shape inference, whose inputs and outputs are those
        of the graph's signature.

    Raises:
        RequestError: `wrong-size`; a static size that does not fit the network's padding.
        InternalError: the graph is not what it should be (baked-in sizes, wrong names or shapes), or a static
            export has no size.
        UnavailableError: torch or onnxscript is missing.
    """
    signature = signature_of_network(reference, graph)
    network = graph_network(reference, graph)
    unit = signature.multiple_of
    if options.dynamic:
        # One batch, height and width to trace, and one to check.
        sizes = [(batch, rows * unit, columns * unit) for batch, rows, columns in TRACE_SIZES]
    else:
        size = _static_size(options)
        check_multiples(size, unit)
        sizes = [(options.batch, *size)]
    with _quiet():
        program, *others = (trace(network, signature, *size) for size in sizes)
        for other in others:
            check_same(graph, program, other)
        model = _translated(program, signature)
    write_size_free_operators(model)
    if options.dynamic:
        _forget_sizes(model.graph)
    for value, spec in zip(model.graph.inputs, signature.inputs, strict=True):
        value.shape = ir.Shape(_shape(spec, options))
    _simplify(model)
    _tidy(model, metadata or {}, graph)
    return _with_checked_shapes(ir.to_proto(model), signature, options, sizes[-1])  # not the size that was translated


def _translated(program: ExportedProgram, signature: Signature) -> ir.Model:
    """Translate a trace as torch does, not optimised: every value has the traced size, no constant does."""
    torch = require("torch", extra="torch")
    require("onnxscript", extra="torch")
    result = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=OPSET,
        optimize=False,
        verbose=False,
        input_names=signature.input_names,
        output_names=signature.output_names,
    )
    model: ir.Model = result.model
    return model


def _forget_sizes(graph: ir.Graph) -> None:
    """Keep only the channels of the shapes of a trace; `check_same` has shown that these do not depend on the size."""
    for node in graph:
        for value in node.outputs:
            if value.shape is not None and len(value.shape) == 4:
                value.shape = ir.Shape([None, value.shape[1], None, None])


def _simplify(model: ir.Model) -> None:
    """Fold constants, share what is equal, and write what TensorRT's parser makes fewer layers of."""
    require("onnxscript.optimizer", extra="torch").fold_constants(model, onnx_shape_inference=False)
    RemoveUnusedNodesPass()(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    DeduplicateInitializersPass()(model)  # equal operators have equal constants
    CommonSubexpressionEliminationPass()(model)
    split_slices(model.graph)
    widen_constants(model.graph)
    RemoveUnusedNodesPass()(model)  # constants that nothing reads any more
    DeduplicateInitializersPass()(model)  # sizes of the Splits


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's messages on packages that RIFE does not use and on its own deprecated calls."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _shape(spec: TensorSpec, options: ExportOptions) -> tuple[int | str, ...]:
    return spec.shape if options.dynamic else spec.shape_at(options.batch, *_static_size(options))


def _static_size(options: ExportOptions) -> tuple[int, int]:
    if options.size is None:
        raise InternalError("a static export was requested without a size", code="missing-size")
    return parse_size(options.size)


def _tidy(model: ir.Model, metadata: dict[str, str], graph: GraphName) -> None:
    """Name nodes after their modules and constants after the state dict's keys; keep nothing of the machine."""
    keys: dict[str, str] = {}
    taken: Counter[str] = Counter()
    outputs = set(model.graph.outputs)
    for node in model.graph:
        # The module path of each node, which torch leaves as the repr of a list; its last entry is the operator.
        scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "['', '']"))
        scope = scopes[-2].removeprefix("network.")
        name = f"{scope}/{node.op_type}" if scope else node.op_type
        taken[name] += 1
        node.name = name if taken[name] == 1 else f"{name}_{taken[name]}"
        for place, value in enumerate(node.outputs):
            if value not in outputs:
                value.name = f"{node.name}/out_{place}" if len(node.outputs) > 1 else f"{node.name}/out"
        if node.op_type == "PRelu" and node.inputs[1] is not None:
            keys[node.inputs[1].name or ""] = f"{scope}.weight"  # the slope, folded to [C, 1, 1]
    for name, value in list(model.graph.initializers.items()):
        value.name = keys.get(name, name).removeprefix("network.")
    ClearMetadataAndDocStringPass()(model)
    model.producer_name, model.producer_version = "refine-export", __version__
    model.graph.name = graph
    model.metadata_props.update({"refine_export.graph": graph, **metadata})


def _with_checked_shapes(
    proto: onnx.ModelProto, signature: Signature, options: ExportOptions, size: tuple[int, int, int]
) -> onnx.ModelProto:
    """Declare the shapes of inputs and outputs, after a check that the operators give them at `size`.

    Args:
        size: batch, height and width; for a dynamic graph other ones than those of its own trace, so that a size
            that the trace has left in an operator is found.

    Raises:
        InternalError: the graph's names or sizes are not the signature's.
    """
    for names, values in (
        (signature.input_names, proto.graph.input),
        (signature.output_names, proto.graph.output),
    ):
        if tuple(value.name for value in values) != names:
            given = [value.name for value in values]
            raise InternalError(f"{signature.graph} has {given}, not {list(names)}", code="wrong-io", given=given)
    for value, spec in zip(proto.graph.input, signature.inputs, strict=True):
        _declare(value, spec.shape_at(*size))
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    del proto.graph.value_info[:]  # inference would keep the unknown sizes of `_forget_sizes`
    inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    for value, spec in zip(inferred.graph.output, signature.outputs, strict=True):
        for dim, expected in zip(value.type.tensor_type.shape.dim, spec.shape_at(*size), strict=True):
            if dim.HasField("dim_value") and dim.dim_value != expected:
                message = f"{signature.graph}: {value.name} has a size {dim.dim_value} where {expected} belongs"
                raise InternalError(message, code="wrong-io", given=dim.dim_value)
    values, specs = (*inferred.graph.input, *inferred.graph.output), (*signature.inputs, *signature.outputs)
    for value, spec in zip(values, specs, strict=True):
        _declare(value, _shape(spec, options))
    if options.dynamic:
        del inferred.graph.value_info[:]  # shapes at the one size
    onnx.checker.check_model(inferred, full_check=True)
    return inferred


def _declare(value: onnx.ValueInfoProto, sizes: Sequence[int | str]) -> None:
    """Give an input or output its shape."""
    shape = value.type.tensor_type.shape
    shape.ClearField("dim")
    for size in sizes:
        shape.dim.add(**{"dim_value" if isinstance(size, int) else "dim_param": size})
