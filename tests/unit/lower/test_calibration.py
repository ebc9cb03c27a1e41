"""Ranges that feeds show: NaN is found anywhere, empty tensors and taken names are no obstacle."""

import pytest

from refine_export.errors import RequestError
from refine_export.graph.prepare import float_values
from refine_export.graph.tensor_ranges import MEASURES, with_ranges
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import calibrated, lower
from tests.support.foreign import CONV, GRID, IMAGE, SAMPLE
from tests.support.lowering_cases import error, ready, small, small_feeds, small_grid_feeds
from tests.support.refusals import refused


@pytest.mark.parametrize("place", [(0, 0, 0, 0), (0, 1, 7, 11), (0, 2, 15, 23)])
def test_a_nan_is_found_anywhere(place):
    """One NaN in one tensor: the maximum of ONNX Runtime passes over it."""
    bounds = "z = Constant <value_float = 0.0> () o = Constant <value_float = 1.0> ()"
    model, prepared = small(f"{bounds} r = Sqrt (x) c = Clip (r, z, o) y = {CONV} (c, w)", feeds=False)
    feeds = small_feeds(model)
    calibrated(prepared, [("good", feeds)])
    feeds["x"][place] = -1
    with refused("not-finite", RequestError, feed="bad"):
        calibrated(prepared, [("bad", feeds)])


def test_there_has_to_be_a_feed():
    with refused("no-feeds", RequestError):
        calibrated(small(f"y = {CONV} (x, w)", feeds=False)[1], [])


def test_a_tensor_may_be_empty():
    ends = "a = Constant <value_ints = [0]> () k = Constant <value_ints = [2]> ()"
    _, prepared = small(f"{ends} e = Slice (x, a, a, k) c = Concat <axis = 2> (x, e) y = {CONV} (c, w)")
    assert prepared.ranges["e"].largest == 0
    assert 0 in prepared.ranges["e"].shape


def test_names_of_the_file_are_left_alone():
    """Tensors called as our measures and our constants would be are the file's own."""
    body = (
        f"h = Constant <value_float = -0.5> () c = {CONV} (x, w) s = {SAMPLE} (c, g) t = Mul (s, h) y = {CONV} (t, v)"
    )
    model, _ = small(body, f"{IMAGE}, {GRID}", feeds=False)
    names = {"h": "gather/float32_-1.0", "t": "range0/c/shape"}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    options = {"gridsample": "gather", "precision": "fp32"}
    prepared = ready(model, small_grid_feeds(), **options)
    assert prepared.ranges["range0/c/shape"].shape == (1, 3, 16, 24)
    assert error(model, lower(prepared, LowerOptions(**options)), small_grid_feeds()) < 1e-6


def test_tensors_are_measured_in_reverse():
    """ONNX Runtime begins with the last node: a tensor that is measured late is kept in memory until then."""
    _, prepared = small(f"c = {CONV} (x, w) y = {CONV} (c, v)", feeds=False)
    values = float_values(prepared.model.graph)
    copy, names = with_ranges(prepared.model, values)
    measured = [node.inputs[0].name for node in list(copy.graph)[-len(copy.graph.outputs) :: len(MEASURES)]]
    assert measured == names[::-1]
    outputs = [value.producer().inputs[0].name for value in copy.graph.outputs[:: len(MEASURES)]]
    assert outputs == names == [value.name for value in values]
