"""Options of measuring speed and memory."""

import pytest

from refine_export.bench.bench_options import BenchOptions
from refine_export.jobs.job_options import options_from_keywords
from tests.support.refusals import refused


@pytest.mark.parametrize(
    "given",
    [
        {"sizes": ["large"]},
        {"sizes": ["64x96", "64x96"]},
        {"batches": [0]},
        {"batches": [257]},
        {"torch": []},
        {"torch": ["none", "eager"]},
        {"torch": ["script"]},
        {"runtimes": ["half", "half"]},
        {"rounds": 4},
    ],
)
def test_values_that_make_no_sense_are_refused(given):
    with refused("wrong-option"):
        options_from_keywords(BenchOptions, given)
