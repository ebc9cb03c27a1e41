"""Peak memory of a subject in a process of its own."""

import numpy as np
import pytest

from refine_export.bench.memory_child import measure_memory
from refine_export.bench.subjects import Subject
from refine_export.errors import RequestError
from tests.support.refusals import refused

FEEDS = {"image": np.zeros((1, 3, 64, 64), np.float32), "flow": np.zeros((1, 2, 64, 64), np.float32)}


@pytest.mark.slow  # two processes
def test_memory_grows_with_the_frames_and_errors_come_through(exports):
    path = str(exports.fp32("contextnet"))
    subject = Subject(file="x", mode="onnxruntime-cpu", graph="contextnet", precision="fp32", path=path)
    small = measure_memory(subject, FEEDS)
    large = measure_memory(
        subject, {name: np.zeros((1, a.shape[1], 1024, 1024), np.float32) for name, a in FEEDS.items()}
    )
    frames_mib = 5 * 1024 * 1024 * 4 / 2**20
    assert small.gpu_mib is None
    assert 50 < small.peak_mib < 500
    assert large.peak_mib - small.peak_mib > frames_mib
    with refused("feed-shape", RequestError):
        measure_memory(subject, FEEDS | {"flow": FEEDS["image"]})
