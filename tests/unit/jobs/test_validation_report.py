"""Notes of a report."""

import shlex
from pathlib import Path

import pytest

from refine_export.jobs import validation_report
from tests.support.gate_reports import LIMITS, artifact, comparison, groups_of, metrics


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_search_that_a_note_advises_is_for_the_size_that_fails_most(precision):
    """Smaller sizes that fail are searched first and cost little; a larger one that fails by less costs minutes."""
    good, tuned = (artifact(name, "fp32") for name in ("a.onnx", "a.cpu.onnx"))
    bad = artifact("a.low.onnx", precision)
    limits = {"limits": LIMITS["fp16"]}
    errors = {(64, 64): 50.0, (128, 128): 30.0, (1088, 1920): 55.0, (32, 64): 70.0}
    compared = [comparison(bad, "network", metrics(db, 0.2 if db < 58 else 0.004), size=size, **limits)
                for size, db in errors.items()]  # fmt: skip
    compared += [comparison(one, "network", metrics(130, 1e-6), size=size) for one in (good, tuned) for size in errors]
    files = [(Path(one.file), one) for one in (good, tuned, bad)]
    [note] = validation_report._islands(files, groups_of(compared), compared)
    assert note.startswith("a.low.onnx does not hold at 128x128, where FP32 does: 30.0 dB")
    words = shlex.split(note.rpartition(": ")[2])
    assert words[:5] == ["refine-export", "lower", "a.onnx", "--output", "a.low.onnx"]
    assert words[words.index("--sizes") + 1] == "64x64,128x128"
    assert ("--precision" in words) == (precision == "bf16")
