"""Figures from the seconds of each round."""

from types import SimpleNamespace

import pytest

from refine_export.bench.bench_files import Work
from refine_export.bench.measuring import Ready, measurements_from_seconds
from refine_export.bench.memory_child import Memory
from refine_export.bench.subjects import Subject

WORK = Work(multiply_adds=5 * 10**8, least_bytes=1)


def ready(graph, device="cpu", precision="fp32", work=WORK):
    subject = Subject(file="x.onnx", mode="onnxruntime-cpu", graph=graph, precision=precision)
    runner = SimpleNamespace(provider="P", device=device)
    return Ready(subject=subject, runner=runner, feeds={}, work=work, call=lambda: None, first_s=2.0)


def test_ratios_refer_to_the_first_of_a_graph_and_throughput_counts_the_batch():
    one, twice, other = ready("refine"), ready("refine", work=None), ready("unet")
    seconds = {one: [0.1, 0.2, 0.1], twice: [0.2, 0.4, 0.2], other: [1.0, 1.0, 1.0]}
    memory = {one: Memory(peak_mib=100.0, gpu_mib=None)}
    first, second, third = measurements_from_seconds((4, 64, 96), seconds, memory)
    assert (first.batch, first.size, first.first_ms) == (4, (64, 96), 2000)
    assert [one.ratio for one in (first, second, third)] == pytest.approx([1, 2, 1])
    assert [one.per_second for one in (first, second, third)] == pytest.approx([40, 20, 4])
    assert first.latency.median_ms == pytest.approx(100)
    assert (first.gflops, second.gflops) == (pytest.approx(10), None)
    assert (first.memory.peak_mib, second.memory) == (100, None)
    assert {one.roofline for one in (first, second, third)} == {None}


def test_only_a_known_gpu_has_a_roofline():
    known, unknown = ready("unet", "cuda:0 (NVIDIA H200)", "fp16"), ready("unet", "cuda:0 (NVIDIA of 2040)", "fp16")
    first, second = measurements_from_seconds((1, 64, 96), {known: [1e-5] * 5, unknown: [1e-5] * 5}, {})
    assert first.roofline == pytest.approx(1e9 / 989e12 / 1e-5)
    assert second.roofline is None
