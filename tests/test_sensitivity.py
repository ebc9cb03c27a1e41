"""The search finds few, cheap regions that reach the target; what it says of a file is what the file does."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from foreign import Foreign, foreign_feeds, foreign_model, kernel, model_of
from hypothesis import given, settings
from hypothesis import strategies as st

from refine_export.export import ExportOptions, onnx_from_network
from refine_export.feeds import feeds_for
from refine_export.graph.cost import bytes_moved, multiply_adds
from refine_export.lowering import LowerOptions, Prepared, calibrated, lower, prepare_model
from refine_export.metrics import distance, peak_of, psnr_from_mse
from refine_export.progress import Silent
from refine_export.runners.half import HalfRunner
from refine_export.runners.ort import OrtRunner
from refine_export.sensitivity import Accuracy, Bench, Region, Search, regions_of, search


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


# On real graphs.

STATIC = Foreign(size=(64, 96))
FP16 = LowerOptions()


def prepared_from(model: onnx.ModelProto, feeds: list, graph=None) -> Prepared:
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    return calibrated(prepare_model(ir.from_proto(copy), FP16, graph), feeds)


@pytest.fixture(scope="module")
def foreign() -> tuple[Prepared, list]:
    feeds = [("feed", foreign_feeds(STATIC, 64, 96))]
    return prepared_from(foreign_model(STATIC), feeds), feeds


@pytest.fixture(scope="module")
def refine(references, pair_at) -> tuple[Prepared, list]:
    reference = references("IFNet")
    model = onnx_from_network(reference, "refine", ExportOptions(dynamic=False, size="64x96"))
    feeds = [(feed.name, feed.inputs) for feed in feeds_for(reference, "refine", pair_at(64, 96), kinds=("large",))]
    return prepared_from(model, feeds, "refine"), feeds


@pytest.fixture(params=["foreign", "refine"])
def either(request) -> tuple[Prepared, list]:
    return request.getfixturevalue(request.param)


def test_regions(either):
    """They are disjoint, hold every FP16 node, and their shares of multiply-adds and of bytes add up to one."""
    prepared, _ = either
    regions = regions_of(prepared, FP16)
    nodes = [node for each in regions for node in each.nodes]
    low = [node.node for node in lower(prepared, FP16).nodes if node.type == "float16"]
    assert sorted(nodes) == sorted(low)
    assert len(set(nodes)) == len(nodes)
    assert len({each.name for each in regions}) == len(regions)
    assert sum(each.macs_share for each in regions) == pytest.approx(1)
    assert sum(each.bytes_share for each in regions) == pytest.approx(1)
    assert all(each.cost > 0 for each in regions)
    of = {node.name: node for node in prepared.model.graph}
    for each in regions:
        weights = {of[node].inputs[1].name for node in each.nodes if "Conv" in of[node].op_type}
        assert weights == {f"{each.name}.weight"}
    convolutions = {node.inputs[1] for node in of.values() if "Conv" in node.op_type}
    assert len(regions) == len(convolutions)


def test_a_region_as_islands(either):
    """Its convolutions become FP32, and no convolution of another region does."""
    prepared, _ = either
    before = {node.node: node.type for node in lower(prepared, FP16).nodes}
    regions = regions_of(prepared, FP16)
    for each in regions[:: len(regions) // 4]:
        after = {node.node: node.type for node in lower(prepared, FP16, each.nodes).nodes}
        assert {after[node] for node in each.nodes} == {"float32"}
        others = {node for other in regions if other is not each for node in other.nodes}
        assert all(after[node] == before[node] for node in others if "Conv" in node)


def test_multiply_adds():
    """Counted by hand: outputs times kernel times input channels of a group; inputs for a transposed convolution."""
    nodes = (
        f"{kernel('w', 8, 4, 3, 3)} {kernel('g', 8, 2, 5, 5)} {kernel('t', 8, 6, 4, 4)} {kernel('m', 5, 7)} "
        "a = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w) b = Conv <group = 4, pads = [2, 2, 2, 2]> (a, g) "
        "c = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1]> (b, t) d = MatMul (n, m) "
        "e = Gemm <transA = 1> (n2, m) y = Relu (c)"
    )
    outputs = "float[1,6,16,24] y, float[2,3,7] d, float[3,7] e"
    model = model_of(nodes, "float[1,4,16,24] x, float[2,3,5] n, float[5,3] n2", outputs)
    prepared = prepare_model(ir.from_proto(model), FP16, without_warp=True)
    assert multiply_adds(prepared.model.graph, {}) == {
        "Conv_1": 8 * 8 * 12 * 9 * 4,
        "Conv_2": 8 * 8 * 12 * 25 * 2,
        "ConvTranspose_1": 8 * 8 * 12 * 16 * 6,
        "MatMul_1": 2 * 3 * 7 * 5,
        "Gemm_1": 3 * 7 * 5,
    }
    moved = bytes_moved(prepared.model.graph, {})
    assert moved["Relu_1"] == 4 * 2 * 6 * 16 * 24
    assert moved["MatMul_1"] == 4 * (2 * 3 * 5 + 5 * 7 + 2 * 3 * 7)


@pytest.fixture
def bench(foreign, tmp_path) -> Callable[..., Bench]:
    prepared, feeds = foreign

    def make(key: str = "key") -> Bench:
        return Bench(prepared, FP16, feeds, memory=tmp_path / "out.onnx.search.json", key=key)

    return make


def test_bench_remembers(foreign, bench, tmp_path):
    """A measurement is made once: by a Bench, and by all that share its file and its key."""
    regions = regions_of(foreign[0], FP16)
    first = bench()
    measured = [first.measure(regions[:count]) for count in (0, 1, 2)]
    assert first.measured == 3
    assert first.measure(regions[1::-1]) == measured[2]
    assert first.measured == 3
    second = bench()
    assert [second.measure(regions[:count]) for count in (0, 1, 2)] == measured
    assert second.measured == 0
    assert second.measure(regions[:3]) not in measured[:1]
    assert second.measured == 1
    third = bench("another key")
    assert third.measure(()) == measured[0]
    assert third.measured == 1
    assert json.loads((tmp_path / "out.onnx.search.json").read_text())["key"] == "another key"


def test_bench_remembers_what_is_not_finite(bench, tmp_path):
    """Infinite PSNR and infinite errors come back from the file as they were."""
    path = tmp_path / "out.onnx.search.json"
    first = bench()
    first._known |= {"exact": Accuracy(math.inf, 0.0), "lost": Accuracy(-math.inf, math.inf)}
    first.measure(())
    assert path.is_file()
    assert bench()._known == first._known


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"key": "key"',
        b'{"key": "key"}',
        b'{"key": "key", "measured": [1, 2]}',
        b'{"key": "key", "measured": {"": [1]}}',
        b'{"key": "key", "measured": {"": ["many", 0]}}',
        b'{"key": "key", "measured": {"": null}}',
        b"[" * 100000,
    ],
)
def test_a_damaged_memory_is_none(bench, tmp_path, content):
    """It is measured again, and the file is whole after that."""
    (tmp_path / "out.onnx.search.json").write_bytes(content)
    first = bench()
    accuracy = first.measure(())
    assert first.measured == 1
    second = bench()
    assert second.measure(()) == accuracy
    assert second.measured == 0


def test_an_interrupted_search_goes_on(foreign, bench):
    """What was measured before the interrupt is not measured again; the result is that of a search in one go."""
    prepared, _ = foreign
    regions = regions_of(prepared, FP16)
    whole = bench("in one go")
    options = LowerOptions(target_psnr_db=whole.measure(()).psnr_db + 3)
    expected = search(regions, whole.measure, options, Log())
    first = bench()

    def until(count: int) -> Callable[[Sequence[Region]], Accuracy]:
        def measure(chosen: Sequence[Region]) -> Accuracy:
            if first.measured == count:
                raise KeyboardInterrupt
            return first.measure(chosen)

        return measure

    with pytest.raises(KeyboardInterrupt):
        search(regions, until(5), options, Log())
    second = bench()
    assert search(regions, second.measure, options, Log()) == expected
    assert second.measured == whole.measured - 5
    third = bench()
    assert search(regions, third.measure, LowerOptions(target_psnr_db=30), Log()).islands == ()
    assert third.measured == 0


def accuracy_of(prepared: Prepared, content: bytes, feeds: list) -> Accuracy:
    """What a file does, measured without the Bench."""
    squared = largest = 0.0
    with (
        OrtRunner(ir.to_proto(prepared.model).SerializeToString()) as expected,
        HalfRunner(content) as actual,
    ):
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
    options = LowerOptions(target_psnr_db=start.psnr_db + 3)
    found = search(regions, bench.measure, options, Log())
    assert found.reached
    assert found.start == start == accuracy_of(prepared, file_of(prepared, ()), feeds)
    assert found.final == accuracy_of(prepared, file_of(prepared, found.islands), feeds)
    assert found.final.psnr_db >= start.psnr_db + 3
    assert 0 < len(found.steps) < len(regions) / 3
    assert found.steps[-1].psnr_db == found.final.psnr_db
    share = sum(step.macs_share for step in found.steps)
    assert lower(prepared, FP16, found.islands).macs_low == pytest.approx(1 - share)
    assert np.isfinite(found.bound.psnr_db)
    assert found.bound.psnr_db > found.final.psnr_db


def file_of(prepared: Prepared, islands: Sequence[str]) -> bytes:
    return lower(prepared, FP16, islands).model.SerializeToString()
