"""The advice of messages that takes seconds to follow."""

import pytest

from tests.support.advice import follow
from tests.support.advice_cases import FOLLOWED_SLOWLY
from tests.support.advice_situations import here_fixture, own_fixture  # noqa: F401 (fixtures)
from tests.support.engine_models import needs_rtx

ENGINES = ("onnx_source.py", "output_files.py", "plan.py", "refit_engine.py")


@pytest.mark.parametrize(
    "advice",
    [pytest.param(name, marks=needs_rtx if name.startswith(ENGINES) else ()) for name in FOLLOWED_SLOWLY],
)
def test_advice_helps_where_it_is_followed(advice, command, here, request, capfd):
    for case in FOLLOWED_SLOWLY[advice]:
        case.prepare(request)
        capfd.readouterr()
        follow(advice, case, command)
