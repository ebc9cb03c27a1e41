"""Types that TensorRT inferred are compared with the file's, tensor by tensor."""

import pytest
from onnx import TensorProto

from refine_export.engine.bindings import Log
from refine_export.engine.network_types import check_types
from refine_export.engine.parse_network import network_from_onnx
from refine_export.errors import GraphError
from tests.support.engine_models import error_code, fake_library, model


def network_of(library, made):
    log = Log(library.module)
    return network_from_onnx(library.module, library.module.Builder(log.logger), log, made.SerializeToString()).network


@pytest.fixture
def library(monkeypatch):
    return fake_library(monkeypatch)


def test_types_are_counted_by_kind(library):
    report = check_types(network_of(library, model()), model())
    assert report.types == {"CONVOLUTION HALF HALF -> HALF": 1, "GRID_SAMPLE FLOAT FLOAT -> FLOAT": 1}
    assert report.layers == {"CAST": 2, "ACTIVATION": 1, "GRID_SAMPLE": 1, "CONVOLUTION": 1}
    assert report.unchecked == ()


@pytest.mark.parametrize(("tensor", "layer"), [("half", "the_features"), ("moved", "the_moved")])
def test_a_tensor_of_another_type_is_named_with_its_layer(library, tensor, layer):
    network = network_of(library, model())
    network._tensors[tensor].dtype = {"FLOAT": "BF16", "HALF": "FLOAT"}[network._tensors[tensor].dtype]
    with pytest.raises(GraphError) as caught:
        check_types(network, model())
    assert caught.value.code == "engine-types"
    assert [line.partition(": ")[0] for line in caught.value.fields["tensors"]] == [layer]


def test_coordinates_of_16_bits_are_refused_although_the_file_has_them(library):
    made = model()
    for value in made.graph.input:
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    assert error_code(GraphError, lambda: check_types(network_of(library, made), made)) == "engine-types"


def test_renamed_tensors_are_found_by_their_node(library, monkeypatch):
    network = network_of(library, model())
    monkeypatch.setattr(library.module.ITensor, "name", property(lambda tensor: f"{tensor._name}_7"))
    assert check_types(network, model()).unchecked == ()
    network._tensors["half"].dtype = "FLOAT"
    assert error_code(GraphError, lambda: check_types(network, model())) == "engine-types"


def test_what_the_file_does_not_declare_is_unchecked(library, monkeypatch):
    network = network_of(library, model())
    monkeypatch.setattr(library.module.ITensor, "name", property(lambda tensor: f"{tensor._name}_7"))
    other = model()
    for node in other.graph.node:
        node.name = ""
    assert check_types(network, other).unchecked == ("the_moved", "the_features")
