"""Any graph, with any tail, inputs and islands, is lowered to a valid one that is near FP32."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from refine_export.graph.sampling_coordinates import grids
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import calibrated, lower
from tests.support.foreign import CONV, GRID, IMAGE, SAMPLE
from tests.support.lowering_cases import TOLERANCE, error, small, small_grid_feeds
from tests.support.lowering_checks import assert_casts, assert_coordinates, assert_inputs_and_outputs, typed


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
    """Any graph, with any tail, inputs and islands: valid, coordinates FP32, casts few, near FP32."""
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
