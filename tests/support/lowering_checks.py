"""Properties of every lowered graph."""

from __future__ import annotations

from typing import Any

import onnx
import onnx_ir as ir
from onnx import TensorProto

from refine_export.graph.linter import lint_model
from refine_export.graph.operator_types import is_op
from refine_export.graph.sampling_coordinates import PATH_STARTS, grids, upstream
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import Lowered, Prepared, lower

HALF, SINGLE = ir.DataType.FLOAT16, ir.DataType.FLOAT


def typed(model: onnx.ModelProto) -> ir.Graph:
    """The graph with the types that its nodes give."""
    return ir.from_proto(onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)).graph


def assert_convolutions(graph: ir.Graph, low: ir.DataType = HALF) -> None:
    """Activations, weights, bias and result of each convolution are FP16."""
    for node in graph:
        if is_op(node, "Conv", "ConvTranspose"):
            wanted = HALF if node.op_type == "ConvTranspose" else low
            assert {value.dtype for value in (*node.inputs, *node.outputs) if value is not None} == {wanted}, node.name


def assert_coordinates(graph: ir.Graph) -> None:
    """Image, grid and result of GridSample are FP32, and so is all that grids and indices are computed from."""
    for sample, grid in grids(graph).items():
        if is_op(sample, "GridSample"):
            assert {value.dtype for value in (*sample.inputs, *sample.outputs)} == {SINGLE}, sample.name
        rounded = [value for value in upstream(grid) if value.dtype == HALF]
        assert all(is_op(value.producer(), *PATH_STARTS) for value in rounded), (sample.name, rounded)


def assert_casts(graph: ir.Graph) -> None:
    """No tensor is cast twice to one type, no Cast undoes or repeats another, no constant is cast, all is used."""
    floats = (SINGLE, HALF, ir.DataType.BFLOAT16)
    seen = set()
    for node in graph:
        assert any(value.uses() or value.is_graph_output() for value in node.outputs), f"{node.name} is not used"
        source, result = node.inputs[0] if node.inputs else None, node.outputs[0]
        if not is_op(node, "Cast") or source.dtype not in floats or result.dtype not in floats:
            continue
        assert not source.is_initializer(), f"a constant is cast: {source.name}"
        assert source.dtype != result.dtype, f"{node.name} changes nothing"
        maker = source.producer()
        assert not (is_op(maker, "Cast") and maker.inputs[0].dtype in floats), f"{node.name} casts a cast"
        assert (source, result.dtype) not in seen, f"{source.name} is cast twice"
        seen.add((source, result.dtype))
    assert all(value.uses() for value in graph.initializers.values()), "a constant is not used"


def assert_inputs_and_outputs(before: onnx.ModelProto, after: onnx.ModelProto, half: set[str]) -> None:
    """Names, order and shapes are the same; those of `half` are FP16."""
    constants = {tensor.name for tensor in before.graph.initializer}
    for values, others in ((before.graph.input, after.graph.input), (before.graph.output, after.graph.output)):
        values = [value for value in values if value.name not in constants]
        assert [value.name for value in values] == [other.name for other in others]
        for value, other in zip(values, others, strict=True):
            one, two = value.type.tensor_type, other.type.tensor_type
            assert one.shape == two.shape
            expected = TensorProto.FLOAT16 if value.name in half else one.elem_type
            assert two.elem_type == expected, value.name


def assert_lowered(model: onnx.ModelProto, lowered: Lowered, half: set[str] = frozenset()) -> None:
    """All of the above, and onnx.checker, our lint, and a reason for every node."""
    onnx.checker.check_model(lowered.model, full_check=True)
    findings = lint_model(lowered.model)
    assert {finding.rule for finding in findings} <= {"resize-dynamic"}, findings
    graph = typed(lowered.model)
    assert_convolutions(graph)
    assert_coordinates(graph)
    assert_casts(graph)
    assert_inputs_and_outputs(model, lowered.model, half)
    assert all(node.reason and node.type in ("float16", "float32", "none") for node in lowered.nodes)
    types = {node.name: [value.dtype for value in node.outputs] for node in graph}
    for node in lowered.nodes:
        if node.type != "none":
            wanted = HALF if node.type == "float16" else SINGLE
            assert {dtype for dtype in types[node.node] if dtype in (HALF, SINGLE)} <= {wanted}, node


def decided(prepared: Prepared, islands: tuple[str, ...] = (), **options: Any) -> dict[str, tuple[str, str]]:
    """Lower a graph, check it, and return the type and the rule of each node."""
    lowered = lower(prepared, LowerOptions(**options), islands)
    onnx.checker.check_model(lowered.model, full_check=True)
    graph = typed(lowered.model)
    assert_coordinates(graph)
    assert_casts(graph)
    return {node.node: (node.type, node.rule) for node in lowered.nodes}
