"""Multiply-adds and bytes, counted by hand."""

import onnx_ir as ir

from refine_export.graph.cost import bytes_moved, multiply_adds
from refine_export.graph.prepare import prepare
from tests.support.foreign import kernel, model_of


def test_multiply_adds_and_bytes():
    """Outputs times kernel times input channels of a group; inputs for a transposed convolution."""
    nodes = (
        f"{kernel('w', 8, 4, 3, 3)} {kernel('g', 8, 2, 5, 5)} {kernel('t', 8, 6, 4, 4)} {kernel('m', 5, 7)} "
        "a = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w) b = Conv <group = 4, pads = [2, 2, 2, 2]> (a, g) "
        "c = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1]> (b, t) d = MatMul (n, m) "
        "e = Gemm <transA = 1> (n2, m) y = Relu (c)"
    )
    outputs = "float[1,6,16,24] y, float[2,3,7] d, float[3,7] e"
    model = model_of(nodes, "float[1,4,16,24] x, float[2,3,5] n, float[5,3] n2", outputs)
    graph = prepare(ir.from_proto(model)).graph
    assert multiply_adds(graph, {}) == {
        "Conv_1": 8 * 8 * 12 * 9 * 4,
        "Conv_2": 8 * 8 * 12 * 25 * 2,
        "ConvTranspose_1": 8 * 8 * 12 * 16 * 6,
        "MatMul_1": 2 * 3 * 7 * 5,
        "Gemm_1": 3 * 7 * 5,
    }
    moved = bytes_moved(graph, {})
    assert moved["Relu_1"] == 4 * 2 * 6 * 16 * 24
    assert moved["MatMul_1"] == 4 * (2 * 3 * 5 + 5 * 7 + 2 * 3 * 7)
