"""Where two graphs part: the first node that makes an error of its own, and none that only passes one on."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import typer
from onnx import numpy_helper
from onnx.parser import parse_model
from typer.testing import CliRunner

from refine_export.accuracy.metrics import largest_error as error_of
from refine_export.bisect import bisection
from refine_export.bisect.bisection import Side
from refine_export.bisect.intermediate_tensors import inspectable_model
from refine_export.cli.render.render_bisect import print_bisected
from refine_export.cli.verbs import bisect as verb
from refine_export.data.feeds import feeds_for
from refine_export.data.frame_options import SceneOptions
from refine_export.errors import GraphError, RequestError
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.jobs.bisect_file import bisect
from refine_export.jobs.recipe_file import recipe_from_toml
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import calibrated, lower, prepare_model
from refine_export.self_test.mutants import mutants_of
from refine_export.support.progress import Silent
from tests.support.foreign import Foreign, foreign_feeds, foreign_model

SIZE = (64, 96)
X = np.linspace(0.1, 0.9, 48, dtype=np.float32).reshape(1, 3, 4, 4)
CHAIN = "[a] t = Mul (x, k) [b] u = Sub (t, near) [c] v = Sigmoid (u) [d] y = Add (v, x)"
GRID = '[half] g = Mul (flow, k) [sample] y = GridSample <mode={mode}, padding_mode="border", align_corners=1> (x, g)'


def model_of(body, inputs="float[1,3,4,4] x", output="float[1,3,4,4] y", opset=18, **constants):
    model = parse_model(f'<ir_version: 10, opset_import: ["": {opset}]> g ({inputs}) => ({output}) {{ {body} }}')
    arrays = {name: np.asarray(value, np.float32) for name, value in constants.items()}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


def found(good, bad, feeds, runtime="onnxruntime-cpu", **options):
    sides = Side(inspectable_model(good), "onnxruntime-cpu", "good"), Side(inspectable_model(bad), runtime, "bad")
    return bisection.bisect(*sides, [(f"feed {k}", feed) for k, feed in enumerate(feeds)], **options)


def test_a_graph_does_not_part_from_itself():
    model = model_of(CHAIN, k=2, near=[[[0.2]]])
    same = found(model, model, [{"x": X}])
    assert same.first is None
    assert [layer.tensor for layer in same.layers] == ["t", "u", "v", "y"]
    assert {layer.own for layer in same.layers} == {layer.after for layer in same.layers} == {0.0}
    assert [layer.tensor for layer in same.outputs] == ["y"]


def test_an_error_is_named_where_it_is_made_and_not_where_it_is_magnified():
    """T is off by 1e-3 of its peak, u = t - 1.8 by 1 of its own: the fault is in t alone."""
    x = {"x": np.full((1, 3, 4, 4), 0.9, np.float32)}
    good, bad = (model_of(CHAIN, k=k, near=[[[1.7999]]]) for k in (2, 2.002))
    result = found(good, bad, [x])
    assert [jump.layer.node for jump in result.jumps] == ["a"]
    layers = {layer.tensor: layer for layer in result.layers}
    assert layers["t"].after == layers["t"].own == pytest.approx(1e-3, rel=1e-3)
    assert layers["u"].before == layers["t"].after
    assert layers["u"].after > 10
    assert layers["u"].own == 0
    assert result.first.reasons == ("constant k differs by up to 0.001 of its largest magnitude",)


def test_two_faults_are_two_jumps():
    good = model_of(CHAIN, k=2, near=[[[0.2]]])
    bad = model_of(CHAIN.replace("Sub (t, near)", "Sub (near, t)").replace("Add (v, x)", "Sub (v, x)"), k=2, near=0.2)
    result = found(good, bad, [{"x": X}])
    assert [jump.layer.node for jump in result.jumps] == ["b", "d"]
    assert result.jumps[1].reasons == ("made by Sub in place of Add",)


def test_inputs_in_another_order_are_said():
    good, bad = (model_of(f"[a] t = Abs (x) [b] u = Sigmoid (x) [c] y = Sub ({given})") for given in ("t, u", "u, t"))
    result = found(good, bad, [{"x": X}])
    assert result.first.layer.node == "c"
    assert result.first.reasons == ("input 0 is u in place of t", "input 1 is t in place of u")


def sampling(mode='"bilinear"', half=False, before=""):
    body = GRID.format(mode=mode)
    if half:
        body = body.replace("(flow, k)", "(rounded, k)")
        before = "[h] low = Cast <to=10> (flow) [s] rounded = Cast <to=1> (low) "
    inputs = "float[1,3,4,4] x, float[1,4,4,2] flow"
    return model_of(before + body, inputs, k=0.37)


FLOWS = {"x": X, "flow": np.linspace(-2.9, 2.9, 32, dtype=np.float32).reshape(1, 4, 4, 2)}


def test_an_attribute_is_found_at_its_node():
    result = found(sampling(), sampling('"nearest"'), [FLOWS])
    assert [jump.layer.node for jump in result.jumps] == ["sample"]
    assert result.first.reasons == ("attribute mode is nearest in place of bilinear",)
    newer = onnx.version_converter.convert_version(sampling(), 20)  # where bilinear is called linear
    assert found(sampling(), newer, [FLOWS]).first is None
    next(part for part in newer.graph.node[1].attribute if part.name == "padding_mode").s = b"zeros"
    reasons = found(sampling(), newer, [FLOWS]).first.reasons
    assert reasons == ("attribute padding_mode is zeros in place of border",)


@pytest.mark.parametrize("runtime", ["onnxruntime-cpu", "half"])
def test_coordinates_in_fp16_are_no_rounding_to_be_explained(runtime):
    result = found(sampling(), sampling(half=True), [FLOWS], runtime)
    assert [jump.layer.node for jump in result.jumps] == ["half"]
    assert result.first.candidate == ("half", "s", "h")
    assert result.first.layer.own < 2**-10
    assert result.first.reasons[0] == "low is FLOAT16, but is of sampling coordinates"


def test_pictures_in_fp16_are_explained_and_a_wrong_weight_among_them_is_not():
    half = "[p] low = Cast <to=10> (x) [a] th = Mul (low, kh) [q] t = Cast <to=1> (th) [c] y = Sigmoid (t)"
    good = model_of("[a] t = Mul (x, k) [c] y = Sigmoid (t)", k=2.7)
    for scale, jumps in ((1.0, []), (1.05, ["a"])):
        bad = model_of(half)
        bad.graph.initializer.append(numpy_helper.from_array(np.array(2.7 * scale, np.float16), "kh"))
        result = found(good, bad, [{"x": X}], "half")
        assert [jump.layer.node for jump in result.jumps] == jumps
        assert result.layers[0].own > 2**-13


def test_the_worst_feed_counts_and_is_named():
    good, bad = (
        model_of(f"[a] t = Abs (x) [b] y = Clip (t, {low}, high)", low=0, lower=0.3, high=1) for low in ("low", "lower")
    )
    result = found(good, bad, [{"x": X * 0 + 0.5}, {"x": X}, {"x": X * 0 + 0.6}])
    assert result.first.layer.node == "b"
    assert result.first.layer.feed == "feed 1"


def test_values_that_are_not_finite_are_named_once():
    good = model_of("[a] t = Mul (x, k) [b] u = Exp (t) [c] y = Neg (u)", k=1)
    bad = model_of("[a] t = Mul (x, k) [b] u = Exp (t) [c] y = Neg (u)", k=1000)
    result = found(good, bad, [{"x": X}])
    assert [jump.layer.node for jump in result.jumps] == ["a"]
    assert result.outputs[0].after == math.inf
    assert result.outputs[0].own == 0
    content = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert content["outputs"][0]["after"] is None
    assert content["first"]["layer"]["node"] == "a"


@pytest.mark.parametrize(
    ("expected", "actual", "error"),
    [
        ([1, 2], [1, 2.5], 0.25),
        ([np.inf, np.nan], [np.inf, np.nan], 0),
        ([np.inf, 1], [np.inf, 1.5], 0.25),
        ([np.inf, 1], [-np.inf, 1], math.inf),
        ([1, 1], [np.nan, 1], math.inf),
        ([1, 1], [1], math.inf),
    ],
)
def test_error(expected, actual, error):
    assert error_of(np.array(expected, np.float32), np.array(actual, np.float32), 2.0) == error


def test_another_shape_is_a_jump():
    body = "[a] t = AveragePool <kernel_shape=[2,2], strides=[{s},{s}]> (x) [b] y = GlobalAveragePool (t)"
    good, bad = (model_of(body.format(s=s), output="float[1,3,1,1] y") for s in (1, 2))
    result = found(good, bad, [{"x": X}])
    assert result.first.layer.node == "a"
    assert result.first.layer.own == math.inf
    assert result.first.reasons[:2] == (
        "it is [1, 3, 2, 2] in place of [1, 3, 3, 3]",
        "attribute strides is (2, 2) in place of (1, 1)",
    )


def renamed(model):
    """The model as another tool would name it, with an Identity behind each node."""
    loaded = ir.from_proto(model)
    graph = loaded.graph
    for number, node in enumerate(list(graph)):
        node.name = f"/node_{number}"
        value = node.outputs[0]
        if not value.is_graph_output():
            value.name = f"/{number}/out"
            uses = tuple(value.uses())
            idle = ir.node("Identity", [value], name=f"/idle_{number}")
            idle.outputs[0].name = f"/{number}/idle"
            for reader, index in uses:
                reader.replace_input_with(index, idle.outputs[0])
            graph.insert_after(node, idle)
    return ir.to_proto(loaded)


def test_without_names_tensors_are_matched_by_their_place():
    options = Foreign()
    good = foreign_model(options)
    bad = renamed(good)
    feeds = [foreign_feeds(options, *SIZE)]
    same = found(good, bad, feeds)
    assert same.first is None
    assert {layer.matched_by for layer in same.layers if not layer.own} == {"name", "place"}
    assert same.not_compared == 0
    sampler = next(node for node in bad.graph.node if node.op_type == "GridSample")
    next(attribute for attribute in sampler.attribute if attribute.name == "mode").s = b"nearest"
    first = found(good, bad, feeds).first
    assert sampler.name in first.candidate
    assert first.layer.operator == "GridSample"
    assert "attribute mode is nearest in place of bilinear" in first.reasons


class Passes(Silent):
    """Counts the passes over the graph."""

    def within(self, phase, done, steps):
        self.steps = steps


def test_passes_over_parts_of_the_graph_find_the_same():
    good, bad = (model_of(CHAIN, k=k, near=[[[0.2]]]) for k in (2, 2.1))
    told = Passes(), Passes()
    whole, parts = (
        found(good, bad, [{"x": X}, {"x": X / 2}], chunk_bytes=size, progress=progress)
        for size, progress in zip((2**20, 1), told, strict=True)
    )
    assert [progress.steps for progress in told] == [1, 4]
    assert whole == parts


def test_other_graphs_and_no_feeds_are_refused():
    good = model_of(CHAIN, k=2, near=0)
    with pytest.raises(GraphError, match="bad has the inputs z; expected those of good, x"):
        found(good, model_of("[a] y = Abs (z)", "float[1,3,4,4] z"), [{"x": X}])
    with pytest.raises(GraphError, match="bad has the outputs t; expected those of good, y"):
        found(good, model_of("[a] t = Abs (x)", output="float[1,3,4,4] t"), [{"x": X}])
    with pytest.raises(RequestError, match="no feed"):
        found(good, good, [])
    with pytest.raises(RequestError, match="no array x"):
        found(good, good, [{"z": X}])


@pytest.fixture(scope="module")
def refine(references):
    return onnx_from_network(references("IFNet"), "refine", ExportOptions(dynamic=False, size="64x96"))


@pytest.fixture(scope="module")
def feeds(references, pair_at):
    return [
        feed.inputs for feed in feeds_for(references("IFNet"), "refine", pair_at(*SIZE), kinds=("large", "outside"))
    ]


def lowered(model, graph, feeds, **options):
    chosen = LowerOptions(**options)
    prepared = prepare_model(ir.from_proto(model), chosen, graph)
    return lower(calibrated(prepared, [("feed", feed) for feed in feeds]), chosen).model


FILES = {
    "fp32": ({"precision": "fp32"}, "onnxruntime-cpu"),
    "fp16": ({}, "half"),
    "fp16 in FP32 arithmetic": ({}, "onnxruntime-cpu"),
    "fp16, gather": ({"gridsample": "gather"}, "half"),
}


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


@pytest.mark.parametrize("file", FILES)
def test_each_mutant_of_a_file_is_found_at_its_node_and_a_good_file_has_none(file, refine, feeds):
    options, runtime = FILES[file]
    made = lowered(refine, "refine", feeds, **options)
    good = found(refine, made, feeds, runtime)
    assert good.first is None
    assert good.not_compared == 0
    seen = []
    for mutant in mutants_of(made, "refine"):
        check_found(made, mutant, found(refine, mutant.model, feeds, runtime))
        seen.append(mutant.name)
    assert len(seen) == 7


@pytest.mark.slow
def test_each_mutant_of_an_interpolator_is_found(references, pair_at):
    options, runtime = FILES["fp16"]
    network = references("IFNet_m")
    model = onnx_from_network(network, "interpolator_m", ExportOptions(dynamic=False, size="64x96"))
    given = [feed.inputs for feed in feeds_for(network, "interpolator_m", pair_at(*SIZE), timesteps=(0.5, 0.2))]
    made = lowered(model, "interpolator_m", given, **options)
    assert found(model, made, given, runtime).first is None
    mutants = list(mutants_of(made, "interpolator_m"))
    assert len(mutants) == 8
    for mutant in mutants:
        check_found(made, mutant, found(model, mutant.model, given, runtime))


def recipe():
    plain = recipe_from_toml('[checkpoint]\nweights = "seeded"')
    return dataclasses.replace(plain, scene=SceneOptions(height=64, width=96, motion_px=6))


def test_a_file_is_compared_with_its_weights(refine, tmp_path):
    path = tmp_path / "refine.onnx"
    path.write_bytes(refine.SerializeToString())
    good = bisect(path, recipe=recipe())
    assert good.first is None
    assert good.reference_error < 1e-5
    assert any("network flow" in feed for feed in good.feeds)
    bad = next(mutant for mutant in mutants_of(refine, "refine") if mutant.name == "weight")
    path.write_bytes(bad.model.SerializeToString())
    assert bisect(path, recipe=recipe()).first.layer.node == bad.first_bad_node


def test_a_file_of_another_tool_needs_a_file_to_be_compared_with(tmp_path):
    path, other = tmp_path / "rife.onnx", tmp_path / "good.onnx"
    for file in (path, other):
        file.write_bytes(foreign_model(Foreign()).SerializeToString())
    with pytest.raises(RequestError, match="is not one of the graphs.*--against"):
        bisect(path, recipe=recipe())
    assert bisect(path, recipe=recipe(), against=other, size="64x96").first is None
    feed = tmp_path / "feed.npz"
    np.savez(feed, **foreign_feeds(Foreign(), *SIZE))
    assert bisect(path, recipe=recipe(), against=other, feeds=[feed]).feeds == ("feed.npz",)
    with pytest.raises(RequestError, match="HEIGHTxWIDTH|multiple"):
        bisect(path, recipe=recipe(), against=other, size="64")


def command(*arguments):
    app = typer.Typer()
    app.command()(verb.bisect)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_says_where_it_went_wrong(tmp_path):
    good, bad, feed = tmp_path / "good.onnx", tmp_path / "bad.onnx", tmp_path / "feed.npz"
    good.write_bytes(sampling().SerializeToString())
    bad.write_bytes(sampling('"nearest"').SerializeToString())
    np.savez(feed, **FLOWS)
    result = command(bad, "--against", good, "--feed", feed, "--quiet")
    assert result.exit_code == 1
    assert "first jump: GridSample sample" in result.stdout
    assert "attribute mode is nearest in place of bilinear" in result.stdout
    assert len(result.stdout.splitlines()) < 24
    content = json.loads(command(bad, "--against", good, "--feed", feed, "--json").stdout)
    assert content["first"]["layer"]["node"] == "sample"
    fine = command(good, "--against", good, "--feed", feed, "--quiet")
    assert fine.exit_code == 0
    assert "no jump" in fine.stdout
    wrong = command(good, "--against", good, "--runtime", "tpu")
    assert "there is no runtime 'tpu'; expected one of" in str(wrong.exception)


def test_the_console_shows_at_most_a_screenful(capsys):
    body = " ".join(f"[n{k}] t{k + 1} = Add (t{k}, k)" for k in range(30)).replace("(t0,", "(x,").replace("t30", "y")
    print_bisected(found(model_of(body, k=1), model_of(body, k=2), [{"x": X}]))
    shown = capsys.readouterr().out
    assert "the largest of 30 jumps" in shown
    assert len(shown.splitlines()) < 30
