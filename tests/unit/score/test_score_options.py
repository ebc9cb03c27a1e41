"""Options of scoring."""

import pytest

from refine_export.jobs.job_options import options_from_keywords
from refine_export.score.score_options import ScoreOptions
from tests.support.refusals import refused


@pytest.mark.parametrize(
    "given",
    [{"limit": 0}, {"layout": "imagenet"}, {"max_loss_db": -1.0}, {"runtimes": ["half", "half"]}, {"device": 1}],
)
def test_values_that_make_no_sense_are_refused(given):
    with refused("wrong-option"):
        options_from_keywords(ScoreOptions, given)
