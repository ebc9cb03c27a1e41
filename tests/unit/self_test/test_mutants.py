"""Known-bad models are valid, have the fault that they are named after, and no other."""

import numpy as np
import onnx
import pytest
from onnx import helper

from refine_export.data.feeds import feeds_for
from refine_export.export.reference_network import signature_of_network
from refine_export.graph.linter import lint_model
from refine_export.graph.stacked_input import stack_of
from refine_export.lower.lower_options import LowerOptions
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.open_onnx_runner import open_onnx_runner
from refine_export.self_test.mutants import Mutant, NotMade, attempts_of, mutants_of
from tests.support.foreign import Foreign, foreign_feeds, foreign_model
from tests.support.refusals import refused
from tests.support.stacks import stacked_file

FAULTS = ["nearest", "zeros-padding", "align-corners", "fp16-coordinates", "swapped-flows", "weight", "bgr"]
NAMES = [name for name in FAULTS if name != "swapped-flows"]  # of contextnet, which has one flow
FORMS = {
    "fp32.gather": LowerOptions(precision="fp32", gridsample="gather"),
    "fp16.gather": LowerOptions(gridsample="gather"),
}


def architecture_of(graph):
    return "IFNet_m" if graph == "interpolator" else "IFNet"


@pytest.fixture(scope="module")
def models(exports):
    """A model and its mutants by name: a static FP32 file, and `FORMS` of the dynamic one.

    Nearly all is shown by contextnet, which is small; tests/integration/test_bisect_mutants.py has larger graphs.
    """
    known = {}

    def get(graph, form="static"):
        if (graph, form) not in known:
            architecture = architecture_of(graph)
            if form in FORMS:
                path = exports.lowered(graph, FORMS[form], architecture=architecture)
            else:
                path = exports.fp32(graph, architecture=architecture, size="64x96")
            model = onnx.load(path)
            known[graph, form] = model, {attempt.name: attempt for attempt in attempts_of(model, graph)}
        return known[graph, form]

    for form in ("static", "fp32.gather", "fp16.gather"):
        get("contextnet", form)
    return get


@pytest.fixture(scope="module")
def feeds(references, pair_at):
    known = {}

    def get(graph, kind="outside"):
        if (graph, kind) not in known:
            reference = references(architecture_of(graph))
            [known[graph, kind]] = feeds_for(
                reference, signature_of_network(reference, graph), pair_at(64, 96), kinds=(kind,), timesteps=(0.2,)
            )
        return known[graph, kind].inputs

    return get


def output_of(model, feeds, runtime="onnxruntime-cpu"):
    with open_onnx_runner(model.SerializeToString(), runtime) as runner:
        return np.concatenate([array.ravel() for array in runner.run(feeds).values()])


@pytest.mark.parametrize("form", ["static", "fp16.gather"])
def test_each_fault_is_made_runs_and_shows(models, feeds, form):
    """mutant(x) != good(x), finite, of the same shape; all faults of the graph, none left out."""
    (model, attempts), given = models("contextnet", form), feeds("contextnet")
    runtime = "half" if form.startswith("fp16") else "onnxruntime-cpu"
    good = output_of(model, given, runtime)
    assert list(attempts) == [*FAULTS, "fixed-timestep"]
    made = [attempt for attempt in attempts.values() if isinstance(attempt, Mutant)]
    assert [mutant.name for mutant in made] == NAMES
    for mutant in made:
        marks = {entry.key: entry.value for entry in mutant.model.metadata_props}
        assert marks["refine_export.mutant"] == mutant.name
        bad = output_of(mutant.model, given, runtime)
        assert bad.shape == good.shape
        assert np.isfinite(bad).all()
        assert not np.array_equal(bad, good), mutant.name


def test_the_good_model_is_not_modified(models):
    model, _ = models("contextnet")
    content = model.SerializeToString()
    assert len(list(attempts_of(model, "contextnet"))) == 8
    assert model.SerializeToString() == content


def with_outputs(model, names):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    there = {value.name for value in model.graph.output}
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in there)
    return copy


@pytest.mark.parametrize(
    ("graph", "name"),
    [
        *(("contextnet", name) for name in NAMES),
        pytest.param("refine", "swapped-flows", marks=pytest.mark.slow),
        pytest.param("interpolator", "fixed-timestep", marks=pytest.mark.slow),
    ],
)
def test_the_first_bad_node_is_where_results_begin_to_differ(models, feeds, graph, name):
    """For nodes in order: equal before it; it, or the first node behind it that both models have, differs."""
    (model, attempts), given = models(graph), feeds(graph)
    mutant = attempts[name]
    made = {value for node in model.graph.node for value in node.output}
    shared = [value for node in mutant.model.graph.node for value in node.output if value in made]
    runs = []
    for one in (model, mutant.model):
        with OrtRunner(with_outputs(one, shared).SerializeToString(), optimize=False) as runner:
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


def test_the_nodes_of_the_good_model_stay_in_order(models):
    model, attempts = models("contextnet", "fp16.gather")
    names = [node.name for node in model.graph.node]
    for name in NAMES:
        mutated = [node.name for node in attempts[name].model.graph.node]
        assert [node for node in mutated if not node.startswith("mutant/")] == names


@pytest.mark.parametrize("kind", ["outside", "subpixel"])
@pytest.mark.parametrize("name", ["nearest", "align-corners"])
def test_a_sampler_that_is_written_out_has_the_fault_of_gridsample(models, feeds, name, kind):
    """The faults of both forms give the same picture."""
    given = feeds("contextnet", kind)
    (model, native), (_, written) = models("contextnet"), models("contextnet", "fp32.gather")
    good, one, other = (output_of(made, given) for made in (model, native[name].model, written[name].model))
    assert np.abs(one - other).max() < 0.02 * np.abs(one - good).max()


def test_padding_that_is_written_out_is_zero_outside_alone(models, feeds):
    """Nothing changes where no position leaves the frame."""
    model, attempts = models("contextnet", "fp32.gather")
    given = feeds("contextnet") | {"flow": np.zeros((1, 2, 64, 96), np.float32)}
    bad, good = output_of(attempts["zeros-padding"].model, given), output_of(model, given)
    np.testing.assert_allclose(bad, good, atol=2e-6)


@pytest.mark.parametrize("form", ["static", "fp32.gather", "fp16.gather"])
def test_coordinates_are_rounded_at_every_step(models, form):
    """The lint sees it; in the good model it sees nothing."""
    model, attempts = models("contextnet", form)
    assert "fp16-coordinates" in {finding.rule for finding in lint_model(attempts["fp16-coordinates"].model)}
    assert "fp16-coordinates" not in {finding.rule for finding in lint_model(model)}


def test_half_coordinates_are_those_of_a_converter(models, feeds):
    """Static graphs: flow, grid and what is between rounded to FP16 by numpy, at the first level of the pyramid."""
    mutant = models("contextnet")[1]["fp16-coordinates"].model
    given = feeds("contextnet")
    grid = next(node for node in mutant.graph.node if node.op_type == "GridSample").input[1]
    with OrtRunner(with_outputs(mutant, [grid]).SerializeToString(), optimize=False) as runner:
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


@pytest.mark.parametrize(
    ("graph", "name", "change"),
    [
        ("contextnet", "bgr", lambda given: {"image": given["image"][:, ::-1]}),
        ("unet", "swapped-flows", lambda given: {"flow": given["flow"][:, [2, 3, 0, 1]]}),
    ],
)
def test_a_wrong_input_gives_what_the_good_model_makes_of_it(models, feeds, graph, name, change):
    (model, attempts), given = models(graph), feeds(graph)
    np.testing.assert_array_equal(output_of(attempts[name].model, given), output_of(model, given | change(given)))


@pytest.mark.parametrize("channels", [7, 11])
def test_faults_of_a_stack(tmp_path, channels):
    """The first image as BGR, the timestep as a half, and nothing else."""
    model = onnx.load(stacked_file(tmp_path / "net.onnx", channels))
    mutants = {mutant.name: mutant.model for mutant in mutants_of(model, "interpolator")}
    assert set(mutants) == {"bgr", "fixed-timestep"}
    a, b = np.random.default_rng(0).random((2, 1, 3, 4, 6), np.float32)
    given = {"source": stack_of(a, b, np.full((1, 1, 1, 1), 0.2, np.float32), channels)}
    for name, first, timestep in (("bgr", a[:, ::-1], 0.2), ("fixed-timestep", a, 0.5)):
        expected = first + (b - first) * np.float32(timestep)
        assert np.allclose(output_of(mutants[name], given), expected.ravel(), atol=1e-6)


def test_a_fixed_timestep_is_the_middle():
    model = foreign_model(Foreign())
    given = foreign_feeds(Foreign(), 64, 96)
    middle, other = (given | {"timestep": np.full_like(given["timestep"], value)} for value in (0.5, 0.2))
    mutant = next(mutant for mutant in mutants_of(model, None) if mutant.name == "fixed-timestep").model
    np.testing.assert_array_equal(output_of(mutant, other), output_of(model, middle))
    assert not np.array_equal(output_of(model, other), output_of(model, middle))


def test_the_weights_are_those_before_the_output(models):
    model, attempts = models("contextnet", "fp16.gather")
    good, bad = (
        {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in one.graph.initializer}
        for one in (model, attempts["weight"].model)
    )
    [new] = bad.keys() - good.keys()
    assert bad[new].dtype == np.float16
    np.testing.assert_allclose(bad[new], good["contextnet.conv4.conv2.0.weight"] * 1.05, rtol=1e-3, atol=1e-7)


def test_a_graph_without_a_sampler_or_a_second_flow_has_no_gap(models):
    """Unet samples nothing and contextnet has one flow."""
    for graph, expected in (
        ("unet", {"nearest", "zeros-padding", "align-corners", "fp16-coordinates", "fixed-timestep"}),
        ("contextnet", {"swapped-flows", "fixed-timestep"}),
    ):
        missing = {name: one.applies for name, one in models(graph)[1].items() if isinstance(one, NotMade)}
        assert missing == dict.fromkeys(expected, False)


@pytest.mark.parametrize(
    ("attribute", "value", "name"), [("mode", "nearest", "nearest"), ("padding_mode", "zeros", "zeros-padding")]
)
def test_a_fault_that_is_there_already_is_not_made(models, attribute, value, name):
    model = onnx.ModelProto()
    model.CopyFrom(models("contextnet")[0])
    for node in model.graph.node:
        for given in node.attribute:
            if node.op_type == "GridSample" and given.name == attribute:
                given.s = value.encode()
    attempt = next(attempt for attempt in attempts_of(model, "contextnet") if attempt.name == name)
    assert isinstance(attempt, NotMade)
    assert attempt.applies


def test_a_mutant_can_be_given_another_fault(models):
    """The names of new nodes are taken by no other."""
    bad = models("contextnet")[1]["fp16-coordinates"].model
    assert [mutant.name for mutant in mutants_of(bad, "contextnet")] == NAMES


@pytest.mark.parametrize("warp", ["gather", "index"])
def test_a_sampler_of_another_form_is_a_gap(warp):
    """A graph of another tool that samples in a way that is not known here: the reason has the node's name."""
    attempts = {attempt.name: attempt for attempt in attempts_of(foreign_model(Foreign(warp=warp)), None)}
    for name in ("nearest", "zeros-padding", "align-corners", "fp16-coordinates", "swapped-flows"):
        assert isinstance(attempts[name], NotMade)
        assert attempts[name].applies
        assert "Gather" in attempts[name].reason
    assert all(isinstance(attempts[name], Mutant) for name in ("weight", "bgr", "fixed-timestep"))


@pytest.mark.parametrize("options", [Foreign(), Foreign(opset=20), Foreign(opset=16), Foreign(size=(64, 96))])
def test_graphs_of_other_tools_have_all_faults(options):
    assert [mutant.name for mutant in mutants_of(foreign_model(options), None)] == [*FAULTS, "fixed-timestep"]


def test_a_model_that_reads_what_nothing_makes_is_refused(models):
    model = onnx.ModelProto()
    model.CopyFrom(models("contextnet")[0])
    model.graph.node[3].input[0] = "nothing"
    with refused("invalid-onnx"):
        list(mutants_of(model, "contextnet"))
