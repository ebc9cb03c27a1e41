"""Bisect finds every fault in the refinement and the interpolator, in each form of file.

The same on the smallest graph: tests/unit/bisect/test_bisection.py.
"""

import onnx
import pytest

from refine_export.data.feeds import feeds_for
from refine_export.export.reference_network import signature_of_network
from refine_export.self_test.mutants import mutants_of
from tests.support.bisect_cases import FORMS, bisected, check_found, lowered

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("architecture", "graph", "form"),
    [*(("IFNet", "refine", form) for form in FORMS), ("IFNet_m", "interpolator", "fp16")],
)
def test_each_mutant_is_found_at_its_node(architecture, graph, form, exports, references, pair_at):
    model = onnx.load(exports.fp32(graph, architecture=architecture, size="64x96"))
    reference = references(architecture)
    signature = signature_of_network(reference, graph)
    made_feeds = feeds_for(reference, signature, pair_at(64, 96), kinds=("large", "outside"), timesteps=(0.5, 0.2))
    feeds = [feed.inputs for feed in made_feeds]
    made, runtime = lowered(model, graph, feeds, form)
    good = bisected(model, made, feeds, runtime)
    assert good.passed
    assert good.not_compared == 0
    mutants = list(mutants_of(made, graph))
    assert len(mutants) == (8 if graph == "interpolator" else 7)
    for mutant in mutants:
        check_found(made, mutant, bisected(model, mutant.model, feeds, runtime))
