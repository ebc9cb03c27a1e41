"""Known-bad models are valid, have the fault that they are named after, and no other."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from refine_export.data.feeds import feeds_for
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.graph.linter import lint_model
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import lower, prepare_model
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.strict_fp16 import HalfRunner
from refine_export.self_test.mutants import Mutant, NotMade, attempts_of, mutants_of
from tests.support.foreign import Foreign, foreign_model

FAULTS = ["nearest", "zeros-padding", "align-corners", "fp16-coordinates", "swapped-flows", "weight", "bgr"]
FORMS = {
    "fp32": LowerOptions(precision="fp32"),
    "fp16": LowerOptions(),
    "fp32.gather": LowerOptions(precision="fp32", gridsample="gather"),
    "fp16.gather": LowerOptions(gridsample="gather"),
}


@pytest.fixture(scope="module")
def models(references):
    known = {}

    def get(graph, form="fp32", *, dynamic=False):
        key = graph, form, dynamic
        if key not in known:
            if form == "fp32":
                options = ExportOptions(dynamic=dynamic, size=None if dynamic else "64x96")
                known[key] = onnx_from_network(references(architecture_of(graph)), graph, options)
            else:
                prepared = prepare_model(ir.from_proto(get(graph, dynamic=dynamic)), FORMS[form], graph)
                known[key] = lower(prepared, FORMS[form]).model
        return known[key]

    return get


def architecture_of(graph):
    return "IFNet_m" if graph == "interpolator_m" else "IFNet"


@pytest.fixture(scope="module")
def feeds(references, pair_at):
    known = {}

    def get(graph, kind="outside"):
        if (graph, kind) not in known:
            reference = references(architecture_of(graph))
            [known[graph, kind]] = feeds_for(reference, graph, pair_at(64, 96), kinds=(kind,), timesteps=(0.2,))
        return known[graph, kind].inputs

    return get


def mutant_of(model, graph, name):
    return next(mutant for mutant in mutants_of(model, graph) if mutant.name == name)


def output_of(model, feeds, runner=OrtRunner):
    with runner(model.SerializeToString()) as opened:
        [array] = opened.run(feeds).values()
    return array


@pytest.mark.parametrize(
    ("graph", "form", "dynamic"),
    [
        ("refine", "fp32", False),
        *(("refine", form, True) for form in FORMS),
        ("interpolator_m", "fp16", False),
    ],
)
def test_each_fault_is_made_runs_and_shows(models, feeds, graph, form, dynamic):
    """mutant(x) != good(x), finite, of the same shape; all faults of the graph, none left out."""
    model, given = models(graph, form, dynamic=dynamic), feeds(graph)
    runner = HalfRunner if form.startswith("fp16") else OrtRunner
    good, content = output_of(model, given, runner), model.SerializeToString()
    attempts = list(attempts_of(model, graph))
    expected = [*FAULTS, "fixed-timestep"]
    assert [attempt.name for attempt in attempts] == expected
    made = [attempt for attempt in attempts if isinstance(attempt, Mutant)]
    assert [mutant.name for mutant in made] == (expected if graph == "interpolator_m" else FAULTS)
    for mutant in made:
        said = {entry.key: entry.value for entry in mutant.model.metadata_props}
        assert said["refine_export.mutant"] == mutant.name
        bad = output_of(mutant.model, given, runner)
        assert bad.shape == good.shape
        assert np.isfinite(bad).all()
        assert not np.array_equal(bad, good), mutant.name
    assert model.SerializeToString() == content


def tapped(model, names):
    """The model with these tensors as outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    return copy


@pytest.mark.parametrize("graph", ["refine", "interpolator_m"])
@pytest.mark.parametrize("name", [*FAULTS, "fixed-timestep"])
def test_the_first_bad_node_is_where_results_begin_to_differ(models, feeds, graph, name):
    """For nodes in order: equal before it; it, or the first node behind it that both models have, differs."""
    if graph == "refine" and name == "fixed-timestep":
        return
    model, given = models(graph), feeds(graph)
    mutant = mutant_of(model, graph, name)
    made = {value for node in model.graph.node for value in node.output} - {value.name for value in model.graph.output}
    shared = [value for node in mutant.model.graph.node for value in node.output if value in made]
    runs = []
    for one in (model, mutant.model):
        with OrtRunner(tapped(one, shared).SerializeToString(), optimize=False) as runner:
            runs.append(runner.run(given))
    good, bad = runs
    nodes = list(mutant.model.graph.node)
    at = [node.name for node in nodes].index(mutant.first_bad_node)
    before = {value for node in nodes[:at] for value in node.output}
    different = [value for value in shared if not np.array_equal(good[value], bad[value])]
    assert different
    assert not before & set(different)
    behind = set(nodes[at].output)  # with what reads it through nodes that are new
    for node in nodes[at + 1 :]:
        if behind & set(node.input) and not set(node.output) & made:
            behind.update(node.output)
    first = next(node for node in nodes if set(node.output) & set(different))
    assert first.name == mutant.first_bad_node or behind & set(first.input)


@pytest.mark.parametrize("name", FAULTS)
def test_the_nodes_of_the_good_model_stay_in_order(models, name):
    model = models("refine", "fp16.gather", dynamic=True)
    names = [node.name for node in model.graph.node]
    mutated = [node.name for node in mutant_of(model, "refine", name).model.graph.node]
    assert [node for node in mutated if not node.startswith("mutant/")] == names


@pytest.mark.parametrize("kind", ["outside", "large", "subpixel"])
@pytest.mark.parametrize("name", ["nearest", "align-corners"])
def test_a_sampler_that_is_written_out_has_the_fault_of_gridsample(models, feeds, name, kind):
    """The faults of both forms give the same picture."""
    given = feeds("refine", kind)
    native, written = (
        output_of(mutant_of(models("refine", form), "refine", name).model, given) for form in ("fp32", "fp32.gather")
    )
    good = output_of(models("refine"), given)
    fault = np.abs(native - good).max()
    assert np.abs(native - written).max() < 0.02 * fault


def test_padding_that_is_written_out_is_zero_outside_alone(models, feeds):
    """Nothing changes where no position leaves the frame."""
    model, given = models("refine", "fp32.gather"), dict(feeds("refine"))
    mutant = mutant_of(model, "refine", "zeros-padding").model
    given["flow"] = np.zeros_like(given["flow"])
    np.testing.assert_array_equal(output_of(mutant, given), output_of(model, given))


def test_coordinates_are_rounded_at_every_step(models):
    """The lint sees it, in the good model it sees nothing."""
    for form in FORMS:
        mutant = mutant_of(models("refine", form), "refine", "fp16-coordinates").model
        assert "fp16-coordinates" in {finding.rule for finding in lint_model(mutant)}
        assert "fp16-coordinates" not in {finding.rule for finding in lint_model(models("refine", form))}


def test_half_coordinates_are_those_of_a_converter(models, feeds):
    """Static graphs: flow, grid and what is between rounded to FP16 by numpy, at the first level of the pyramid."""
    model = models("contextnet")
    mutant = mutant_of(model, "contextnet", "fp16-coordinates").model
    given = feeds("contextnet")
    grid = next(node for node in mutant.graph.node if node.op_type == "GridSample").input[1]
    with OrtRunner(tapped(mutant, [grid]).SerializeToString(), optimize=False) as runner:
        found = runner.run(given)[grid]

    def half(array):
        return np.asarray(array, np.float32).astype(np.float16).astype(np.float32)

    flow = half(given["flow"])
    flow = half((flow[..., ::2, ::2] + flow[..., 1::2, ::2] + flow[..., ::2, 1::2] + flow[..., 1::2, 1::2]) / 4)
    flow = half(flow * np.float32(0.5))
    row, column = (half(np.linspace(-1, 1, size, dtype=np.float32)) for size in (32, 48))
    x = half(half(flow[:, 0] / np.float32(23.5)) + column)
    y = half(half(flow[:, 1] / np.float32(15.5)) + row[:, None])
    np.testing.assert_array_equal(found, np.stack((x, y), -1))


def test_bgr_is_the_first_image_reversed(models, feeds):
    model, given = models("refine"), feeds("refine")
    reversed_image = given | {"img0": given["img0"][:, ::-1]}
    mutant = mutant_of(model, "refine", "bgr").model
    np.testing.assert_array_equal(output_of(mutant, given), output_of(model, reversed_image))


def test_a_fixed_timestep_is_the_middle(models, feeds):
    model, given = models("interpolator_m"), feeds("interpolator_m")
    mutant = mutant_of(model, "interpolator_m", "fixed-timestep").model
    middle = given | {"timestep": np.full((1, 1, 1, 1), 0.5, np.float32)}
    np.testing.assert_array_equal(output_of(mutant, given), output_of(model, middle))


def test_the_weights_are_those_before_the_output(models):
    model = models("refine", "fp16")
    mutant = mutant_of(model, "refine", "weight").model
    before, after = ({t.name: onnx.numpy_helper.to_array(t) for t in m.graph.initializer} for m in (model, mutant))
    [new] = after.keys() - before.keys()
    assert after[new].dtype == np.float16
    np.testing.assert_allclose(after[new], before["unet.conv.weight"] * 1.05, rtol=1e-3)


def test_what_a_graph_cannot_have_is_said(models, feeds):
    """Unet samples nothing and contextnet has one flow: neither is a gap. Each fault is made, or has a reason."""
    unet = {attempt.name: attempt for attempt in attempts_of(models("unet"), "unet")}
    for name in ("nearest", "zeros-padding", "align-corners", "fp16-coordinates"):
        assert isinstance(unet[name], NotMade)
        assert (unet[name].reason, unet[name].applies) == ("it samples nothing", False)
    given = feeds("unet")
    flows = given | {"flow": given["flow"][:, [2, 3, 0, 1]]}
    swapped = unet["swapped-flows"].model
    np.testing.assert_array_equal(output_of(swapped, given), output_of(models("unet"), flows))
    contextnet = {attempt.name: attempt for attempt in attempts_of(models("contextnet"), "contextnet")}
    missing = {name: attempt.applies for name, attempt in contextnet.items() if isinstance(attempt, NotMade)}
    assert missing == {"swapped-flows": False, "fixed-timestep": False}


@pytest.mark.parametrize(
    ("attribute", "value", "name", "reason"),
    [
        ("mode", "nearest", "nearest", "takes the nearest pixel already"),
        ("padding_mode", "zeros", "zeros-padding", "pads with zeros already"),
    ],
)
def test_a_fault_that_is_there_already_is_not_made(models, attribute, value, name, reason):
    model = onnx.ModelProto()
    model.CopyFrom(models("refine"))
    for node in model.graph.node:
        for given in node.attribute:
            if node.op_type == "GridSample" and given.name == attribute:
                given.s = value.encode()
    attempt = next(attempt for attempt in attempts_of(model, "refine") if attempt.name == name)
    assert isinstance(attempt, NotMade)
    assert attempt.applies
    assert reason in attempt.reason


def test_a_mutant_can_be_given_another_fault(models):
    """The names of new nodes are taken by no other."""
    bad = mutant_of(models("refine"), "refine", "fp16-coordinates").model
    assert [mutant.name for mutant in mutants_of(bad, "refine")] == FAULTS


@pytest.mark.parametrize("warp", ["gather_elements", "gather_nd"])
def test_a_sampler_of_another_form_is_said(warp):
    """A graph of another tool that samples in a way that is not known here: a gap, with the node's name."""
    attempts = {attempt.name: attempt for attempt in attempts_of(foreign_model(Foreign(warp=warp)), None)}
    for name in ("nearest", "zeros-padding", "align-corners", "fp16-coordinates", "swapped-flows"):
        assert isinstance(attempts[name], NotMade)
        assert attempts[name].applies
        assert "written out in a form of another tool" in attempts[name].reason
    assert all(isinstance(attempts[name], Mutant) for name in ("weight", "bgr", "fixed-timestep"))


@pytest.mark.parametrize("options", [Foreign(), Foreign(opset=20), Foreign(opset=16), Foreign(size=(64, 96))])
def test_graphs_of_other_tools_have_all_faults(options):
    assert [mutant.name for mutant in mutants_of(foreign_model(options), None)] == [*FAULTS, "fixed-timestep"]
