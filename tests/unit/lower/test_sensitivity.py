"""The search finds few, cheap regions that reach the target, where errors are made up."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refine_export.accuracy.metrics import psnr_from_mse
from refine_export.lower.fp32_islands import Accuracy, Region, Search, search
from refine_export.lower.lower_options import LowerOptions
from refine_export.support.progress import Silent


class Log(Silent):
    """Progress that remembers its steps."""

    def __init__(self) -> None:
        self.labels: list[str] = []

    @contextmanager
    def step(self, label: str):
        self.labels.append(label)
        yield lambda _: None


def region(name: str, cost: float = 0.1) -> Region:
    return Region(name, (f"{name}/conv", f"{name}/act"), cost / 2, cost / 2)


@dataclass
class Fake:
    """Mean squared errors that add up: of each region while it is FP16, and of groups unless all of one are FP32."""

    alone: Mapping[str, float]
    together: Mapping[tuple[str, ...], float] = field(default_factory=dict)
    floor: float = 0.0
    """What no region takes away."""
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def __call__(self, regions: Sequence[Region]) -> Accuracy:
        names = {each.name for each in regions}
        self.asked.append(tuple(sorted(names)))
        squared = self.floor + sum(error for name, error in self.alone.items() if name not in names)
        squared += sum(error for group, error in self.together.items() if not set(group) <= names)
        return Accuracy(psnr_from_mse(squared), 10 * math.sqrt(squared))

    def search(self, target: float, **costs: float) -> Search:
        names = dict.fromkeys([*self.alone, *itertools.chain(*self.together)])
        regions = [region(name, costs.get(name, 0.1)) for name in names]
        return search(regions, self, LowerOptions(target_psnr_db=target), Log())


def chosen(found: Search) -> set[str]:
    return {step.region for step in found.steps}


def test_the_worst_region_alone_is_enough():
    """Errors that add up: the one that makes the most is taken, and the target is met without another."""
    fake = Fake({"a": 1e-5, "b": 1e-3, "c": 1e-5})
    found = fake.search(45)
    assert found.reached
    assert chosen(found) == {"b"}
    assert found.islands == ("b/conv", "b/act")
    assert found.start.psnr_db == pytest.approx(psnr_from_mse(1.02e-3))
    assert found.final.psnr_db == pytest.approx(psnr_from_mse(2e-5))
    assert found.bound.psnr_db == math.inf
    step = found.steps[0]
    assert step.alone_db == pytest.approx(found.final.psnr_db - found.start.psnr_db)
    assert (step.psnr_db, step.max_error) == (found.final.psnr_db, found.final.max_error)
    assert (step.macs_share, step.bytes_share) == (0.05, 0.05)


def test_cheap_regions_come_first():
    """Of two that remove nearly the same error the cheaper is taken."""
    assert chosen(Fake({"a": 1.1e-4, "b": 1e-4, "c": 1e-6}).search(39, a=0.5, b=0.01)) == {"b"}
    assert chosen(Fake({"a": 1.1e-4, "b": 1e-4, "c": 1e-6}).search(39, a=0.01, b=0.5)) == {"a"}


def test_regions_are_added_until_the_target_is_met():
    """Each step of the table has the accuracy of all down to it; the last is the result."""
    fake = Fake({"a": 1e-3, "b": 3e-4, "c": 1e-4, "d": 1e-7})
    found = fake.search(60)
    assert [step.region for step in found.steps] == ["a", "b", "c"]
    expected = [psnr_from_mse(4e-4 + 1e-7 + k) for k in (0, -3e-4, -4e-4)]
    assert [step.psnr_db for step in found.steps] == pytest.approx(expected)
    assert found.final.psnr_db == found.steps[-1].psnr_db >= 60
    assert found.islands == tuple(f"{name}/{node}" for name in "abc" for node in ("conv", "act"))


def test_what_is_not_needed_is_taken_out():
    """Two that were good alone may be of no use beside a third: they leave again, the dearest first."""

    def bench(regions: Sequence[Region]) -> Accuracy:
        names = {each.name for each in regions}
        squared = 1e-3 if not names else 1e-8 if "all" in names else 1e-4 if names == {"x", "y"} else 5e-4
        return Accuracy(psnr_from_mse(squared), math.sqrt(squared))

    regions = [region("x", 0.01), region("y", 0.02), region("all", 0.9)]
    found = search(regions, bench, LowerOptions(target_psnr_db=70), Log())
    assert found.reached
    assert chosen(found) == {"all"}
    assert found.final.psnr_db == pytest.approx(80)


def test_regions_that_help_only_together():
    """Neither of two helps alone: both are found, from the set of all, and nothing else is kept."""
    fake = Fake({"c": 1e-9, "d": 1e-9}, {("a", "b"): 1e-3})
    found = fake.search(70)
    assert found.reached
    assert chosen(found) == {"a", "b"}
    assert found.final.psnr_db >= 70


def test_synergy_beside_a_region_that_helps_alone():
    """One helps alone, two only together, and all three are needed."""
    fake = Fake({"c": 1e-3, "d": 1e-9}, {("a", "b"): 1e-4})
    found = fake.search(70)
    assert found.reached
    assert chosen(found) == {"a", "b", "c"}


def test_a_target_out_of_reach():
    """Every region is FP32, and it says so; none is measured by itself, for no set of them could do better."""
    fake = Fake({"a": 1e-3, "b": 1e-4}, floor=1e-6)
    found = fake.search(70)
    assert not found.reached
    assert found.final == found.bound == Accuracy(pytest.approx(60), pytest.approx(1e-2))
    assert found.islands == ("a/conv", "a/act", "b/conv", "b/act")
    assert found.steps == ()
    assert fake.asked == [(), ("a", "b")]


def test_a_target_that_is_met_already():
    """No region is FP32, and one measurement is all it takes."""
    fake = Fake({"a": 1e-6})
    found = fake.search(50)
    assert found.reached
    assert found.islands == found.steps == ()
    assert found.final == found.start
    assert fake.asked == [()]


def test_the_largest_error_may_be_the_target():
    """By the largest error alone, and by both: then each has to be met."""
    fake = Fake({"a": 1e-4, "b": 1e-8})
    options = LowerOptions(max_error=0.01)
    found = search([region("a"), region("b")], fake, options, Log())
    assert found.reached
    assert chosen(found) == {"a"}
    assert found.final.max_error <= 0.01
    both = LowerOptions(max_error=1e-5, target_psnr_db=50)
    assert chosen(search([region("a"), region("b")], fake, both, Log())) == {"a", "b"}


def test_results_that_are_not_finite():
    """Two regions overflow, each makes all infinite: both are found, though neither alone removes any error."""

    def bench(regions: Sequence[Region]) -> Accuracy:
        names = {each.name for each in regions}
        return Accuracy(60.0, 0.001) if {"hot", "too"} <= names else Accuracy(-math.inf, math.inf)

    found = search([region(name) for name in ("a", "hot", "b", "too")], bench, LowerOptions(target_psnr_db=50), Log())
    assert found.reached
    assert chosen(found) == {"hot", "too"}
    assert found.start == Accuracy(-math.inf, math.inf)


errors = st.floats(1e-9, 1e-2)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    st.dictionaries(st.sampled_from("abcdef"), errors, min_size=1),
    st.dictionaries(st.sampled_from([("a", "b"), ("c", "d"), ("b", "e", "f")]), errors),
    st.sampled_from([0.0, 1e-8, 1e-5]),
    st.floats(21, 90),
    st.lists(st.floats(0.01, 1), min_size=6, max_size=6),
)
def test_any_search(alone, together, floor, target, costs):
    """Met exactly where all regions meet it; what is kept meets it, each kept region is needed, the table is true."""
    fake = Fake(alone, together, floor)
    found = fake.search(target, **dict(zip("abcdef", costs, strict=True)))
    assert found.reached == (max(found.start.psnr_db, found.bound.psnr_db) >= target)
    kept = [region(name) for name in (step.region for step in found.steps)]
    assert found.islands == tuple(node for each in kept for node in each.nodes) or not found.reached
    if not found.reached:
        return
    assert fake(kept) == found.final
    assert found.final.psnr_db >= target
    for each in kept:
        assert fake([other for other in kept if other is not each]).psnr_db < target
    for number, step in enumerate(found.steps, 1):
        assert fake(kept[:number]) == Accuracy(step.psnr_db, step.max_error)


def test_progress_names_each_measurement():
    """Someone who waits sees what is measured and how many are to come."""
    log = Log()
    search([region("a"), region("b")], Fake({"a": 1e-4, "b": 1e-7}), LowerOptions(target_psnr_db=60), log)
    assert log.labels == [
        "strict FP16, by the rule alone",
        "strict FP16, every region in FP32",
        "region 1 of 2 in FP32: a",
        "region 2 of 2 in FP32: b",
        "with 1 regions in FP32, the last a",
        "without a",
    ]
