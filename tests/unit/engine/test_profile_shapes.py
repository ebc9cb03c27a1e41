"""Each input gets the shapes that the options mean for it; what contradicts itself is refused before a build."""

from typing import Any

import pytest

from refine_export.engine.build_options import BuildOptions
from refine_export.engine.profile_shapes import InputShapes, shapes_from_options
from refine_export.errors import GraphError
from refine_export.signature import SIGNATURES, GraphName, Signature, TensorInfo, signature_of
from tests.support.refusals import refused

RANGE = BuildOptions(min_size="64x96", opt_size="256x448", max_size="512x512", min_batch=1, opt_batch=2, max_batch=4)


def info(name: str, *shape: int | str) -> TensorInfo:
    return TensorInfo(name=name, dtype="float32", shape=shape)


def inputs_of(graph: GraphName, at: tuple[int, int, int] | None = None) -> list[TensorInfo]:
    return [info(s.name, *(s.shape if at is None else s.shape_at(*at))) for s in SIGNATURES[graph].inputs]


def shapes(inputs: list[TensorInfo], signature: Signature | None, **options: Any) -> dict[str, InputShapes]:
    return {one.name: one for one in shapes_from_options(inputs, BuildOptions(**options), signature)}


@pytest.mark.parametrize("graph", list(SIGNATURES))
def test_a_dynamic_file_takes_the_options(graph):
    found = shapes_from_options(inputs_of(graph), RANGE, SIGNATURES[graph])
    assert any(shape.dynamic for shape in found)
    for shape, spec in zip(found, SIGNATURES[graph].inputs, strict=True):
        assert shape.name == spec.name
        assert shape.minimum == spec.shape_at(1, 64, 96)
        assert shape.optimum == spec.shape_at(2, 256, 448)
        assert shape.maximum == spec.shape_at(4, 512, 512)


def test_features_are_smaller_than_the_frame_and_the_timestep_is_a_number():
    assert shapes(inputs_of("unet"), SIGNATURES["unet"])["c1_3"].optimum == (1, 64, 136, 240)
    timed = signature_of("interpolator", timestep=True)
    timestep = shapes([info(spec.name, *spec.shape) for spec in timed.inputs], timed, max_batch=4)["timestep"]
    assert (timestep.minimum, timestep.maximum, timestep.dynamic) == ((1, 1, 1, 1), (4, 1, 1, 1), True)


@pytest.mark.parametrize("graph", list(SIGNATURES))
def test_a_static_file_has_its_own_sizes_and_no_profile(graph):
    """Options at their defaults (1088x1920) count as not given."""
    found = shapes_from_options(inputs_of(graph, (2, 256, 448)), BuildOptions(), SIGNATURES[graph])
    assert not any(shape.dynamic for shape in found)
    for shape, spec in zip(found, SIGNATURES[graph].inputs, strict=True):
        assert shape.minimum == shape.optimum == shape.maximum == spec.shape_at(2, 256, 448)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"opt_size": "512x448"}, "opt_size is 512x448"),
        ({"opt_size": "256x448", "min_size": "64x448"}, "min_size is 64x448"),
        ({"max_batch": 2}, "max_batch is 2"),
    ],
)
def test_options_that_disagree_with_a_static_file_are_refused(options, named):
    with refused("bad-shape", GraphError) as caught:
        shapes(inputs_of("refine", (1, 256, 448)), SIGNATURES["refine"], **options)
    assert named in str(caught.value)


def test_options_that_agree_with_a_static_file_are_taken():
    found = shapes(
        inputs_of("refine", (2, 256, 448)), SIGNATURES["refine"], opt_size="256x448", opt_batch=2, max_batch=2
    )
    assert found["flow"].optimum == (2, 4, 256, 448)


def test_a_file_with_a_fixed_size_and_a_free_batch():
    found = shapes(
        [info("img0", "N", 3, 64, 96), info("img1", "N", 3, 64, 96)], SIGNATURES["interpolator"], max_batch=4
    )
    assert (found["img0"].minimum, found["img1"].maximum) == ((1, 3, 64, 96), (4, 3, 64, 96))
    assert found["img0"].dynamic


def test_a_static_file_whose_sizes_are_no_multiples_is_refused():
    inputs = inputs_of("interpolator", (1, 256, 450))
    with refused("bad-shape", GraphError):
        shapes(inputs, SIGNATURES["interpolator"])


@pytest.mark.parametrize(
    ("inputs", "graph"),
    [
        ([info("img0", 1, 3, 64, 96), info("img1", 1, 3, 64, 64)], "interpolator"),
        ([info("img0", 1, 1, 64, 96), info("img1", 1, 3, 64, 96)], "interpolator"),
        ([info("img0", 1, 3, 64), info("img1", 1, 3, 64, 96)], "interpolator"),
        ([info("img0", 1, 3, 64, 96)], "interpolator"),
        ([info("x", "N", "C", 64, 96)], None),
        ([info("points", "K", 2)], None),
        ([info("x", 1, 3, "H/2", "W/2")], None),
        ([info("x", 1, 3, 0, 96)], None),
        ([info("x", "N", 3, "S", "S")], None),  # one name, two sizes
    ],
)
def test_shapes_that_nobody_can_fill_in_are_refused(inputs, graph):
    with refused("bad-shape", GraphError):
        shapes(inputs, graph and SIGNATURES[graph])


def test_other_graphs_take_batch_height_and_width_at_their_places():
    """A fixed timestep does not make frames of height 1, and fixed inputs of any rank stay as they are."""
    inputs = [info("t", "b", 1, 1, 1), info("x", "b", 6, "h", "?"), info("table", 5, 7), info("one", 1, 1, 1, 1)]
    found = shapes(inputs, None, opt_size="64x96", max_batch=2)
    assert [found[name].optimum for name in found] == [(1, 1, 1, 1), (1, 6, 64, 96), (5, 7), (1, 1, 1, 1)]
    assert found["t"].maximum == (2, 1, 1, 1)
    assert [found[name].dynamic for name in found] == [True, True, False, False]


def test_other_static_graphs_may_have_any_size():
    assert shapes([info("x", 1, 3, 270, 480)], None)["x"].maximum == (1, 3, 270, 480)
    inputs = [info("x", 1, 3, 270, 480)]
    with refused("bad-shape", GraphError):
        shapes(inputs, None, opt_size="256x448")
