"""Types that TensorRT inferred are compared with the file's, tensor by tensor: on TensorRT for RTX."""

import onnx
import pytest
from onnx import TensorProto, helper

from refine_export.engine.network_types import check_types
from refine_export.errors import GraphError
from tests.support.engine_models import model, needs_rtx, network_of, rtx_fixture  # noqa: F401 (fixture)
from tests.support.refusals import refused

pytestmark = needs_rtx


def declaring(**types: int) -> onnx.ModelProto:
    """The model, whose file promises other types for some tensors than TensorRT will infer."""
    made = model()
    made.graph.value_info.extend(helper.make_tensor_value_info(name, type_, None) for name, type_ in types.items())
    return made


def test_types_are_counted_by_kind(rtx):
    report = check_types(network_of(rtx, model()), model())
    assert report.types == {"CONVOLUTION HALF -> HALF": 1, "GRID_SAMPLE FLOAT FLOAT -> FLOAT": 1}
    assert report.layers == {"CAST": 2, "ACTIVATION": 1, "GRID_SAMPLE": 1, "CONVOLUTION": 1}
    assert report.unchecked == ()


@pytest.mark.parametrize(
    ("promised", "layer"),
    [({"features": TensorProto.FLOAT}, "the_features"), ({"moved": TensorProto.BFLOAT16}, "the_moved")],
)
def test_a_tensor_of_another_type_is_named_with_its_layer(rtx, promised, layer):
    with refused("engine-types", GraphError) as caught:
        check_types(network_of(rtx, model()), declaring(**promised))
    assert [line.partition(": ")[0] for line in caught.value.fields["tensors"]] == [layer]


def test_coordinates_of_16_bits_are_refused_although_the_file_has_them(rtx):
    made = model()
    for value in made.graph.input:
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    with refused("engine-types", GraphError):
        check_types(network_of(rtx, made), made)


def test_renamed_tensors_are_found_by_their_node(rtx, monkeypatch):
    network, real = network_of(rtx, model()), rtx.module.ITensor.name
    monkeypatch.setattr(rtx.module.ITensor, "name", property(lambda tensor: f"{real.fget(tensor)}_7"))
    assert check_types(network, model()).unchecked == ()
    other = declaring(features=TensorProto.FLOAT)
    with refused("engine-types", GraphError):
        check_types(network, other)
    for node in other.graph.node:
        node.name = ""  # what cannot be found in the file is unchecked
    assert check_types(network, other).unchecked == ("the_moved", "the_features")
