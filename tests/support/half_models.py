"""Models and values of 16 bits for the tests of the strict FP16 runner."""

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from refine_export.graph.fp16_emulation import emulation_from_half
from refine_export.runners.strict_fp16 import HalfRunner
from tests.support import foreign

TYPES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
CODES = {"float16": 10, "bfloat16": 16}


def model_of(body, inputs="float16[n] x", outputs="float16[n] y", opset=22, rest="", **constants):
    """Nodes in ONNX text -> serialised model; `rest` follows the graph (functions)."""
    return foreign.model_of(body, inputs, outputs, opset, rest, **constants).SerializeToString()


def computed(model, runner=HalfRunner, how=None, **feeds):
    """Run a model of one output."""
    with runner(model, **(how or {})) as opened:
        (output,) = opened.run(feeds).values()
    return output


@pytest.fixture(autouse=True)
def quiet_numpy():
    """Overflow and NaN are what is tested."""
    with np.errstate(all="ignore"):
        yield


def assert_same(given, expected):
    """Bit by bit, signed zeros and infinities included; any NaN is NaN."""
    assert given.dtype == expected.dtype
    bits = np.dtype(f"u{given.itemsize}")
    same = (given.view(bits) == expected.view(bits)) | (np.isnan(given) & np.isnan(expected))
    assert same.all(), f"{(~same).sum()} of {same.size} differ: {given[~same][:4]}, not {expected[~same][:4]}"


def patterns(name, seed, count=2**16):
    """All values of a type of 16 bits, shuffled, as often as `count` takes."""
    bits = np.resize(np.arange(2**16, dtype=np.uint16), count)
    return np.random.default_rng(seed).permutation(bits).view(TYPES[name])


def operators(model):
    """Return the operators of the emulation."""
    return [node.op_type for node in emulation_from_half(ir.from_proto(onnx.load_from_string(model))).graph]
