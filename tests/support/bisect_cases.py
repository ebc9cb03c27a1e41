"""Small graphs for the tests of bisect, and what a bisection of a known-bad file has to find."""

import numpy as np
import onnx_ir as ir

from refine_export.bisect.bisection import Side, bisect
from refine_export.bisect.intermediate_tensors import inspectable_model
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import calibrated, lower, prepare_model
from refine_export.signature import signature_of
from tests.support import foreign

X = np.linspace(0.1, 0.9, 48, dtype=np.float32).reshape(1, 3, 4, 4)
FLOWS = {"x": X, "flow": np.linspace(-2.9, 2.9, 32, dtype=np.float32).reshape(1, 4, 4, 2)}
FORMS = {
    "fp32": ({"precision": "fp32"}, "onnxruntime-cpu"),
    "fp16": ({}, "half"),
    "fp16 in FP32 arithmetic": ({}, "onnxruntime-cpu"),
    "fp16, gather": ({"gridsample": "gather"}, "half"),
}


def model_of(body, inputs="float[1,3,4,4] x", output="float[1,3,4,4] y", **constants):
    arrays = {name: np.asarray(value, np.float32) for name, value in constants.items()}
    return foreign.model_of(body, inputs, output, **arrays)


def sampling_model(mode="bilinear", *, half=False):
    """A GridSample of `x` at `flow` times a constant; with `half`, the flow is rounded to FP16 before."""
    rounding = "[h] low = Cast <to=10> (flow) [s] rounded = Cast <to=1> (low)" if half else ""
    flow = "rounded" if half else "flow"
    sample = f'GridSample <mode="{mode}", padding_mode="border", align_corners=1> (x, g)'
    body = f"{rounding} [half] g = Mul ({flow}, k) [sample] y = {sample}"
    return model_of(body, "float[1,3,4,4] x, float[1,4,4,2] flow", k=0.37)


def bisected(good, bad, feeds, runtime="onnxruntime-cpu", **options):
    sides = (
        Side(inspectable_model(good), "onnxruntime-cpu", "good"),
        Side(inspectable_model(bad), runtime, "bad"),
    )
    return bisect(*sides, [(f"feed {k}", feed) for k, feed in enumerate(feeds)], **options)


def lowered(model, graph, feeds, form):
    """A model in one of `FORMS`, and the runtime that computes it."""
    options, runtime = FORMS[form]
    chosen = LowerOptions(**options)
    prepared = prepare_model(ir.from_proto(model), chosen, signature_of(graph, timestep=True))
    return lower(calibrated(prepared, [("feed", feed) for feed in feeds]), chosen).model, runtime


def check_found(good, mutant, result):
    """The first jump is at a node that was changed, and so is every jump; the mutant's own first node is at one.

    Where a fault is in two branches, the two files may have another one first.
    """
    known = {node.name: node.SerializeToString() for node in good.graph.node}
    changed = {node.name for node in mutant.model.graph.node if node.SerializeToString() != known.get(node.name)}
    assert result.first is not None, mutant.name
    for jump in result.jumps:
        assert changed & set(jump.candidate), f"{mutant.name}: {jump.layer}"
        assert jump.reasons, f"{mutant.name}: {jump.layer}"
    if mutant.name != "fp16-coordinates":  # which rounds many tensors, the first of them to what it was
        assert any(mutant.first_bad_node in jump.candidate for jump in result.jumps), mutant.name
