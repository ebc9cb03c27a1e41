"""The ladder keeps the first rung whose numbers are right, and records what became of each."""

from __future__ import annotations

import json
import math

import pytest

from refine_export.engine.build_options import RUNGS, BuildOptions
from refine_export.engine.fallbacks import Numbers, climb, rungs_of
from refine_export.errors import GraphError, InternalError, RequestError, UnavailableError
from refine_export.validate.comparison import Limits

LIMITS = Limits(max_abs=0.01, psnr_db=50)
GOOD = Numbers(feed="pair", output="frame", max_abs=0.001, psnr_db=70)
BAD = Numbers(feed="pair", output="frame", max_abs=0.25, psnr_db=12)


class Hill:
    """Rungs with given outcomes, and a note of what was called."""

    def __init__(self, **outcomes):
        self.outcomes, self.built, self.compared = outcomes, [], []

    def build(self, rung):
        self.built.append(rung)
        outcome = self.outcomes[rung]
        if isinstance(outcome, Exception):
            raise outcome
        return f"engine of {rung}"

    def compare(self, engine):
        self.compared.append(engine)
        outcome = self.outcomes[engine.removeprefix("engine of ")]
        if callable(outcome):
            outcome()
        return outcome

    def climb(self, rungs=RUNGS, limits=lambda rung: LIMITS):
        return climb(rungs, self.build, self.compare, limits)


def test_the_first_that_passes_is_kept_and_no_other_is_built():
    hill = Hill(native=[GOOD, BAD], unfused=[BAD], gather=[GOOD])
    climbed = hill.climb()
    assert (climbed.engine, climbed.rung) == ("engine of gather", "gather")
    assert hill.built == ["native", "unfused", "gather"]
    assert [(one.rung, one.status, one.numbers) for one in climbed.tried] == [
        ("native", "failed", (GOOD, BAD)),
        ("unfused", "failed", (BAD,)),
        ("gather", "passed", (GOOD,)),
    ]
    assert all(one.limits == LIMITS for one in climbed.tried)


@pytest.mark.parametrize("error", [GraphError("no such operator"), UnavailableError("was killed by SIGSEGV")])
def test_a_rung_that_cant_be_built_is_recorded_and_the_next_is_tried(error):
    climbed = Hill(native=error, unfused=[GOOD]).climb()
    assert climbed.rung == "unfused"
    assert (climbed.tried[0].status, climbed.tried[0].reason, climbed.tried[0].limits) == (
        "not built",
        str(error),
        None,
    )


def test_a_rung_that_cant_be_run_is_recorded_and_the_next_is_tried():
    def fails():
        raise RequestError("could not run the engine")

    climbed = Hill(native=fails, unfused=[GOOD]).climb()
    assert [one.status for one in climbed.tried] == ["not run", "passed"]


@pytest.mark.parametrize("error", [InternalError("ours"), KeyboardInterrupt()])
def test_bugs_and_ctrl_c_are_no_rungs_to_skip(error):
    hill = Hill(native=None, unfused=[GOOD])

    def build(rung):
        hill.built.append(rung)
        raise error

    with pytest.raises(type(error)):
        climb(RUNGS, build, hill.compare, lambda rung: LIMITS)
    assert hill.built == ["native"]


@pytest.mark.parametrize(
    "numbers",
    [
        Numbers(feed="a", output="b", max_abs=math.nan, psnr_db=70),
        Numbers(feed="a", output="b", max_abs=0.001, psnr_db=math.nan),
        Numbers(feed="a", output="b", max_abs=0.011, psnr_db=70),
        Numbers(feed="a", output="b", max_abs=0.001, psnr_db=49.9),
    ],
)
def test_each_number_has_to_keep_its_limit(numbers):
    assert Hill(native=[GOOD, numbers], unfused=[GOOD]).climb().rung == "unfused"


def test_numbers_at_the_limit_pass_and_infinite_psnr_too():
    edge = Numbers(feed="a", output="b", max_abs=0.01, psnr_db=50)
    same = Numbers(feed="a", output="b", max_abs=0.0, psnr_db=math.inf)
    assert Hill(native=[edge, same]).climb().rung == "native"


def test_nothing_compared_is_nothing_passed():
    climbed = Hill(native=[], unfused=[GOOD]).climb()
    assert (climbed.rung, climbed.tried[0].status, climbed.tried[0].reason) == (
        "unfused",
        "failed",
        "nothing was compared",
    )


def test_each_rung_has_limits_of_its_own():
    strict = Limits(max_abs=1e-5, psnr_db=100)
    hill = Hill(native=[BAD], unfused=[BAD], gather=[BAD], fp32=[GOOD])
    with pytest.raises(RequestError, match="fp32 failed: max_abs 0.001 .at most 1e-05., 70.0 dB .at least 100."):
        hill.climb(limits=lambda rung: strict if rung == "fp32" else LIMITS)


def test_where_none_passes_the_message_has_the_numbers_of_each():
    hill = Hill(native=[GOOD, BAD], unfused=GraphError("refused"), gather=[], fp32=[BAD])
    with pytest.raises(RequestError) as caught:
        hill.climb()
    for words in (
        "native failed: max_abs 0.25 (at most 0.01), 12.0 dB (at least 50)",
        "unfused not built: refused",
        "gather failed: nothing was compared",
        "fp32 failed: max_abs 0.25",
    ):
        assert words in str(caught.value)


def test_a_nan_is_named_whatever_stands_beside_it():
    nan = Numbers(feed="a", output="b", max_abs=math.nan, psnr_db=math.nan)
    with pytest.raises(RequestError, match="max_abs nan .*, nan dB"):
        Hill(native=[BAD, nan]).climb(("native",))


def test_where_the_machine_lacks_something_each_time_that_is_the_error():
    with pytest.raises(UnavailableError, match="native not built: no GPU"):
        Hill(**dict.fromkeys(RUNGS, UnavailableError("no GPU"))).climb()


def test_a_forced_rung_is_the_only_one():
    assert rungs_of(BuildOptions()) == RUNGS == ("native", "unfused", "gather", "fp32")
    assert rungs_of(BuildOptions(rung="gather")) == ("gather",)
    hill = Hill(gather=[BAD])
    with pytest.raises(RequestError, match="none of the rungs gather is exact enough"):
        hill.climb(rungs_of(BuildOptions(rung="gather")))
    assert hill.built == ["gather"]


def test_the_manifest_takes_all_of_it():
    """JSON without NaN and infinity."""
    nan = Numbers(feed="a", output="b", max_abs=math.nan, psnr_db=-math.inf)
    climbed = Hill(native=[nan], unfused=GraphError("refused"), gather=[GOOD]).climb()
    content = json.loads(json.dumps([one.to_dict() for one in climbed.tried], allow_nan=False))
    assert content[0]["numbers"] == [{"feed": "a", "output": "b", "max_abs": None, "psnr_db": None, "reasons": []}]
    assert content[0]["limits"].items() >= {"max_abs": 0.01, "psnr_db": 50}.items()
    assert content[1]["reason"] == "refused"
    assert content[2]["status"] == "passed"
