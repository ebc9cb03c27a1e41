"""A lowered graph is valid, samples where the FP32 graph samples, and says why every node has its type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from foreign import (
    CONV,
    GRID,
    IMAGE,
    OPSETS,
    OUT,
    SAMPLE,
    Foreign,
    foreign_feeds,
    foreign_model,
    function_model,
    grid_input_model,
    kernel,
    model_of,
    plain_model,
    with_initializers,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from refine_export.errors import GraphError, InternalError, RequestError
from refine_export.export import ExportOptions, onnx_from_network
from refine_export.feeds import feeds_for
from refine_export.graph import precision
from refine_export.graph.coordinates import PATH_STARTS, grids, is_op, upstream
from refine_export.graph.lint import lint_model
from refine_export.lowering import (
    Lowered,
    LowerOptions,
    Prepared,
    calibrated,
    check_lowered,
    lower,
    prepare_model,
)
from refine_export.runners.half import HalfRunner
from refine_export.runners.ort import OrtRunner
from refine_export.signature import SIGNATURES

Arrays = dict[str, np.ndarray]

TOLERANCE = 4e-3  # of the largest magnitude; measured: under 2e-3 for the five, under 3e-4 for the foreign ones
HALF, SINGLE = ir.DataType.FLOAT16, ir.DataType.FLOAT
FOREIGN = {
    **{f"foreign, opset {opset}": Foreign(opset=opset) for opset in OPSETS},
    "foreign, one input": Foreign(stacked=True),
    "foreign, static": Foreign(size=(64, 96)),
    "foreign, GatherElements": Foreign(warp="gather_elements"),
    "foreign, GatherND": Foreign(warp="gather_nd"),
    "foreign, computed sizes": Foreign(computed_sizes=True),
    "foreign, nameless": Foreign(nameless=True),
}
GRAPHS = [*SIGNATURES, *FOREIGN]
FIRST = "foreign, opset 18"


@dataclass(frozen=True)
class Case:
    """A graph in FP32, ready to be lowered."""

    model: onnx.ModelProto
    prepared: Prepared
    feeds: Callable[[int, int], Arrays]
    dynamic: bool

    def lowered(self, islands: tuple[str, ...] = (), **options: Any) -> Lowered:
        return lower(self.prepared, LowerOptions(**options), islands)


def ready(model: onnx.ModelProto, feeds: Arrays | None, without_warp: bool = True, **options: Any) -> Prepared:
    """Prepared, and calibrated where there are feeds; the model is not modified."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    prepared = prepare_model(ir.from_proto(copy), LowerOptions(**options), without_warp=without_warp)
    return prepared if feeds is None else calibrated(prepared, [("feed", feeds)])


def small(body: str, inputs: str = IMAGE, out: str = OUT, *, scale: float = 1.0, feeds: bool = True, **options: Any):
    """Nodes in ONNX text -> model, prepared; W and V are 3x3 convolutions of three channels."""
    model = model_of(f"{kernel('w', 3, 3, 3, 3)} {kernel('v', 3, 3, 3, 3)} {body}", inputs, out)
    return model, ready(model, small_feeds(model, scale) if feeds else None, **options)


def small_feeds(model: onnx.ModelProto, scale: float = 1.0, height: int = 16, width: int = 24) -> Arrays:
    """Random values in [0, scale)."""
    sizes = {"N": 1, "H": height, "W": width}
    random = np.random.default_rng(0)
    feeds = {}
    for value in model.graph.input:
        shape = [dim.dim_value or sizes[dim.dim_param] for dim in value.type.tensor_type.shape.dim]
        feeds[value.name] = (random.random(shape) * scale).astype(np.float32)
    return feeds


def outputs(runner: OrtRunner, feeds: Arrays) -> Arrays:
    return runner.run({info.name: feeds[info.name].astype(info.dtype) for info in runner.inputs})


def error(model: onnx.ModelProto, lowered: Lowered, *feeds: Arrays) -> float:
    """Largest difference of strict FP16 from FP32 on any feed, in units of an output's largest magnitude, or of 1."""
    worst = []
    with OrtRunner(model.SerializeToString()) as expected, HalfRunner(lowered.model.SerializeToString()) as actual:
        for feed in feeds:
            pairs = zip(outputs(expected, feed).values(), outputs(actual, feed).values(), strict=True)
            worst += [float(np.abs(one - other).max() / max(1, np.abs(one).max())) for one, other in pairs]
    return float(np.max(worst))  # NaN if any is


@pytest.fixture(scope="module")
def case(references, pair_at) -> Callable[[str], Case]:
    known: dict[str, Case] = {}

    def ours(name: Any) -> Case:
        static = name != "refine"  # for the time: it halves that of the export
        options = ExportOptions(dynamic=False, size="64x96") if static else ExportOptions()
        reference = references("IFNet_m" if name == "interpolator_m" else "IFNet")
        model = onnx_from_network(reference, name, options)
        copy = onnx.ModelProto.FromString(model.SerializeToString())
        prepared = prepare_model(ir.from_proto(copy), LowerOptions(), name)

        def feeds(height: int, width: int) -> Arrays:
            return next(feeds_for(reference, name, pair_at(height, width), kinds=("large",))).inputs

        return Case(model, calibrated(prepared, [("large", feeds(64, 96))]), feeds, options.dynamic)

    def get(name: str) -> Case:
        if name not in known and name in FOREIGN:
            options = FOREIGN[name]
            model = foreign_model(options)
            prepared = ready(model, foreign_feeds(options, 64, 96), without_warp=False)
            known[name] = Case(model, prepared, lambda h, w: foreign_feeds(options, h, w), options.size is None)
        elif name not in known:
            known[name] = ours(name)
        return known[name]

    return get


# What has to hold of every lowered graph: each is a function, so that it can be seen to fail.


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


@pytest.mark.parametrize("name", GRAPHS)
def test_graph(case, name):
    """Checker and lint find nothing; convolutions are FP16; coordinates FP32; casts few; inputs and outputs kept."""
    here = case(name)
    lowered = here.lowered()
    assert_lowered(here.model, lowered)
    assert [node.node for node in lowered.nodes] == [node.name for node in here.prepared.model.graph]
    assert lowered.macs_low == 1.0
    assert check_lowered(lowered) is not None


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_runs(case, name):
    """Strict FP16 is within the tolerance of FP32, at the size of the calibration and at another."""
    here = case(name)
    lowered = here.lowered()
    sizes = [(64, 96), (96, 64)] if here.dynamic else [(64, 96)]
    assert 0 < error(here.model, lowered, *(here.feeds(*size) for size in sizes)) < TOLERANCE
    with OrtRunner(lowered.model.SerializeToString()) as plain:
        results = outputs(plain, here.feeds(64, 96))
        assert all(np.isfinite(array).all() for array in results.values())


@pytest.mark.parametrize("name", GRAPHS)
def test_weights(case, name):
    """Weights of convolutions are FP16 constants under their own names, rounded to nearest; no name is new."""
    here = case(name)
    before, after = here.prepared.model.graph.initializers, typed(here.lowered().model).initializers
    convolutions = [node for node in here.prepared.model.graph if is_op(node, "Conv", "ConvTranspose")]
    assert convolutions
    for node in convolutions:
        for value in node.inputs[1:]:
            stored = after[value.name].const_value
            assert stored.dtype == HALF
            assert np.array_equal(stored.numpy(), before[value.name].const_value.numpy().astype(np.float16))
    assert {name.removesuffix("/float16") for name in after} <= set(before)
    source = {tensor.name for tensor in here.model.graph.initializer}
    source |= {node.output[0] for node in here.model.graph.node if node.op_type == "Constant"}
    assert set(before) <= source


@pytest.mark.parametrize(
    ("name", "half"),
    [
        ("refine", {"img0", "img1", "warped_img0", "warped_img1", "mask", "residual"}),
        ("contextnet", {"image", "f1", "f2", "f3", "f4"}),
        ("interpolator_m", {"img0", "img1", "frame"}),
        (FIRST, {"img0", "img1", "output"}),
        ("foreign, one input", {"output"}),  # frames and a timestep in one: no picture
    ],
)
def test_half_inputs_and_outputs(case, name, half):
    """With io = fp16 pictures and features are FP16; flows and the timestep stay FP32, and so do coordinates."""
    here = case(name)
    lowered = here.lowered(io="fp16")
    assert_lowered(here.model, lowered, half)
    feeds = here.feeds(64, 96)
    rounded = {name: array.astype(np.float16).astype(np.float32) for name, array in feeds.items() if name in half}
    assert error(here.model, lowered, feeds | rounded) < TOLERANCE


def test_same_bytes(case):
    """Two calls give the same file, from the same preparation and from another."""
    here = case(FIRST)
    contents = {
        lower(prepared, LowerOptions()).model.SerializeToString(deterministic=True)
        for prepared in (here.prepared, here.prepared, ready(here.model, here.feeds(64, 96), without_warp=False))
    }
    assert len(contents) == 1


@pytest.mark.parametrize("name", ["refine", FIRST])
def test_prepared_is_not_modified(case, name):
    """Lowering again and again, with other islands and types, leaves the FP32 graph as it was."""
    here = case(name)
    before = ir.to_proto(here.prepared.model).SerializeToString(deterministic=True)
    low = tuple(node.node for node in here.lowered().nodes if node.type == "float16")
    first = here.lowered().model.SerializeToString(deterministic=True)
    for islands, options in (((low[0],), {}), (low, {}), (low[::2], {"fp32_tail": False}), ((), {"io": "fp16"})):
        here.lowered(islands, **options)
    here.lowered(precision="fp32")
    assert ir.to_proto(here.prepared.model).SerializeToString(deterministic=True) == before
    assert here.lowered().model.SerializeToString(deterministic=True) == first


@pytest.mark.parametrize("name", ["refine", FIRST])
def test_islands(case, name):
    """The nodes that are named compute in FP32, with their weights; all others have the type they had."""
    here = case(name)
    plain = here.lowered()
    chosen = [node.node for node in plain.nodes if node.operator in PATH_STARTS][::2]
    lowered = here.lowered(tuple(chosen))
    onnx.checker.check_model(lowered.model, full_check=True)
    assert lint_model(lowered.model) == []
    graph = typed(lowered.model)
    assert_coordinates(graph)
    assert_casts(graph)
    for node in graph:
        if is_op(node, *PATH_STARTS):
            wanted = SINGLE if node.name in chosen else HALF
            assert {value.dtype for value in (*node.inputs, *node.outputs) if value is not None} == {wanted}
    changed = {one.node for one, other in zip(plain.nodes, lowered.nodes, strict=True) if one.type != other.type}
    assert set(chosen) <= changed
    movers = {node.node for node in lowered.nodes if node.reason.startswith("moves")}
    assert changed <= set(chosen) | movers
    assert 0 < lowered.macs_low < 1


def test_every_node_as_an_island_is_fp32(case):
    """With all nodes in FP32 the file computes what the FP32 file computes, and has no FP16 tensor."""
    here = case(FIRST)
    lowered = here.lowered(tuple(node.name for node in here.prepared.model.graph))
    assert lowered.types == {"float32": sum(lowered.types.values())}
    assert {value.dtype for node in typed(lowered.model) for value in node.outputs} & {HALF} == set()
    assert error(here.model, lowered, here.feeds(64, 96)) < 1e-5


# The rules, one by one.


def decided(prepared: Prepared, islands: tuple[str, ...] = (), **options: Any) -> dict[str, tuple[str, str]]:
    """Node -> type and reason, of a lowered graph that is valid and whose types are the decided ones."""
    lowered = lower(prepared, LowerOptions(**options), islands)
    onnx.checker.check_model(lowered.model, full_check=True)
    graph = typed(lowered.model)
    assert_coordinates(graph)
    assert_casts(graph)
    return {node.node: (node.type, node.reason) for node in lowered.nodes}


def test_large_values_stay_fp32():
    """A tensor that reaches 20000 keeps its maker and its readers in FP32; all others, and all to 8188, are FP16."""
    body = (
        f"k = Constant <value_float = -8.0> () a = {CONV} (x, w) [before] b = Relu (a) [makes] c = Mul (b, k) "
        f"[reads] d = Tanh (c) [after] e = Neg (d) [second] f = {CONV} (e, v) y = Identity (f)"
    )
    model, cold = small(body, feeds=False)
    reach = calibrated(cold, [("feed", small_feeds(model))]).ranges["c"].largest
    for scale, hot in ((20000 / reach, True), (8200 / reach, True), (8180 / reach, False)):
        feeds = [("small", small_feeds(model)), ("large", small_feeds(model, scale))]
        prepared = calibrated(cold, feeds)
        assert calibrated(cold, feeds[::-1]).ranges == prepared.ranges
        found = decided(prepared)
        for node in ("makes", "reads"):
            reason = f"c reaches {prepared.ranges['c'].largest:.4g} on the calibration feeds; FP16 ends at 65504"
            assert (found[node] == ("float32", reason)) == hot
        assert {found[node][0] for node in ("before", "after", "second")} == {"float16"}
    assert {kind for kind, _ in decided(cold).values()} == {"float16"}
    wide = calibrated(cold, [("feed", small_feeds(model, 1e6 / reach))])
    assert error(model, lower(wide, LowerOptions()), small_feeds(model, 1e6 / reach)) < TOLERANCE


@pytest.mark.parametrize(
    ("node", "largest_side"),
    [
        ("GlobalAveragePool (a)", 40),
        ("ReduceMean <keepdims = 1> (a, axes)", 40),
        ("ReduceSum <keepdims = 1> (a, axes)", 40),
        ("ReduceL2 <keepdims = 1> (a, axes)", 20),
        ("InstanceNormalization (a, ones, ones)", 20),
        ("AveragePool <kernel_shape = [13, 13]> (a)", 90),
    ],
)
def test_sums_that_overflow_stay_fp32(node, largest_side):
    """Of side * side values to 3 in magnitude, or of their squares: a sum that may pass 8188 is FP32, others FP16."""
    body = (
        "axes = Constant <value_ints = [2, 3]> () ones = Constant <value_floats = [1.0, 1.0, 1.0]> () "
        "three = Constant <value_float = 3.0> () "
        f"c = {CONV} (x, w) b = Sin (c) a = Mul (b, three) [sum] s = {node} y = Conv <pads = [1,1,1,1]> (s, v)"
    )
    model = model_of(f"{kernel('w', 3, 3, 3, 3, scale=1)} {kernel('v', 3, 3, 3, 3)} {body}", IMAGE, OUT_ANY)
    for side in (20, 40, 90):
        feeds = {"x": np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32)}
        prepared = ready(model, feeds)
        assert max(known.largest for known in prepared.ranges.values()) < 1000
        kind, reason = decided(prepared)["sum"]
        assert (kind == "float16") == (side <= largest_side), (side, reason)
        if side > largest_side:
            assert reason.startswith("its sum may reach ")
            assert reason.endswith("; FP16 ends at 65504")


OUT_ANY = 'float["N",3,"h","w"] y'


def test_a_weight_of_a_million():
    """It is named, and the convolution that has it stays FP32; the other one is FP16, and the result is right."""
    model, _ = small(f"[hot] a = {CONV} (x, w) s = Sigmoid (a) [cold] y = {CONV} (s, v)", feeds=False)
    weights = next(node for node in model.graph.node if node.output[0] == "w").attribute[0].t
    values = numpy_helper.to_array(weights).copy()
    values[0, 0, 0, 0] = 1e6
    weights.CopyFrom(numpy_helper.from_array(values, "w"))
    prepared = ready(model, small_feeds(model, 1e-4))
    found = decided(prepared)
    assert found["hot"] == ("float32", "constant w does not fit float16: 1 values overflow")
    assert found["cold"][0] == "float16"
    lowered = lower(prepared, LowerOptions())
    assert lowered.notes == ("w (to 1e+06) does not fit float16: 1 values overflow; its readers stay FP32",)
    assert error(model, lowered, small_feeds(model, 1e-4)) < TOLERANCE
    stored = {tensor.name: tensor.data_type for tensor in lowered.model.graph.initializer}
    assert stored == {"w": TensorProto.FLOAT, "v": TensorProto.FLOAT16}
    assert 0 < lowered.macs_low < 1


def test_weights_that_vanish():
    """Those without weight in the norm are counted, and stay FP16; a kernel that would vanish whole stays FP32."""
    model, _ = small(f"[few] a = {CONV} (x, w) [all] y = {CONV} (a, v)", feeds=False)
    for node, count in ((model.graph.node[0], 5), (model.graph.node[1], 81)):
        tensor = node.attribute[0].t
        values = numpy_helper.to_array(tensor).copy()
        values.ravel()[:count] = 1e-9
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    prepared = ready(model, small_feeds(model))
    found = decided(prepared)
    assert found["few"][0] == "float16"
    assert found["all"] == ("float32", "constant v does not fit float16: it changes by 1")
    first, second = lower(prepared, LowerOptions()).notes
    assert first == "v (to 1e-09) does not fit float16: norm changes by 1; its readers stay FP32"
    assert second == "values so small that they become 0 in float16, without weight in the norm: w 5"


def test_the_type_that_a_weight_is_checked_for():
    """In a BF16 file transposed convolutions are FP16: their weights are held against FP16, the others against BF16."""
    body = f"[conv] a = {CONV} (x, w) [up] y = ConvTranspose <pads = [1,1,1,1]> (a, v)"
    model, _ = small(body, feeds=False)
    for node in model.graph.node[:2]:
        tensor = node.attribute[0].t
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1e7), tensor.name))
    prepared = ready(model, None, precision="bf16")
    found = decided(prepared, precision="bf16")
    assert found["conv"][0] == "bfloat16"
    assert found["up"][0] == "float32"
    assert "constant v does not fit float16: 7" in found["up"][1]


@pytest.mark.parametrize("fp32_tail", [True, False])
def test_tail(case, fp32_tail):
    """What stands behind the last convolution is FP32, or FP16 where that is asked for; samplers are FP32 always."""
    here = case(FIRST)
    lowered = here.lowered(fp32_tail=fp32_tail)
    kinds = {node.operator: node for node in lowered.nodes}
    assert (kinds["Sigmoid"].type == "float32") == fp32_tail
    assert ("behind the last convolution" in kinds["Sigmoid"].reason) == fp32_tail
    assert kinds["GridSample"].type == "float32"
    assert kinds["LeakyRelu"].type == "float16"
    assert_lowered(here.model, lowered)
    assert error(here.model, lowered, here.feeds(64, 96)) < TOLERANCE


def test_sizes_are_counted_exactly(case):
    """Shape, Cast, Mul, Floor, Cast to the sizes of Resize and Slice are FP32: 4099 pixels halve to 2049, not 2050."""
    body = (
        "s = Shape (x) at = Constant <value_ints = [3]> () zero = Constant <value_ints = [0]> () "
        f"half = Constant <value_floats = [0.5]> () c = {CONV} (x, w) [pick] n = Gather (s, at) "
        "[count] f = Cast <to = 1> (n) [half] h = Mul (f, half) [floor] l = Floor (h) [whole] i = Cast <to = 7> (l) "
        f"[cut] p = Slice (c, zero, i, at) y = {CONV} (p, v)"
    )
    model, prepared = small(body)
    found = decided(prepared)
    for node in ("count", "half", "floor", "whole"):
        assert found[node][0] == "float32"
    assert found["pick"][0] == "none"
    assert found["cut"][0] == "float16"
    feeds = small_feeds(model, 1.0, 4, 4099)
    with HalfRunner(lower(prepared, LowerOptions()).model.SerializeToString()) as runner:
        assert runner.run(feeds)["y"].shape == (1, 3, 4, 2049)

    here = case("foreign, computed sizes")
    graph = typed(here.lowered().model)
    resizes = [node for node in graph if is_op(node, "Resize")]
    paths = [value for node in resizes for value in upstream(node.inputs[3])]
    assert Counter(value.dtype for value in paths)[SINGLE] >= 8
    assert HALF not in {value.dtype for value in paths}


def test_range_stays_fp32():
    """A line of positions, made by Range in floats, is FP32, from sizes and from constants; what it is added to not."""
    line = (
        "s = Shape (x) at = Constant <value_int = 3> () n = Gather (s, at) width = Cast <to = 1> (n) "
        "zero = Constant <value_float = 0.0> () one = Constant <value_float = 1.0> () "
        "fixed = Constant <value_float = 24.0> ()"
    )
    for end in ("width", "fixed"):
        body = (
            f"{line} [line] r = Range (zero, {end}, one) [scaled] q = Div (r, width) c = {CONV} (x, w) "
            f"[sum] a = Add (c, q) y = {CONV} (a, v)"
        )
        model, prepared = small(body)
        found = decided(prepared)
        assert found["line"][0] == "float32"
        assert found["sum"][0] == "float16"
        if end == "width":
            assert found["scaled"][0] == "float32"
        assert error(model, lower(prepared, LowerOptions()), small_feeds(model)) < TOLERANCE


def test_constants_that_are_made_and_sizes_in_scales():
    """ConstantOfShape makes FP16 where that is read; a Resize is FP16 though its scales are FP32, as ONNX has them."""
    body = (
        "s = Shape (x) [ones] p = ConstantOfShape <value = float[1] {0.3}> (s) [zeros] q = ConstantOfShape (s) "
        "scales = Constant <value_floats = [1.0, 1.0, 2.0, 2.0]> () "
        f'[add] a = Add (x, p) b = Add (a, q) [resize] r = Resize <mode = "linear"> (b, , scales) y = {CONV} (r, v)'
    )
    model, prepared = small(body, out=OUT_ANY)
    found = decided(prepared)
    assert {found[node][0] for node in ("ones", "zeros", "add", "resize")} == {"float16"}
    lowered = lower(prepared, LowerOptions())
    assert {tensor.name: tensor.data_type for tensor in lowered.model.graph.initializer} == {
        "v": TensorProto.FLOAT16,
        "scales": TensorProto.FLOAT,
    }
    assert 0 < error(model, lowered, small_feeds(model)) < TOLERANCE


def test_only_pictures_are_fp16_inputs():
    """With io = fp16, factors, single numbers and what is called a timestep stay FP32."""
    inputs = (
        f'{IMAGE}, float[3,1,1] factor, float[1,1,1,1] gain, float["N",3,"H","W"] timestep, float["N",3,"H","W"] mvs'
    )
    body = f"a = Mul (x, factor) b = Mul (a, gain) c = Add (b, timestep) d = Add (c, mvs) y = {CONV} (d, w)"
    model, prepared = small(body, inputs)
    assert_lowered(model, lower(prepared, LowerOptions(io="fp16")), {"x", "mvs", "y"})


def test_movers():
    """FP32 data that an FP32 node reads later is not rounded on the way; FP16 data is moved as FP16."""
    cut = "a = Constant <value_ints = [0]> () b = Constant <value_ints = [3]> () k = Constant <value_ints = [1]> ()"
    body = (
        f"{cut} [image] i = Slice (x6, a, b, k) [turn] t = Transpose <perm = [0,1,2,3]> (i) [warp] s = {SAMPLE} (t, g) "
        f"[first] c = {CONV} (s, w) [flat] f = Concat <axis = 1> (c, c) [part] p = Slice (f, a, b, k) "
        f"[last] d = {CONV} (p, v) y = Sigmoid (d)"
    )
    _, prepared = small(body, f'float["N",6,"H","W"] x6, {GRID}')
    found = decided(prepared)
    for node in ("image", "turn"):
        assert found[node] == ("float32", "moves FP32 data that is not to be rounded yet")
    assert {found[node][0] for node in ("flat", "part", "first", "last")} == {"float16"}
    sample = next(node for node in typed(lower(prepared, LowerOptions()).model) if node.name == "warp")
    picture = upstream(sample.inputs[0])
    assert HALF not in {value.dtype for value in picture}
    found = decided(prepared, io="fp16")
    assert found["image"][0] == "float16"  # the input is FP16 by itself: nothing is rounded, fewer bytes are moved


def test_a_mask_is_no_size():
    """Comparisons read FP32, so that nothing is rounded before; their results, cast to numbers, are FP16: 0 or 1."""
    body = (
        f"z = Constant <value_float = 0.0> () c = {CONV} (x, w) [compare] b = Greater (c, z) "
        f"[number] m = Cast <to = 1> (b) [masked] p = Mul (c, m) y = {CONV} (p, v)"
    )
    found = decided(small(body)[1])
    assert [found[node][0] for node in ("compare", "number", "masked")] == ["float32", "float16", "float16"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("[odd] r = RandomNormal <shape = [1, 3, 1, 1]> ()", "RandomNormal makes FP32 values of its own"),
        ("[odd] r = HannWindow (three)", "HannWindow makes FP32 values of its own"),
        ("[odd] r = Celu (x)", "Celu of opset 18 takes no float16"),
        ("q = QuantizeLinear (x, step, zero) [odd] r = DequantizeLinear (q, step, zero)", "has scales of its own"),
    ],
)
def test_operators_without_an_fp16_form(body, words):
    """What makes floats of itself, has no FP16 form, or scales of its own stays FP32, and its reason says so."""
    constants = (
        "three = Constant <value_int = 3> () step = Constant <value_float = 0.02> () "
        "zero = Constant <value = int8 {0}> ()"
    )
    out = "float y" if "Hann" in body else OUT
    end = "y = ReduceMax <keepdims = 0> (r)" if "Hann" in body else f"m = Add (x, r) y = {CONV} (m, v)"
    _, prepared = small(f"{constants} {body} {end}", IMAGE, out, feeds=False)
    kind, reason = decided(prepared)["odd"]
    assert kind == "float32"
    assert words in reason


def typed_gelu(name: str = "") -> onnx.ModelProto:
    """An operator of ONNX Runtime's own domain behind a convolution; the file says what type it gives."""
    label = f"[{name}] " if name else ""
    nodes = f"c = {CONV} (x, w) {label}d = com.microsoft.Gelu (c) {kernel('v', 3, 3, 3, 3)} y = {CONV} (d, v)"
    model = model_of(f"{kernel('w', 3, 3, 3, 3)} {nodes}", IMAGE)
    model.graph.value_info.append(helper.make_tensor_value_info("d", TensorProto.FLOAT, ["N", 3, "H", "W"]))
    return model


@pytest.mark.parametrize("name", ["", "gelu"])
def test_custom_operators_stay_fp32(name):
    """An operator of another domain gets and gives FP32; the lint names it in both files: no fault of ours."""
    model = typed_gelu(name)
    prepared = ready(model, small_feeds(model))
    lowered = lower(prepared, LowerOptions())
    reasons = {node.operator: (node.type, node.reason) for node in lowered.nodes}
    assert reasons["Gelu"] == ("float32", "custom operator com.microsoft.Gelu: which types it takes is not known")
    assert reasons["Conv"][0] == "float16"
    inherited = check_lowered(lowered, ir.to_proto(prepared.model))
    assert len(inherited) == 1
    assert "(custom-op), as in the FP32 file" in inherited[0]
    assert inherited[0].startswith(name or "Gelu_1")


def test_faults_of_the_file_are_passed_on():
    """A GridSample without align_corners was wrong before; a nameless one is called after its operator."""
    model = model_of(f'{kernel("w", 3, 3, 3, 3)} c = {CONV} (x, w) y = GridSample <padding_mode="border"> (c, g)')
    prepared = ready(model, small_grid_feeds(), without_warp=False)
    lowered = lower(prepared, LowerOptions())
    inherited = check_lowered(lowered, ir.to_proto(prepared.model))
    assert inherited == ("GridSample_1: align_corners is 0; expected 1 (gridsample-corners), as in the FP32 file",)
    with pytest.raises(InternalError, match="does not pass our own lint"):
        check_lowered(lowered)


def small_grid_feeds() -> Arrays:
    random = np.random.default_rng(0)
    image = random.random((1, 3, 16, 24)).astype(np.float32)
    return {"x": image, "g": random.uniform(-1.1, 1.1, (1, 16, 24, 2)).astype(np.float32)}


@pytest.mark.parametrize("build", [grid_input_model, function_model], ids=["input", "function"])
@pytest.mark.parametrize("opset", OPSETS)
def test_grid_as_an_input(build, opset):
    """A grid that comes in stays FP32, with io = fp16 too; the warps of a model-local function are found."""
    model = build(opset)
    prepared = ready(model, small_grid_feeds(), without_warp=False)
    for io, half in (("fp32", set()), ("fp16", {"x", "y"})):
        lowered = lower(prepared, LowerOptions(io=io))
        assert_lowered(model, lowered, half)
        assert sum(node.operator == "GridSample" for node in lowered.nodes) == 2
        rounded = small_grid_feeds()
        rounded["x"] = rounded["x"].astype(np.float16).astype(np.float32)
        assert error(model, lowered, rounded) < TOLERANCE


@pytest.mark.parametrize("as_inputs", [False, True])
def test_constants_may_be_initializers(case, as_inputs):
    """Initializers in the place of Constant nodes give the same file; those that are inputs too are inputs no more."""
    here = case(FIRST)
    model = with_initializers(here.model, as_inputs=as_inputs)
    prepared = ready(model, here.feeds(64, 96), without_warp=False)
    lowered = lower(prepared, LowerOptions())
    assert_lowered(model, lowered)
    assert [value.name for value in lowered.model.graph.input] == ["img0", "img1", "timestep"]
    types = Counter(node.type for node in lowered.nodes)
    assert types == Counter(node.type for node in here.lowered().nodes)


def test_without_a_warp():
    """A graph that samples nothing is refused until that is said; then it is lowered like any other."""
    model = plain_model()
    with pytest.raises(GraphError, match="no GridSample and no Gather by computed positions.*--without-warp"):
        ready(model, None, without_warp=False)
    lowered = lower(ready(model, small_feeds(model)), LowerOptions())
    assert lowered.types == {"float16": 3}
    assert_lowered(model, lowered)


def test_outputs_of_one_value():
    """Two outputs that are one value keep both names; an output that is an input, or is cast to FP32 at last, too."""
    body = f"c = {CONV} (x, w) y = Identity (c) z = Identity (c) [up] u = Cast <to = 1> (c) t = Identity (x)"
    out = ", ".join(f'float["N",3,"H","W"] {name}' for name in "yzut")
    model, prepared = small(body, IMAGE, out)
    for options in ({}, {"fp32_tail": False}, {"io": "fp16"}, {"fp32_tail": False, "io": "fp16"}):
        lowered = lower(prepared, LowerOptions(**options))
        assert_lowered(model, lowered, set("xyzut") if "io" in options else set())
        assert error(model, lowered, small_feeds(model)) < TOLERANCE


def test_names_that_are_taken():
    """Names of new tensors give way to those that the file has already."""
    body = f"a = {CONV} (x, w) b = Relu (x) c = Add (a, b) d = Mul (c, v2) y = {CONV} (d, v)"
    model, _ = small(body, f"{IMAGE}, float[3,1,1] v2", feeds=False)
    taken = {"b": "x/float16", "v2": "w/float16", "d": "c/float"}
    for node in model.graph.node:
        node.input[:] = [taken.get(name, name) for name in node.input]
        node.output[:] = [taken.get(name, name) for name in node.output]
    model.graph.input[1].name = taken["v2"]
    prepared = ready(model, small_feeds(model))
    for islands in ((), (prepared.model.graph[0].name,), (prepared.model.graph[1].name,)):
        lowered = lower(prepared, LowerOptions(), islands)
        onnx.checker.check_model(lowered.model, full_check=True)
        assert error(model, lowered, small_feeds(model)) < TOLERANCE


@pytest.mark.parametrize("place", [(0, 0, 0, 0), (0, 1, 7, 11), (0, 2, 15, 23)])
def test_calibration_finds_a_nan_anywhere(place):
    """One NaN in one tensor, wherever it stands, is found: the maximum of ONNX Runtime passes over it."""
    bounds = "z = Constant <value_float = 0.0> () o = Constant <value_float = 1.0> ()"
    model, prepared = small(f"{bounds} r = Sqrt (x) c = Clip (r, z, o) y = {CONV} (c, w)", feeds=False)
    feeds = small_feeds(model)
    calibrated(prepared, [("good", feeds)])
    feeds["x"][place] = -1
    with pytest.raises(RequestError, match="becomes NaN or infinite in FP32 on the feed bad"):
        calibrated(prepared, [("bad", feeds)])


# BF16, and samplers written out.


@pytest.mark.parametrize("name", ["refine", "foreign, opset 16", "foreign, GatherND", "foreign, opset 22"])
def test_bf16(case, name):
    """Opset 22; convolutions BF16, transposed ones FP16; lint finds nothing; strict BF16 is near FP32."""
    here = case(name)
    prepared = ready(here.model, here.feeds(64, 96), precision="bf16")
    lowered = lower(prepared, LowerOptions(precision="bf16"))
    onnx.checker.check_model(lowered.model, full_check=True)
    assert lint_model(lowered.model) == []
    assert [entry.version for entry in lowered.model.opset_import if entry.domain == ""] == [22]
    graph = typed(lowered.model)
    assert_convolutions(graph, ir.DataType.BFLOAT16)
    assert_casts(graph)
    for grid in grids(graph).values():
        rounded = [value for value in upstream(grid) if value.dtype in (HALF, ir.DataType.BFLOAT16)]
        assert all(is_op(value.producer(), *PATH_STARTS) for value in rounded)
    reasons = {node.operator: node.reason for node in lowered.nodes}
    assert reasons["ConvTranspose"] == "TensorRT has no BF16 transposed convolution: FP16"
    assert {node.type for node in lowered.nodes} == {"bfloat16", "float16", "float32", "none"}
    assert 0 < error(here.model, lowered, here.feeds(64, 96)) < 10 * TOLERANCE
    assert check_lowered(lowered, here.model) == ()


@pytest.mark.parametrize("name", ["refine", "foreign, opset 20"])
def test_gather(case, name):
    """No GridSample is left; indices and weights are FP32, features FP16; strict FP16 is near FP32."""
    here = case(name)
    prepared = ready(here.model, here.feeds(64, 96), gridsample="gather")
    lowered = lower(prepared, LowerOptions(gridsample="gather"))
    assert_lowered(here.model, lowered)
    graph = typed(lowered.model)
    gathers = [node for node in graph if is_op(node, "GatherND")]
    assert gathers
    assert not [node for node in graph if is_op(node, "GridSample")]
    assert HALF in {node.inputs[0].dtype for node in gathers}
    assert set(grids(graph)) >= set(gathers)
    for node in graph:
        if is_op(node, "Floor", "Ceil", "Clip", "Split") or (node.name or "").endswith(("_fraction", "_position")):
            assert {value.dtype for value in (*node.inputs, *node.outputs)} - {ir.DataType.INT64} == {SINGLE}, node
    assert error(here.model, lowered, here.feeds(64, 96)) < TOLERANCE


@pytest.mark.parametrize("name", ["refine", "foreign, opset 22"])
def test_gather_alone(case, name):
    """Precision = fp32 changes the samplers and nothing else: the same result within 1e-5, every type FP32."""
    here = case(name)
    options = {"precision": "fp32", "gridsample": "gather"}
    lowered = lower(ready(here.model, None, **options), LowerOptions(**options))
    onnx.checker.check_model(lowered.model, full_check=True)
    assert lint_model(lowered.model) == []
    assert {node.reason for node in lowered.nodes} == {"asked for"}
    assert not any(node.op_type == "GridSample" for node in lowered.model.graph.node)
    assert error(here.model, lowered, here.feeds(64, 96)) < 1e-5


@pytest.mark.parametrize("warp", ["gather_elements", "gather_nd"])
def test_written_out_samplers_of_others(case, warp):
    """Warps that a foreign tool wrote out are found: indices, weights and their arithmetic are FP32, pixels FP16."""
    here = case({"gather_elements": "foreign, GatherElements", "gather_nd": "foreign, GatherND"}[warp])
    lowered = here.lowered()
    reasons = Counter(node.reason.split(" of ")[0] for node in lowered.nodes)
    assert reasons["coordinates"] > 50
    assert reasons["interpolation weights"] > 10
    graph = typed(lowered.model)
    gathers = [node for node in graph if is_op(node, "GatherElements", "GatherND")]
    assert len(gathers) == 24
    assert HALF in {node.outputs[0].dtype for node in gathers}
    floors = [node for node in graph if is_op(node, "Floor", "Min", "Max")]
    assert {node.outputs[0].dtype for node in floors} == {SINGLE}
    for node in floors:
        for reader, _ in node.outputs[0].uses():  # the fractions and what they are made of
            assert reader.outputs[0].dtype in (SINGLE, ir.DataType.INT64), reader


# Each check has been seen to fail.


def spoiled(monkeypatch: pytest.MonkeyPatch, rule: str, here: Case) -> Lowered:
    """Lowered without one of the rules."""
    monkeypatch.setattr(precision, rule, lambda *_: iter(()))
    return here.lowered()


@pytest.mark.parametrize("name", ["refine", FIRST, "foreign, GatherElements", "foreign, GatherND"])
def test_fp16_coordinates_are_caught(monkeypatch, case, name):
    """Without rules 1 and 2 coordinates are FP16: the lint says so, of native and written-out samplers alike."""
    here = case(name)
    lowered = spoiled(monkeypatch, "_coordinates", here)
    with pytest.raises(AssertionError):
        assert_coordinates(typed(lowered.model))
    assert "fp16-coordinates" in {finding.rule for finding in lint_model(lowered.model)}
    with pytest.raises(InternalError, match="does not pass our own lint: .* its grid is computed with"):
        check_lowered(lowered, here.model)


def test_fp16_coordinates_move_the_picture(monkeypatch):
    """What the rule is for: with FP16 coordinates the error of a warp at W = 2048 is more than ten times as large."""
    body = f"[turn] g = Transpose <perm = [0,2,3,1]> (flow) [warp] s = {SAMPLE} (x, g) y = {CONV} (s, w)"
    model, prepared = small(body, f'{IMAGE}, float["N",2,"H","W"] flow', feeds=False)
    y, x = np.meshgrid(np.linspace(-0.9, 0.9, 8), np.linspace(-0.9, 0.9, 2048), indexing="ij")
    picture = np.stack([0.5 + 0.5 * np.sin(np.arange(2048) * k) for k in (0.7, 0.8, 0.9)])
    picture = np.repeat(picture[None, :, None], 8, axis=2)
    feeds = {"x": picture.astype(np.float32), "flow": np.stack([x, y])[None].astype(np.float32)}
    good = error(model, lower(prepared, LowerOptions()), feeds)
    monkeypatch.setattr(precision, "_coordinates", lambda *_: iter(()))
    bad = error(model, lower(prepared, LowerOptions()), feeds)
    assert 10 * good < bad


def test_other_rules_are_needed(monkeypatch, case):
    """Without rules 3 and 6 the graph is no valid ONNX, or sizes are FP16; without rule 4 the result is infinite."""
    monkeypatch.setattr(precision, "_coordinates", lambda *_: iter(()))
    lowered = spoiled(monkeypatch, "_exact_by_kind", case("foreign, computed sizes"))
    graph = typed(lowered.model)
    sizes = [value for node in graph if is_op(node, "Resize") for value in upstream(node.inputs[3])]
    assert HALF in {value.dtype for value in sizes}
    body = f"k = Constant <value_float = 30000.0> () a = Add (x, k) b = Mul (a, a) c = Div (b, b) y = {CONV} (c, w)"
    model, prepared = small(body)
    assert error(model, lower(prepared, LowerOptions()), small_feeds(model)) < TOLERANCE
    monkeypatch.setattr(precision, "_out_of_range", lambda *_: iter(()))
    assert not np.isfinite(error(model, lower(prepared, LowerOptions()), small_feeds(model)))


BAD = {
    "twice": "a = Cast <to = 10> (x) b = Cast <to = 10> (x) c = Add (a, b) y = Cast <to = 1> (c)",
    "a constant": "a = Cast <to = 10> (i) b = Cast <to = 10> (x) c = Add (a, b) y = Cast <to = 1> (c)",
    "casts a cast": "a = Cast <to = 10> (x) y = Cast <to = 1> (a)",
    "changes nothing": "a = Cast <to = 1> (x) y = Relu (a)",
    "not used": "a = Relu (x) y = Neg (x)",
}


@pytest.mark.parametrize("words", BAD)
def test_the_check_of_casts_fails(words):
    """Each fault of the casts is found by the check that the graphs above pass."""
    model = model_of(BAD[words], IMAGE)
    if words == "a constant":
        model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "i"))
    with pytest.raises(AssertionError, match=words):
        assert_casts(typed(model))


def test_the_other_checks_fail(case):
    """FP32 convolutions, an FP16 GridSample, a renamed input and a changed type are found."""
    here = case(FIRST)
    with pytest.raises(AssertionError):
        assert_convolutions(typed(here.model))
    half = "h = Cast <to = 10> (x) i = Cast <to = 10> (g)"
    sampled = model_of(f"{half} s = {SAMPLE} (h, i) y = Cast <to = 1> (s)")
    with pytest.raises(AssertionError):
        assert_coordinates(typed(sampled))
    lowered = here.lowered(io="fp16").model
    with pytest.raises(AssertionError):
        assert_inputs_and_outputs(here.model, lowered, set())
    lowered.graph.input[0].name = "other"
    with pytest.raises(AssertionError):
        assert_inputs_and_outputs(here.model, lowered, {"img0", "img1", "output"})


# Any graph.


@st.composite
def graphs(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Nodes in ONNX text over pictures [1, 3, H, W], ending in `y`; and the names of the nodes."""
    values, nodes = ["x", "x"], []
    for k in range(draw(st.integers(1, 9))):
        one, other = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        kind = draw(
            st.sampled_from(
                [
                    f"{CONV} ({one}, w)",
                    f"{CONV} ({one}, v)",
                    f"Relu ({one})",
                    f"Sigmoid ({one})",
                    f"Add ({one}, {other})",
                    f"Mul ({one}, k)",
                    f"Identity ({one})",
                    f"Cast <to = 1> ({one})",
                    f"Slice ({one}, lo, hi, ax)",
                    f"Transpose <perm = [0,1,2,3]> ({one})",
                    f"{SAMPLE} ({one}, g)",
                    f"{SAMPLE} ({one}, grid)",
                    f"ConvTranspose <pads = [1,1,1,1]> ({one}, w)",
                ]
            )
        )
        if "grid" in kind:  # a grid that the picture is the offset of
            nodes.append(f"[s{k}] s{k} = Slice ({other}, zero, two, one)")
            nodes.append(f"[t{k}] t{k} = Transpose <perm = [0,2,3,1]> (s{k}) [g{k}] g{k} = Add (t{k}, g)")
            kind = kind.replace("grid", f"g{k}")
        nodes.append(f"[n{k}] v{k} = {kind}")
        values.append(f"v{k}")
    for k, value in enumerate(values[2:]):  # all of them count
        nodes.append(f"[m{k}] a{k} = Add ({f'a{k - 1}' if k else 'x'}, {value})")
    names = [f"{letter}{k}" for k in range(len(values) - 2) for letter in "nm"]
    return f"{' '.join(nodes)} y = Identity (a{len(values) - 3})", names


CONSTANTS = (
    "lo = Constant <value_ints = [0]> () hi = Constant <value_ints = [16]> () ax = Constant <value_ints = [2]> () "
    "zero = Constant <value_ints = [0]> () two = Constant <value_ints = [2]> () one = Constant <value_ints = [1]> () "
    "k = Constant <value_float = 0.3> ()"
)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(graphs(), st.booleans(), st.sampled_from(["fp32", "fp16"]), st.data())
def test_any_graph(drawn, fp32_tail, io, data):
    """Of any graph, with any tail, inputs and islands: valid, coordinates FP32, casts few, near FP32."""
    body, names = drawn
    islands = tuple(data.draw(st.lists(st.sampled_from(names), max_size=3)))
    model, cold = small(f"{CONSTANTS} {body}", f"{IMAGE}, {GRID}", feeds=False)
    feeds = small_grid_feeds()
    prepared = calibrated(cold, [("feed", feeds)])
    lowered = lower(prepared, LowerOptions(fp32_tail=fp32_tail, io=io), islands)
    onnx.checker.check_model(lowered.model, full_check=True)
    graph = typed(lowered.model)
    assert_coordinates(graph)
    assert_casts(graph)
    values = (*lowered.model.graph.input, *lowered.model.graph.output)
    half = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT16}
    assert half <= ({"x", "y", "g"} if io == "fp16" else set())
    assert "g" not in half or not grids(graph)
    assert_inputs_and_outputs(model, lowered.model, half)
    types = {node.node: node.type for node in lowered.nodes}
    assert {types.get(name, "float32") for name in islands} <= {"float32"}
    if "x" in half:
        feeds["x"] = feeds["x"].astype(np.float16).astype(np.float32)
    assert error(model, lowered, feeds) < 10 * TOLERANCE
