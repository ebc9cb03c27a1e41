"""The search finds few, cheap regions that reach the target: on errors that are made up, and on real graphs."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refine_export.accuracy.metrics import distance, peak_of, psnr_from_mse
from refine_export.data.feeds import feeds_for
from refine_export.lower.fp32_islands import Accuracy, Bench, Region, Search, regions_of, search
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import Prepared, calibrated, lower, prepare_model
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.strict_fp16 import HalfRunner
from refine_export.signature import SIGNATURES, Signature
from refine_export.support.progress import Silent
from tests.support.foreign import Foreign, foreign_feeds, foreign_model

STATIC = Foreign(size=(64, 96))
FP16 = LowerOptions()


def region(name: str, cost: float = 0.1) -> Region:
    return Region(name, (f"{name}/conv", f"{name}/act"), cost / 2, cost / 2)


@dataclass
class Fake:
    """Mean squared errors that add up: of each region while it is FP16, and of groups unless all of one are FP32."""

    alone: Mapping[str, float]
    together: Mapping[tuple[str, ...], float] = field(default_factory=dict)
    floor: float = 0.0
    """The error that no region removes."""
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def __call__(self, regions: Sequence[Region], size: str = "") -> Accuracy:
        names = {each.name for each in regions}
        self.asked.append(tuple(sorted(names)))
        squared = self.floor + sum(error for name, error in self.alone.items() if name not in names)
        squared += sum(error for group, error in self.together.items() if not set(group) <= names)
        return Accuracy(psnr_from_mse(squared), 10 * math.sqrt(squared))

    def search(self, target: float, **costs: float) -> Search:
        names = dict.fromkeys([*self.alone, *itertools.chain(*self.together)])
        regions = [region(name, costs.get(name, 0.1)) for name in names]
        return search(regions, self, LowerOptions(target_psnr_db=target), Silent())


@dataclass
class Sized(Fake):
    """The same error, times a factor that depends on the size."""

    factors: Mapping[str, float] = field(default_factory=dict)
    asked_at: list[str] = field(default_factory=list)

    def __call__(self, regions: Sequence[Region], size: str = "") -> Accuracy:
        self.asked_at.append(size)
        accuracy = super().__call__(regions)
        return Accuracy(psnr_from_mse(accuracy.squared * self.factors.get(size, 1.0)), 1.0)


def chosen(found: Search) -> set[str]:
    return {step.region for step in found.steps}


def test_steps_state_what_each_region_brings():
    found = Fake({"a": 1e-5, "b": 1e-3, "c": 1e-5}).search(45)
    assert (found.reached, chosen(found), found.islands) == (True, {"b"}, ("b/conv", "b/act"))
    assert found.start.psnr_db == pytest.approx(psnr_from_mse(1.02e-3))
    assert found.final.psnr_db == pytest.approx(psnr_from_mse(2e-5))
    assert found.bound.psnr_db == math.inf
    step = found.steps[0]
    assert step.alone_db == pytest.approx(found.final.psnr_db - found.start.psnr_db)
    assert (step.psnr_db, step.max_error) == (found.final.psnr_db, found.final.max_error)
    assert (step.macs_share, step.bytes_share) == (0.05, 0.05)


def test_the_target_holds_at_every_size():
    """Searched at the smallest size that misses it; larger ones take more regions in the same order."""
    fake = Sized({"a": 1e-5, "b": 4e-6, "c": 2e-6, "d": 1e-8}, factors={"s": 1.0, "m": 10.0, "l": 100.0})
    regions = [region(name) for name in "abcd"]
    options = LowerOptions(target_psnr_db=45, sizes=("64x64", "128x128"))
    found = search(regions, fake, options, Silent(), ("s", "m", "l"))
    assert (found.reached, found.size, list(found.at_sizes)) == (True, "m", ["s", "m", "l"])
    assert all(accuracy.psnr_db >= 45 for accuracy in found.at_sizes.values())
    assert chosen(found) == {"a", "b"} | {"c"}
    assert fake.asked_at.count("l") <= 4
    missed = search(regions, Sized({"a": 1e-5}, floor=1e-5, factors={"l": 100.0}), options, Silent(), ("l",))
    assert (missed.reached, missed.size) == (False, "l")
    easy = search(regions, fake, LowerOptions(target_psnr_db=20), Silent(), ("s", "m", "l"))
    assert (easy.reached, easy.islands, set(easy.at_sizes)) == (True, (), {"s", "m", "l"})


@pytest.mark.parametrize(
    ("fake", "target", "costs", "expected"),
    [
        (Fake({"a": 1e-3, "b": 3e-4, "c": 1e-4, "d": 1e-7}), 60, {}, "abc"),
        (Fake({"a": 1.1e-4, "b": 1e-4, "c": 1e-6}), 39, {"a": 0.5, "b": 0.01}, "b"),  # the cheaper of two
        (Fake({"a": 1.1e-4, "b": 1e-4, "c": 1e-6}), 39, {"a": 0.01, "b": 0.5}, "a"),
        (Fake({"c": 1e-9, "d": 1e-9}, {("a", "b"): 1e-3}), 70, {}, "ab"),  # two that help only together
        (Fake({"c": 1e-3, "d": 1e-9}, {("a", "b"): 1e-4}), 70, {}, "abc"),
    ],
)
def test_regions_that_are_needed_are_found(fake, target, costs, expected):
    found = fake.search(target, **costs)
    assert found.reached
    assert chosen(found) == set(expected)
    assert found.final.psnr_db == found.steps[-1].psnr_db >= target


def test_what_is_not_needed_is_taken_out():
    """Two that were good alone may be of no use beside a third: they leave again, the most expensive first."""

    def bench(regions: Sequence[Region], size: str = "") -> Accuracy:
        names = {each.name for each in regions}
        squared = 1e-3 if not names else 1e-8 if "all" in names else 1e-4 if names == {"x", "y"} else 5e-4
        return Accuracy(psnr_from_mse(squared), math.sqrt(squared))

    regions = [region("x", 0.01), region("y", 0.02), region("all", 0.9)]
    found = search(regions, bench, LowerOptions(target_psnr_db=70), Silent())
    assert chosen(found) == {"all"}
    assert found.final.psnr_db == pytest.approx(80)


def test_a_target_out_of_reach_or_met_already_takes_few_measurements():
    """Out of reach, every region is FP32: no set of them could do better."""
    fake = Fake({"a": 1e-3, "b": 1e-4}, floor=1e-6)
    found = fake.search(70)
    assert not found.reached
    assert found.final == found.bound == Accuracy(pytest.approx(60), pytest.approx(1e-2))
    assert (found.islands, found.steps) == (("a/conv", "a/act", "b/conv", "b/act"), ())
    assert fake.asked == [(), ("a", "b")]
    fake = Fake({"a": 1e-6})
    found = fake.search(50)
    assert (found.reached, found.islands, found.steps, found.final) == (True, (), (), found.start)
    assert fake.asked == [()]


def test_the_largest_error_may_be_the_target():
    """By the largest error alone, and by both: then each has to be met."""
    fake = Fake({"a": 1e-4, "b": 1e-8})
    found = search([region("a"), region("b")], fake, LowerOptions(max_error=0.01), Silent())
    assert chosen(found) == {"a"}
    assert found.final.max_error <= 0.01
    both = LowerOptions(max_error=1e-5, target_psnr_db=50)
    assert chosen(search([region("a"), region("b")], fake, both, Silent())) == {"a", "b"}


def test_results_that_are_not_finite():
    """Two regions overflow, each makes all infinite: both are found, though neither alone removes any error."""

    def bench(regions: Sequence[Region], size: str = "") -> Accuracy:
        names = {each.name for each in regions}
        return Accuracy(60.0, 0.001) if {"hot", "too"} <= names else Accuracy(-math.inf, math.inf)

    found = search(
        [region(name) for name in ("a", "hot", "b", "too")], bench, LowerOptions(target_psnr_db=50), Silent()
    )
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
    if not found.reached:
        return
    kept = [region(name) for name in (step.region for step in found.steps)]
    assert found.islands == tuple(node for each in kept for node in each.nodes)
    assert fake(kept) == found.final
    assert found.final.psnr_db >= target
    for each in kept:
        assert fake([other for other in kept if other is not each]).psnr_db < target
    for number, step in enumerate(found.steps, 1):
        assert fake(kept[:number]) == Accuracy(step.psnr_db, step.max_error)


def prepared_from(model: onnx.ModelProto, feeds: list, signature: Signature | None = None) -> Prepared:
    return calibrated(prepare_model(ir.from_proto(model), FP16, signature), feeds)


@pytest.fixture(scope="module")
def foreign() -> tuple[Prepared, list]:
    feeds = [("feed", foreign_feeds(STATIC, 64, 96))]
    return prepared_from(foreign_model(STATIC), feeds), feeds


@pytest.fixture(scope="module")
def refine(references, pair_at, exports) -> tuple[Prepared, list]:
    kinds = feeds_for(references("IFNet"), SIGNATURES["refine"], pair_at(64, 96), kinds=("large",))
    feeds = [(feed.name, feed.inputs) for feed in kinds]
    return prepared_from(onnx.load(exports.fp32("refine", size="64x96")), feeds, SIGNATURES["refine"]), feeds


@pytest.mark.parametrize("name", ["foreign", "refine"])
def test_regions_of(request, name):
    """Disjoint, every FP16 node in one, shares that add up to one; as islands, their nodes alone become FP32."""
    prepared, _ = request.getfixturevalue(name)
    regions = regions_of(prepared, FP16)
    before = {node.node: node.type for node in lower(prepared, FP16).nodes}
    nodes = [node for each in regions for node in each.nodes]
    assert sorted(nodes) == sorted(node for node, kind in before.items() if kind == "float16")
    assert sum(each.macs_share for each in regions) == pytest.approx(1)
    assert sum(each.bytes_share for each in regions) == pytest.approx(1)
    assert all(each.cost > 0 for each in regions)
    named = {node.name: node for node in prepared.model.graph}
    for each in regions:
        weights = {named[node].inputs[1].name for node in each.nodes if "Conv" in named[node].op_type}
        assert weights == {f"{each.name}.weight"}
    assert len(regions) == len({node.inputs[1] for node in named.values() if "Conv" in node.op_type})
    for each in regions[:: len(regions) // 4]:
        after = {node.node: node.type for node in lower(prepared, FP16, each.nodes).nodes}
        assert {after[node] for node in each.nodes} == {"float32"}
        assert all(after[node] == before[node] for node in set(nodes) - set(each.nodes) if "Conv" in node)


@pytest.fixture
def bench(foreign, tmp_path, size: str = "") -> Callable[..., Bench]:
    prepared, feeds = foreign

    def make(key: str = "key") -> Bench:
        return Bench(prepared, FP16, feeds, memory=tmp_path / "out.onnx.search.json", key=key)

    return make


def test_a_bench_remembers(foreign, bench, tmp_path):
    """A measurement is made once: by a Bench, and by all that share its file and its key."""
    regions = regions_of(foreign[0], FP16)
    first = bench()
    measured = [first.measure(regions[:count]) for count in (0, 1, 2)]
    assert first.measure(regions[1::-1]) == measured[2]
    assert first.measured == 3
    first._known |= {"exact": Accuracy(math.inf, 0.0), "lost": Accuracy(-math.inf, math.inf)}
    first.measure(regions[:3])
    second = bench()
    assert second._known == first._known
    assert [second.measure(regions[:count]) for count in (0, 1, 2)] == measured
    assert second.measured == 0
    third = bench("another key")
    assert third.measure(()) == measured[0]
    assert third.measured == 1
    assert json.loads((tmp_path / "out.onnx.search.json").read_text())["key"] == "another key"


def test_an_interrupted_search_continues(foreign, bench):
    """What was measured before the interrupt is not measured again; the result is that of a search in one go."""
    regions = regions_of(foreign[0], FP16)
    whole = bench("in one go")
    options = LowerOptions(target_psnr_db=whole.measure(()).psnr_db + 3)
    expected = search(regions, whole.measure, options, Silent())
    first = bench()

    def until_five(chosen: Sequence[Region], size: str = "") -> Accuracy:
        if first.measured == 5:
            raise KeyboardInterrupt
        return first.measure(chosen)

    with pytest.raises(KeyboardInterrupt):
        search(regions, until_five, options, Silent())
    second = bench()
    assert search(regions, second.measure, options, Silent()) == expected
    assert second.measured == whole.measured - 5


def accuracy_of(prepared: Prepared, islands: Sequence[str], feeds: list) -> Accuracy:
    """Measure a file without the Bench."""
    content = lower(prepared, FP16, islands).model.SerializeToString()
    squared = largest = 0.0
    with OrtRunner(ir.to_proto(prepared.model).SerializeToString()) as expected, HalfRunner(content) as actual:
        for _, arrays in feeds:
            given = actual.run(arrays)
            for name, reference in expected.run(arrays).items():
                one, other = distance(reference, given[name], peak_of(reference))
                squared, largest = max(squared, one), max(largest, other)
    return Accuracy(psnr_from_mse(squared), largest)


def test_search_of_refine(refine):
    """A modest target is reached with few regions, and the file that is made then is as good as the table says."""
    prepared, feeds = refine
    regions = regions_of(prepared, FP16)
    bench = Bench(prepared, FP16, feeds)
    start = bench.measure(())
    found = search(regions, bench.measure, LowerOptions(target_psnr_db=start.psnr_db + 3), Silent())
    assert found.reached
    assert found.start == start == accuracy_of(prepared, (), feeds)
    assert found.final == accuracy_of(prepared, found.islands, feeds)
    assert start.psnr_db + 3 <= found.final.psnr_db < found.bound.psnr_db < math.inf
    assert 0 < len(found.steps) < len(regions) / 3
    share = sum(step.macs_share for step in found.steps)
    assert lower(prepared, FP16, found.islands).macs_low == pytest.approx(1 - share)
