"""The checks that every lowered graph passes fail where they have to."""

import numpy as np
import pytest
from onnx import numpy_helper

from tests.support.foreign import IMAGE, SAMPLE, model_of
from tests.support.lowering_cases import FIRST, foreign_case
from tests.support.lowering_checks import (
    assert_casts,
    assert_convolutions,
    assert_coordinates,
    assert_inputs_and_outputs,
    typed,
)

BAD = {
    "twice": "a = Cast <to = 10> (x) b = Cast <to = 10> (x) c = Add (a, b) y = Cast <to = 1> (c)",
    "a constant": "a = Cast <to = 10> (i) b = Cast <to = 10> (x) c = Add (a, b) y = Cast <to = 1> (c)",
    "casts a cast": "a = Cast <to = 10> (x) y = Cast <to = 1> (a)",
    "changes nothing": "a = Cast <to = 1> (x) y = Relu (a)",
    "not used": "a = Relu (x) y = Neg (x)",
}


@pytest.mark.parametrize("words", BAD)
def test_the_check_of_casts_fails(words):
    """Each fault of the casts is found by the check that the graphs above pass."""
    model = model_of(BAD[words], IMAGE)
    if words == "a constant":
        model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "i"))
    with pytest.raises(AssertionError, match=words):
        assert_casts(typed(model))


def test_the_other_checks_fail():
    """FP32 convolutions, an FP16 GridSample, a renamed input and a changed type are found."""
    here = foreign_case(FIRST)
    with pytest.raises(AssertionError):
        assert_convolutions(typed(here.model))
    half = "h = Cast <to = 10> (x) i = Cast <to = 10> (g)"
    sampled = model_of(f"{half} s = {SAMPLE} (h, i) y = Cast <to = 1> (s)")
    with pytest.raises(AssertionError):
        assert_coordinates(typed(sampled))
    lowered = here.lowered(io="fp16").model
    with pytest.raises(AssertionError):
        assert_inputs_and_outputs(here.model, lowered, set())
    lowered.graph.input[0].name = "other"
    with pytest.raises(AssertionError):
        assert_inputs_and_outputs(here.model, lowered, {"img0", "img1", "output"})
