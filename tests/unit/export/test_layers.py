"""What TensorRT makes of the exported graphs: no layer that computes a shape in a static file, and no more than known.

The figures are of TensorRT for RTX 1.7, FP32 files; docs/performance.md has the totals.
"""

import importlib.util
from collections import Counter

import pytest

from refine_export.engine.bindings import Log, builder_of, load_library
from refine_export.engine.parse_network import network_from_onnx

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed: pip install tensorrt-rtx"
)
COMPUTE = {
    *("ACTIVATION", "CONCATENATION", "CONSTANT", "CONVOLUTION", "DECONVOLUTION", "ELEMENTWISE", "GRID_SAMPLE"),
    *("PARAMETRIC_RELU", "RESIZE", "SHUFFLE", "SLICE"),
}


def layers_of(path):
    library = load_library("rtx")
    log = Log(library.module)
    network = network_from_onnx(library.module, builder_of(library.module, log), log, path.read_bytes()).network
    return [network.get_layer(index) for index in range(network.num_layers)]


@pytest.mark.parametrize(
    ("graph", "size", "most"),
    [
        ("contextnet", "64x96", 85),
        ("contextnet", None, 293),
        ("refine", "64x96", 193),
        ("refine", None, 446),
        pytest.param("interpolator", "64x96", 385, marks=pytest.mark.slow),
        pytest.param("interpolator", None, 751, marks=pytest.mark.slow),
    ],
)
def test_layers(exports, graph, size, most):
    layers = layers_of(exports.fp32(graph, size=size))
    kinds = Counter(layer.type.name for layer in layers)
    assert len(layers) <= most, kinds
    if size is not None:
        assert set(kinds) <= COMPUTE
        assert not [layer.name for layer in layers if "Shape" in layer.name]
        # a SHUFFLE moves the two channels of a grid to its last axis, and nothing else
        assert kinds["SHUFFLE"] == kinds["GRID_SAMPLE"]
