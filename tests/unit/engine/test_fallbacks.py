"""The first engine whose numbers are right is kept, and the result of each fallback is recorded."""

import pytest

from refine_export.engine.build_options import FALLBACKS, BuildOptions
from refine_export.engine.fallbacks import Numbers, fallbacks_of, first_exact
from refine_export.errors import GraphError, InternalError, RequestError, UnavailableError
from tests.support.refusals import refused


def numbers(max_abs=0.001, psnr_db=70.0, **more):
    return Numbers(feed="pair", output="frame", max_abs=max_abs, psnr_db=psnr_db, **more)


GOOD, BAD = numbers(), numbers(0.25, 12, reasons=("PSNR 12.00 dB, below 50",))


class Outcomes:
    """Fallbacks with given outcomes: an error of the build, of the comparison (in a list), or numbers."""

    def __init__(self, **outcomes):
        self.outcomes, self.built = outcomes, []

    def build(self, fallback):
        self.built.append(fallback)
        if isinstance(self.outcomes[fallback], BaseException):
            raise self.outcomes[fallback]
        return fallback

    def compare(self, engine):
        found = self.outcomes[engine]
        if found and isinstance(found[0], Exception):
            raise found[0]
        return found

    def choose(self, fallbacks=FALLBACKS):
        return first_exact(fallbacks, self.build, self.compare)


def test_the_first_that_passes_is_kept_and_no_other_is_built():
    outcomes = Outcomes(native=[GOOD, BAD], unfused=[BAD], gather=[GOOD])
    chosen = outcomes.choose()
    assert (chosen.engine, chosen.fallback, outcomes.built) == ("gather", "gather", ["native", "unfused", "gather"])
    assert [(one.fallback, one.status, one.numbers) for one in chosen.tried] == [
        ("native", "failed", (GOOD, BAD)),
        ("unfused", "failed", (BAD,)),
        ("gather", "passed", (GOOD,)),
    ]


@pytest.mark.parametrize(
    ("native", "status"),
    [
        (GraphError("no such operator"), "not built"),
        (UnavailableError("was killed by SIGSEGV"), "not built"),
        ([RequestError("could not run the engine")], "not run"),
        ([], "failed"),  # nothing compared is nothing passed
    ],
)
def test_what_cannot_be_built_or_run_is_recorded_and_the_next_is_tried(native, status):
    chosen = Outcomes(native=native, unfused=[GOOD]).choose()
    assert (chosen.fallback, chosen.tried[0].status, chosen.tried[0].numbers) == ("unfused", status, ())
    assert chosen.tried[0].reason


@pytest.mark.parametrize("error", [InternalError("ours"), KeyboardInterrupt()])
def test_bugs_and_ctrl_c_are_not_skipped(error):
    outcomes = Outcomes(native=error, unfused=[GOOD])
    with pytest.raises(type(error)):
        outcomes.choose()
    assert outcomes.built == ["native"]


def test_one_output_that_the_validation_fails_is_enough():
    assert Outcomes(native=[GOOD, BAD], unfused=[GOOD]).choose().fallback == "unfused"
    with refused("no-exact-engine", RequestError):
        Outcomes(**{fallback: [BAD] for fallback in FALLBACKS}).choose()


def test_where_the_machine_lacks_something_each_time_that_is_the_error():
    missing = UnavailableError("no GPU", code="no-gpu")
    with refused("no-engine", UnavailableError):
        Outcomes(**dict.fromkeys(FALLBACKS, missing)).choose()
    with pytest.raises(UnavailableError) as caught:
        Outcomes(native=missing).choose(("native",))
    assert caught.value is missing


def test_what_the_parser_refuses_is_reported_once():
    unsupported = GraphError("no operator Unique", code="parser-refused")
    no_fp32 = RequestError("give --fp32", code="fp32-needed")
    with pytest.raises(GraphError) as caught:
        Outcomes(**dict.fromkeys(FALLBACKS, unsupported) | {"fp32": no_fp32}).choose()
    assert caught.value is unsupported


def test_a_forced_fallback_is_the_only_one():
    assert fallbacks_of(BuildOptions()) == FALLBACKS == ("native", "unfused", "gather", "fp32")
    assert fallbacks_of(BuildOptions(), compares=False) == ("native", "gather", "fp32")
    assert fallbacks_of(BuildOptions(fallback="gather"), compares=False) == ("gather",)


def test_without_execution_the_first_that_can_be_built_is_kept():
    outcomes = Outcomes(native=UnavailableError("the compiler failed"), gather=None)
    chosen = first_exact(("native", "gather"), outcomes.build, None)
    assert (chosen.engine, [one.status for one in chosen.tried]) == ("gather", ["not built", "not executed"])
    assert chosen.tried[1].numbers == ()
    broken = Outcomes(native=UnavailableError("the compiler failed"), gather=GraphError("no samplers"))
    with refused("no-engine", RequestError):
        first_exact(("native", "gather"), broken.build, None)
