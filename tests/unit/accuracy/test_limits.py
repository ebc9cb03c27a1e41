"""Limits that make no sense are refused; each graph and precision has its own."""

import pytest

from refine_export.accuracy.limits import Limits, LimitsOptions
from refine_export.signature import SIGNATURES


def test_each_graph_and_precision_has_its_limits():
    """Those of 16 bits are wider, whatever the graph."""
    for graph in SIGNATURES:
        fp32, fp16, bf16 = (LimitsOptions().of(graph, precision) for precision in ("fp32", "fp16", "bf16"))
        assert fp32.max_abs < fp16.max_abs <= bf16.max_abs
        assert fp32.psnr_db >= fp16.psnr_db > bf16.psnr_db


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_abs": 1.0},
        {"psnr_db": 0.0},
        {"psnr_db": float("nan")},
        {"ssim": 1.1},
        {"flicker": 0.0},
        {"snr_db": 0.0},
        {"p999_abs": 0.1},  # larger than max_abs
        {"times": 0.5},
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**{"max_abs": 0.05, "psnr_db": 58.0} | wrong)
    assert Limits(max_abs=0.05, psnr_db=58.0, ssim=1.0, p999_abs=0.05).ssim == 1
