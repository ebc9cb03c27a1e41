"""A lowered graph, ours or foreign, is valid, samples where the FP32 graph samples, and is near it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from refine_export.data.feeds import feeds_for
from refine_export.errors import InternalError
from refine_export.export.reference_network import signature_of_network
from refine_export.graph import precision_rule
from refine_export.graph.linter import lint_model
from refine_export.graph.operator_types import is_op
from refine_export.graph.sampling_coordinates import PATH_STARTS, grids, upstream
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import calibrated, check_lowered, lower, prepare_model
from refine_export.runners.onnxruntime import OrtRunner
from tests.support.lowering_cases import (
    FIRST,
    FOREIGN,
    TOLERANCE,
    Arrays,
    Case,
    error,
    foreign_case,
    outputs,
    ready,
)
from tests.support.lowering_checks import (
    HALF,
    SINGLE,
    assert_casts,
    assert_convolutions,
    assert_coordinates,
    assert_lowered,
    typed,
)

GRAPHS = ["contextnet", "unet", "refine", pytest.param("interpolator", marks=pytest.mark.slow), *FOREIGN]


@pytest.fixture(scope="module")
def case(references, pair_at, exports) -> Callable[[str], Case]:
    known: dict[str, Case] = {}

    def ours(name: Any) -> Case:
        architecture = "IFNet_m" if name == "interpolator" else "IFNet"
        size = None if name == "contextnet" else "64x96"  # a dynamic export takes twice the time
        model = onnx.load(exports.fp32(name, architecture=architecture, size=size))
        copy = onnx.ModelProto.FromString(model.SerializeToString())
        reference = references(architecture)
        signature = signature_of_network(reference, name)
        prepared = prepare_model(ir.from_proto(copy), LowerOptions(), signature)

        def feeds(height: int, width: int) -> Arrays:
            return next(feeds_for(reference, signature, pair_at(height, width), kinds=("large",))).inputs

        return Case(model, calibrated(prepared, [("large", feeds(64, 96))]), feeds, size is None)

    def get(name: str) -> Case:
        if name in FOREIGN:
            return foreign_case(name)
        if name not in known:
            known[name] = ours(name)
        return known[name]

    return get


@pytest.mark.parametrize("name", GRAPHS)
def test_graph(case, name):
    """Valid, coordinates FP32, convolutions FP16, few casts; strict FP16 is near FP32 at another size too.

    Weights of convolutions are FP16 constants under their own names, rounded to nearest; no name is new.
    """
    here = case(name)
    lowered = here.lowered()
    assert_lowered(here.model, lowered)
    assert [node.node for node in lowered.nodes] == [node.name for node in here.prepared.model.graph]
    assert lowered.macs_low == 1.0
    assert check_lowered(lowered) is not None

    before, after = here.prepared.model.graph.initializers, typed(lowered.model).initializers
    convolutions = [node for node in here.prepared.model.graph if is_op(node, "Conv", "ConvTranspose")]
    for value in (value for node in convolutions for value in node.inputs[1:]):
        stored = after[value.name].const_value
        assert stored.dtype == HALF
        assert np.array_equal(stored.numpy(), before[value.name].const_value.numpy().astype(np.float16))
    assert {name.removesuffix("/float16") for name in after} <= set(before)
    source = {tensor.name for tensor in here.model.graph.initializer}
    source |= {node.output[0] for node in here.model.graph.node if node.op_type == "Constant"}
    assert set(before) <= source

    sizes = [(64, 96), (96, 64)] if here.dynamic else [(64, 96)]
    assert 0 < error(here.model, lowered, *(here.feeds(*size) for size in sizes)) < TOLERANCE
    with OrtRunner(lowered.model.SerializeToString()) as plain:
        results = outputs(plain, here.feeds(64, 96))
        assert all(np.isfinite(array).all() for array in results.values())


@pytest.mark.parametrize(
    ("name", "half"),
    [
        ("refine", {"img0", "img1", "warped_img0", "warped_img1", "mask", "residual"}),
        ("contextnet", {"image", "f1", "f2", "f3", "f4"}),
        pytest.param("interpolator", {"img0", "img1", "frame"}, marks=pytest.mark.slow),
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


def test_prepared_is_not_modified(case):
    """Lowering again, with other islands and types, leaves the FP32 graph as it was, and gives the same bytes."""
    here = case(FIRST)
    before = ir.to_proto(here.prepared.model).SerializeToString(deterministic=True)
    low = tuple(node.node for node in here.lowered().nodes if node.type == "float16")
    first = here.lowered().model.SerializeToString(deterministic=True)
    for islands, options in (((low[0],), {}), (low, {}), (low[::2], {"fp32_tail": False}), ((), {"io": "fp16"})):
        here.lowered(islands, **options)
    here.lowered(precision="fp32")
    assert ir.to_proto(here.prepared.model).SerializeToString(deterministic=True) == before
    again = ready(here.model, here.feeds(64, 96), without_warp=False)
    for prepared in (here.prepared, again):
        assert lower(prepared, LowerOptions()).model.SerializeToString(deterministic=True) == first


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
    movers = {node.node for node in lowered.nodes if node.rule == "mover"}
    assert changed <= set(chosen) | movers
    assert 0 < lowered.macs_low < 1


def test_every_node_as_an_island_is_fp32(case):
    """With all nodes in FP32 the file computes what the FP32 file computes, and has no FP16 tensor."""
    here = case(FIRST)
    lowered = here.lowered(tuple(node.name for node in here.prepared.model.graph))
    assert lowered.types == {"float32": sum(lowered.types.values())}
    assert {value.dtype for node in typed(lowered.model) for value in node.outputs} & {HALF} == set()
    assert error(here.model, lowered, here.feeds(64, 96)) < 1e-5


@pytest.mark.parametrize("name", ["refine", "foreign, opset 16", "foreign, Gather", "foreign, opset 22"])
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
    assert {node.type for node in lowered.nodes if node.operator == "ConvTranspose"} == {"float16"}
    assert {"bfloat16", "float16", "float32"} <= {node.type for node in lowered.nodes}
    assert 0 < error(here.model, lowered, here.feeds(64, 96)) < 10 * TOLERANCE
    assert check_lowered(lowered, here.model) == ()


@pytest.mark.parametrize("name", ["refine", "foreign, opset 22"])
def test_gather(case, name):
    """No GridSample is left; indices and weights are FP32, features FP16; strict FP16 is near FP32."""
    here = case(name)
    prepared = ready(here.model, here.feeds(64, 96), gridsample="gather")
    lowered = lower(prepared, LowerOptions(gridsample="gather"))
    assert_lowered(here.model, lowered)
    graph = typed(lowered.model)
    gathers = [node for node in graph if is_op(node, "GatherElements")]
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
    assert {(node.type, node.rule) for node in lowered.nodes} == {("float32", "requested")}
    assert not any(node.op_type == "GridSample" for node in lowered.model.graph.node)
    assert error(here.model, lowered, here.feeds(64, 96)) < 1e-5


@pytest.mark.parametrize("name", ["refine", FIRST, "foreign, GatherElements", "foreign, Gather"])
def test_fp16_coordinates_are_caught(monkeypatch, case, name):
    """Without rules 1 and 2 coordinates are FP16: the lint says so, of native and written-out samplers alike."""
    here = case(name)
    monkeypatch.setattr(precision_rule, "_coordinates", lambda *_: iter(()))
    lowered = here.lowered()
    with pytest.raises(AssertionError):
        assert_coordinates(typed(lowered.model))
    assert "fp16-coordinates" in {finding.rule for finding in lint_model(lowered.model)}
    with pytest.raises(InternalError) as failed:
        check_lowered(lowered, here.model)
    assert failed.value.fields["rule"] == "fp16-coordinates"
