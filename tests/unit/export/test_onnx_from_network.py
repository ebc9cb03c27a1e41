"""ONNX files compute what the network computes, at every size, and state nothing of the machine that made them."""

import functools

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from refine_export.data.feeds import feeds_for
from refine_export.errors import InternalError
from refine_export.export import graph_modules
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.graph.linter import lint_model
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.torch import TorchRunner
from refine_export.signature import signature_of
from tests.support.refusals import refused

MARKED = [
    "contextnet",
    "unet",
    "refine",
    pytest.param("interpolator", marks=pytest.mark.slow),
]
STATIC = ExportOptions(dynamic=False, size="64x96")
DYNAMIC = ExportOptions()
TOLERANCE = 1e-4  # of the largest magnitude; measured: under 2e-5


def architecture_of(graph):
    return "IFNet_m" if graph == "interpolator" else "IFNet"


@pytest.fixture(scope="module")
def exported(exports):
    """Load the file of a graph that all tests of the session share."""

    @functools.cache
    def get(graph, options):
        return onnx.load(exports.fp32(graph, architecture=architecture_of(graph), size=options.size))

    return get


def assert_agrees(reference, graph, model, pair, batch=1):
    with TorchRunner(reference, graph) as expected, OrtRunner(model.SerializeToString()) as actual:
        for feed in feeds_for(
            reference, expected.signature, pair, kinds=("subpixel", "outside"), batch=batch, timesteps=(0.3,)
        ):
            theirs, ours = expected.run(feed.inputs), actual.run(feed.inputs)
            for name, array in theirs.items():
                assert ours[name].shape == array.shape
                assert np.abs(ours[name] - array).max() <= TOLERANCE * max(1, np.abs(array).max()), feed.name


@pytest.mark.parametrize("graph", MARKED)
def test_static(references, exported, pair_at, graph):
    assert_agrees(references(architecture_of(graph)), graph, exported(graph, STATIC), pair_at(64, 96))


@pytest.mark.parametrize("graph", MARKED)
def test_dynamic_is_right_at_sizes_never_traced(references, exported, pair_at, graph):
    """Larger, smaller and turned, alone and as a batch."""
    reference = references(architecture_of(graph))
    for height, width, batch in ((32, 32, 1), (64, 160, 3), (224, 96, 1)):
        assert_agrees(reference, graph, exported(graph, DYNAMIC), pair_at(height, width), batch)


def test_static_batch(references, exports, pair_at):
    model = onnx.load(exports.fp32("contextnet", size="64x96", batch=2))
    assert_agrees(references("IFNet"), "contextnet", model, pair_at(64, 96), batch=2)


@pytest.mark.parametrize("graph", MARKED)
@pytest.mark.parametrize("options", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_file(exported, graph, options):
    """Opset 18, the signature's names and shapes, standard operators, GridSample as the networks sample."""
    model = exported(graph, options)
    onnx.checker.check_model(model, full_check=True)
    assert lint_model(model) == []
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert len(model.functions) == 0
    signature = signature_of(graph, timestep=True)
    for values, specs in ((model.graph.input, signature.inputs), (model.graph.output, signature.outputs)):
        for value, spec in zip(values, specs, strict=True):
            shape = tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)
            assert value.name == spec.name
            assert shape == (spec.shape if options.dynamic else spec.shape_at(1, 64, 96))
    samples = [node for node in model.graph.node if node.op_type == "GridSample"]
    assert len(samples) == {"contextnet": 4, "unet": 0, "refine": 8, "interpolator": 14}[graph]
    for node in samples:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        assert attributes == {"mode": b"bilinear", "padding_mode": b"border", "align_corners": 1}


@pytest.mark.parametrize("graph", MARKED)
def test_constants_are_folded_and_shared(exported, graph):
    """A static file computes no sizes, a dynamic one no weights; no grid larger than a row or a column is stored."""
    static = exported(graph, STATIC)
    assert not {"Shape", "Range", "Constant", "Identity", "Cast"} & {node.op_type for node in static.graph.node}
    for model in (static, exported(graph, DYNAMIC)):
        weights = {name: value for name, value in _initializers(model).items() if value.size > 2 * 96}
        assert all(name.endswith(("weight", "bias")) for name in weights)
        assert not {"Constant", "Identity"} & {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("graph", MARKED)
def test_weights_carry_the_checkpoints_keys(references, exported, graph):
    """Every tensor of the checkpoint that the graph uses is an initializer of the same name and value."""
    state = references(architecture_of(graph)).state_dict()
    used = {
        "contextnet": ("contextnet.",),
        "unet": ("unet.",),
        "refine": ("contextnet.", "unet."),
    }.get(graph, ("block0.", "block1.", "block2.", "contextnet.", "unet."))
    found = _initializers(exported(graph, DYNAMIC))
    for key, tensor in state.items():
        if key.startswith(used):
            assert np.array_equal(found[key].reshape(tensor.shape), tensor.numpy()), key
        else:
            assert key not in found


def _initializers(model):
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_nothing_of_the_machine(exported):
    """Paths and stack traces of the exporter are gone; names come from the modules."""
    model = exported("contextnet", DYNAMIC)
    content = model.SerializeToString()
    for trace in (b".py", b"stack_trace", b"/home", b"torch.nn"):
        assert trace not in content
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert "contextnet.conv1.conv1.0/Conv" in names


def test_the_same_weights_give_the_same_bytes(references, exported):
    first, again = exported("contextnet", STATIC), onnx_from_network(references("IFNet"), "contextnet", STATIC)
    assert first.graph.SerializeToString(deterministic=True) == again.graph.SerializeToString(deterministic=True)


class Baked(nn.Module):
    """Contextnet, with something that depends on the traced size."""

    def __init__(self, reference: nn.Module, change) -> None:
        super().__init__()
        self.contextnet = reference.get_submodule("contextnet")
        self.change = change

    def forward(self, image, flow):
        return tuple(self.contextnet(*self.change(image, flow)))


BAKED = {
    "constant": lambda image, flow: (image * torch.linspace(0, 1, image.shape[-1]), flow),
    "difference": lambda image, flow: (image * float(image.shape[-1] - image.shape[-2]), flow),
    "branch": lambda image, flow: (image * 2 if image.shape[-1] <= 192 else image, flow),
    "batch": lambda image, flow: (image / image.shape[0], flow),
}


@pytest.mark.parametrize(
    "change", [pytest.param(name, marks=pytest.mark.slow) for name in BAKED if name != "batch"] + ["batch"]
)
def test_a_size_that_is_baked_in_is_refused(references, monkeypatch, change):
    """Two traces of different sizes are not the same graph."""
    monkeypatch.setitem(graph_modules.MODULES, "contextnet", lambda reference: Baked(reference, BAKED[change]))
    with refused("baked-size", InternalError):
        onnx_from_network(references("IFNet"), "contextnet", DYNAMIC)


def test_a_size_that_is_baked_in_is_fine_in_a_static_file(references, monkeypatch):
    monkeypatch.setitem(graph_modules.MODULES, "contextnet", lambda reference: Baked(reference, BAKED["constant"]))
    onnx_from_network(references("IFNet"), "contextnet", STATIC)


def resized(image, flow):
    smaller = nn.functional.interpolate(image, scale_factor=0.5, mode="nearest")
    return nn.functional.interpolate(smaller, scale_factor=2.0, mode="nearest"), flow


def test_another_interpolation_is_refused(references, monkeypatch):
    """Only the networks' own bilinear resize has a form without sizes; another is not silently made bilinear."""
    monkeypatch.setitem(graph_modules.MODULES, "contextnet", lambda reference: Baked(reference, resized))
    with pytest.raises(Exception, match="has no form without sizes"):
        onnx_from_network(references("IFNet"), "contextnet", STATIC)


@pytest.mark.parametrize("wrong", [{"size": "0x64"}, {"size": "big"}, {"batch": 0}, {"dynamic": True, "size": "64x96"}])
def test_options_refuse(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} is"):
        ExportOptions(**({"dynamic": False} | wrong))


def test_a_static_export_needs_a_size(references):
    with refused("missing-size", InternalError):
        onnx_from_network(references("IFNet"), "unet", ExportOptions(dynamic=False))
