"""Peak rates, and the share of them that a run reaches."""

import pytest

from refine_export.bench.bench_files import Work
from refine_export.bench.known_gpus import PeakRates, peak_rates, share_of_roofline


def test_only_known_names_have_rates():
    assert peak_rates("NVIDIA H200").gb_per_s == 4800
    assert peak_rates("NVIDIA GeForce RTX 4090").fp32_tflops == 82.6
    assert peak_rates("NVIDIA GeForce RTX 4090 Laptop GPU") is None
    assert peak_rates("") is None


def test_the_share_is_of_arithmetic_or_of_traffic_whichever_takes_longer():
    rates = PeakRates(fp32_tflops=10, fp16_tflops=100, gb_per_s=1000)
    arithmetic = Work(multiply_adds=5 * 10**10, least_bytes=1)  # 10 ms in FP32, 1 ms in FP16
    assert share_of_roofline(arithmetic, 0.02, "fp32", rates) == pytest.approx(0.5)
    assert share_of_roofline(arithmetic, 0.02, "bf16", rates) == pytest.approx(0.05)
    traffic = Work(multiply_adds=1, least_bytes=10**10)  # 10 ms
    assert share_of_roofline(traffic, 0.04, "fp16", rates) == pytest.approx(0.25)
