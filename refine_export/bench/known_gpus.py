"""Peak rates of known GPUs, and the share of them that a run reaches (its roofline).

S. Williams, A. Waterman, D. Patterson: Roofline, an insightful visual performance model. CACM 52 (4), 2009. The figures
are those of NVIDIA's data sheets and architecture white papers: FP32 without tensor cores; FP16 of tensor cores without
sparsity, at the highest rate (for GeForce, with FP16 accumulation). https://www.nvidia.com/en-us/data-center/ and
https://www.nvidia.com/en-us/geforce/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from refine_export.bench.bench_files import Work
from refine_export.signature import FilePrecision


@dataclass(frozen=True)
class PeakRates:
    """Upper bounds of a GPU."""

    fp32_tflops: float
    fp16_tflops: float
    gb_per_s: float


KNOWN: Mapping[str, PeakRates] = {
    "Tesla T4": PeakRates(8.1, 65, 320),
    "A10": PeakRates(31.2, 125, 600),
    "A100-SXM4-40GB": PeakRates(19.5, 312, 1555),
    "A100-PCIE-40GB": PeakRates(19.5, 312, 1555),
    "A100-SXM4-80GB": PeakRates(19.5, 312, 2039),
    "A100 80GB PCIe": PeakRates(19.5, 312, 1935),
    "L4": PeakRates(30.3, 121, 300),
    "L40S": PeakRates(91.6, 362, 864),
    "H100 PCIe": PeakRates(51, 756, 2000),
    "H100 80GB HBM3": PeakRates(67, 989, 3350),
    "H200": PeakRates(67, 989, 4800),
    "GeForce RTX 3080": PeakRates(29.8, 119, 760),
    "GeForce RTX 3090": PeakRates(35.6, 142, 936),
    "GeForce RTX 4080": PeakRates(48.7, 195, 717),
    "GeForce RTX 4090": PeakRates(82.6, 330, 1008),
    "GeForce RTX 5080": PeakRates(56.3, 225, 960),
    "GeForce RTX 5090": PeakRates(104.8, 419, 1792),
}
"""Rates by the name that CUDA gives, without `NVIDIA`; other models, such as those of laptops, have other rates."""


def peak_rates(gpu: str) -> PeakRates | None:
    """Return the rates of a GPU by its name, such as `NVIDIA H200`; None where it is not known."""
    return KNOWN.get(gpu.removeprefix("NVIDIA ").strip())


def share_of_roofline(work: Work, seconds: float, precision: FilePrecision, rates: PeakRates) -> float:
    """Return the least time that a GPU could take, over the time that a run took.

    The least time is the longer of the arithmetic at the peak rate of the file's precision and of moving inputs,
    outputs and constants once. An FP32 run on tensor cores (TF32) may exceed 1.
    """
    tflops = rates.fp32_tflops if precision == "fp32" else rates.fp16_tflops
    arithmetic = 2 * work.multiply_adds / (tflops * 1e12)
    return max(arithmetic, work.least_bytes / (rates.gb_per_s * 1e9)) / seconds
