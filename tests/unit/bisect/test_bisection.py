"""Where two graphs part: the first node that makes an error of its own, and none that only passes one on."""

import json
import math

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from refine_export.data.feeds import feeds_for
from refine_export.errors import GraphError, RequestError
from refine_export.self_test.mutants import mutants_of
from refine_export.signature import SIGNATURES
from refine_export.support.progress import Silent
from tests.support.bisect_cases import FLOWS, X, bisected, check_found, lowered, model_of, sampling_model
from tests.support.refusals import refused

CHAIN = "[a] t = Mul (x, k) [b] u = Sub (t, near) [c] v = Sigmoid (u) [d] y = Add (v, x)"


def test_a_graph_does_not_part_from_itself():
    model = model_of(CHAIN, k=2, near=[[[0.2]]])
    same = bisected(model, model, [{"x": X}])
    assert same.passed
    assert same.notes == ()
    assert [layer.tensor for layer in same.layers] == ["t", "u", "v", "y"]
    assert {layer.own for layer in same.layers} == {layer.after for layer in same.layers} == {0.0}
    assert [layer.tensor for layer in same.outputs] == ["y"]


def test_an_error_is_named_where_it_is_made_and_not_where_it_is_magnified():
    """T is off by 1e-3 of its peak, u = t - 1.8 by 1 of its own: the fault is in t alone."""
    x = {"x": np.full((1, 3, 4, 4), 0.9, np.float32)}
    good, bad = (model_of(CHAIN, k=k, near=[[[1.7999]]]) for k in (2, 2.002))
    result = bisected(good, bad, [x])
    assert not result.passed
    assert [jump.layer.node for jump in result.jumps] == ["a"]
    layers = {layer.tensor: layer for layer in result.layers}
    assert layers["t"].after == layers["t"].own == pytest.approx(1e-3, rel=1e-3)
    assert layers["u"].before == layers["t"].after
    assert layers["u"].after > 10
    assert layers["u"].own == 0
    assert "constant k" in result.first.reasons[0]


def test_two_faults_are_two_jumps():
    good = model_of(CHAIN, k=2, near=[[[0.2]]])
    bad = model_of(CHAIN.replace("Sub (t, near)", "Sub (near, t)").replace("Add (v, x)", "Sub (v, x)"), k=2, near=0.2)
    result = bisected(good, bad, [{"x": X}])
    assert [jump.layer.node for jump in result.jumps] == ["b", "d"]


def test_an_attribute_is_found_at_its_node():
    result = bisected(sampling_model(), sampling_model("nearest"), [FLOWS])
    assert [jump.layer.node for jump in result.jumps] == ["sample"]
    assert "attribute mode" in result.first.reasons[0]
    newer = onnx.version_converter.convert_version(sampling_model(), 20)  # where bilinear is called linear
    assert bisected(sampling_model(), newer, [FLOWS]).passed


@pytest.mark.parametrize("runtime", ["onnxruntime-cpu", "half"])
def test_coordinates_in_fp16_are_no_rounding_to_be_explained(runtime):
    result = bisected(sampling_model(), sampling_model(half=True), [FLOWS], runtime)
    assert [jump.layer.node for jump in result.jumps] == ["half"]
    assert result.first.candidate == ("half", "s", "h")
    assert result.first.layer.own < 2**-10
    assert "coordinates" in result.first.reasons[0]


def test_pictures_in_fp16_are_explained_and_a_wrong_weight_among_them_is_not():
    half = "[p] low = Cast <to=10> (x) [a] th = Mul (low, kh) [q] t = Cast <to=1> (th) [c] y = Sigmoid (t)"
    good = model_of("[a] t = Mul (x, k) [c] y = Sigmoid (t)", k=2.7)
    for scale, jumps in ((1.0, []), (1.05, ["a"])):
        bad = model_of(half)
        bad.graph.initializer.append(numpy_helper.from_array(np.array(2.7 * scale, np.float16), "kh"))
        result = bisected(good, bad, [{"x": X}], "half")
        assert [jump.layer.node for jump in result.jumps] == jumps
        assert result.layers[0].own > 2**-13


def test_the_worst_feed_counts_and_is_named():
    good, bad = (
        model_of(f"[a] t = Abs (x) [b] y = Clip (t, {low}, high)", low=0, lower=0.3, high=1) for low in ("low", "lower")
    )
    result = bisected(good, bad, [{"x": X * 0 + 0.5}, {"x": X}, {"x": X * 0 + 0.6}])
    assert (result.first.layer.node, result.first.layer.feed) == ("b", "feed 1")


def test_values_that_are_not_finite_are_named_once():
    good, bad = (model_of("[a] t = Mul (x, k) [b] u = Exp (t) [c] y = Neg (u)", k=k) for k in (1, 1000))
    result = bisected(good, bad, [{"x": X}])
    assert [jump.layer.node for jump in result.jumps] == ["a"]
    assert (result.outputs[0].after, result.outputs[0].own) == (math.inf, 0)
    content = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert content["outputs"][0]["after"] is None
    assert content["first"]["layer"]["node"] == "a"


def test_another_shape_is_a_jump():
    body = "[a] t = AveragePool <kernel_shape=[2,2], strides=[{s},{s}]> (x) [b] y = GlobalAveragePool (t)"
    good, bad = (model_of(body.format(s=s), output="float[1,3,1,1] y") for s in (1, 2))
    result = bisected(good, bad, [{"x": X}])
    assert (result.first.layer.node, result.first.layer.own) == ("a", math.inf)
    assert "[1, 3, 2, 2]" in result.first.reasons[0]
    assert "strides" in result.first.reasons[1]


class Passes(Silent):
    """Counts the passes over the graph."""

    def within(self, phase, done, steps):
        self.steps = steps


def test_passes_over_parts_of_the_graph_find_the_same():
    good, bad = (model_of(CHAIN, k=k, near=[[[0.2]]]) for k in (2, 2.1))
    counted = Passes(), Passes()
    whole, parts = (
        bisected(good, bad, [{"x": X}, {"x": X / 2}], chunk_bytes=size, progress=progress)
        for size, progress in zip((2**20, 1), counted, strict=True)
    )
    assert [progress.steps for progress in counted] == [1, 4]
    assert whole == parts


@pytest.mark.parametrize(
    ("bad", "feeds", "code"),
    [
        (model_of("[a] y = Abs (z)", "float[1,3,4,4] z"), [{"x": X}], "other-graph"),
        (model_of("[a] t = Abs (x)", output="float[1,3,4,4] t"), [{"x": X}], "other-graph"),
        (model_of("[a] y = Abs (x)"), [], "no-feeds"),
        (model_of("[a] y = Abs (x)"), [{"z": X}], "feed-names"),
    ],
)
def test_other_graphs_and_feeds_are_refused(bad, feeds, code):
    with refused(code, (GraphError, RequestError)):
        bisected(model_of("[a] y = Abs (x)"), bad, feeds)


def test_a_tensor_that_nothing_makes_is_refused():
    good, bad = model_of("[a] t = Abs (x) [b] y = Neg (t)"), model_of("[a] t = Abs (x) [b] y = Neg (t)")
    bad.graph.node[1].input[0] = "nothing"
    with refused("invalid-onnx", GraphError) as caught:
        bisected(good, bad, [{"x": X}])
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def contextnet(exports):
    return onnx.load(exports.fp32("contextnet", size="64x64"))


@pytest.mark.parametrize("form", ["fp32", "fp16 in FP32 arithmetic", "fp16, gather"])
def test_each_mutant_of_a_file_is_found_at_its_node_and_a_good_file_has_none(form, contextnet, references, pair_at):
    """The whole refinement and the interpolator: tests/integration/test_bisect_mutants.py."""
    model = contextnet
    [feed] = feeds_for(references("IFNet"), SIGNATURES["contextnet"], pair_at(64, 64), kinds=("outside",))
    made, runtime = lowered(model, "contextnet", [feed.inputs], form)
    good = bisected(model, made, [feed.inputs], runtime)
    assert good.passed
    assert good.not_compared == 0
    mutants = list(mutants_of(made, "contextnet"))
    assert len(mutants) == 6
    for mutant in mutants:
        check_found(made, mutant, bisected(model, mutant.model, [feed.inputs], runtime))
