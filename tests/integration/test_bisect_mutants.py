"""Bisect finds every fault in the refinement and the interpolator.

The same in each form of file, on the smallest graph: tests/unit/bisect/test_bisection.py.
"""

import onnx
import pytest

from refine_export.data.feeds import feeds_for
from refine_export.export.reference_network import signature_of_network
from refine_export.self_test.mutants import mutants_of
from tests.support.bisect_cases import bisected, check_found, lowered

ALL = ["nearest", "zeros-padding", "align-corners", "fp16-coordinates", "swapped-flows", "weight", "bgr"]


@pytest.mark.parametrize(
    ("architecture", "graph", "form", "names"),
    [
        ("IFNet", "refine", "fp16, gather", ALL),
        ("IFNet_m", "interpolator", "fp16", ["nearest", "swapped-flows", "weight", "fixed-timestep"]),
    ],
)
def test_each_mutant_is_found_at_its_node(architecture, graph, form, names, exports, references, pair_at):
    model = onnx.load(exports.fp32(graph, architecture=architecture, size="64x96"))
    reference = references(architecture)
    signature = signature_of_network(reference, graph)
    made_feeds = feeds_for(reference, signature, pair_at(64, 96), kinds=("outside",), timesteps=(0.2,))
    feeds = [feed.inputs for feed in made_feeds]
    made, runtime = lowered(model, graph, feeds, form)
    good = bisected(model, made, feeds, runtime)
    assert good.passed
    assert good.not_compared == 0
    mutants = {mutant.name: mutant for mutant in mutants_of(made, graph)}
    assert mutants.keys() >= set(names)
    for name in names:
        check_found(made, mutants[name], bisected(model, mutants[name].model, feeds, runtime))
