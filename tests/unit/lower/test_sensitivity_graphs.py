"""On real graphs: regions and their cost, what a bench remembers, and a file as good as its search says."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from refine_export.accuracy.metrics import distance, peak_of, psnr_from_mse
from refine_export.data.feeds import feeds_for
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.graph.cost import bytes_moved, multiply_adds
from refine_export.lower.fp32_islands import Accuracy, Bench, Region, regions_of, search
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import Prepared, calibrated, lower, prepare_model
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.strict_fp16 import HalfRunner
from refine_export.support.progress import Silent
from tests.support.foreign import Foreign, foreign_feeds, foreign_model, kernel, model_of

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
    expected = search(regions, whole.measure, options, Silent())
    first = bench()

    def until(count: int) -> Callable[[Sequence[Region]], Accuracy]:
        def measure(chosen: Sequence[Region]) -> Accuracy:
            if first.measured == count:
                raise KeyboardInterrupt
            return first.measure(chosen)

        return measure

    with pytest.raises(KeyboardInterrupt):
        search(regions, until(5), options, Silent())
    second = bench()
    assert search(regions, second.measure, options, Silent()) == expected
    assert second.measured == whole.measured - 5
    third = bench()
    assert search(regions, third.measure, LowerOptions(target_psnr_db=30), Silent()).islands == ()
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
    found = search(regions, bench.measure, options, Silent())
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
