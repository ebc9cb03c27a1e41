"""A long job that is killed three times is equal, frame by frame, to one that is not."""

import itertools
import signal
import subprocess
import sys
import time

import av
import numpy as np
import pytest

from tests.support.interpolation_clips import numbered, run, write_clip
from tests.support.paths import ROOT, names_in

pytestmark = pytest.mark.slow

FRAMES = 2000
JOB = """
import sys
from pathlib import Path
from tests.support.interpolation_clips import run
run(Path(sys.argv[1]), Path(sys.argv[2]), fps=60, resume=True)
"""


def frames_of(path):
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.pts, [np.frombuffer(plane, np.uint8).copy() for plane in frame.planes]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_2000_frames_killed_three_times(tmp_path):
    source = write_clip(tmp_path / "in.mp4", [numbered(k % 64, 32, 96) for k in range(FRAMES)], rate=24)
    output, parts = tmp_path / "out.mkv", tmp_path / "out.mkv.parts"
    command = [sys.executable, "-c", JOB, str(source), str(output)]
    for enough in (4, 9, 15):
        with subprocess.Popen(command, cwd=ROOT) as job:
            while len(list(parts.glob("*.packets"))) < enough:
                assert job.poll() is None
                time.sleep(0.02)
            job.send_signal(signal.SIGKILL)
    result = run(source, output, fps=60, resume=True)
    run(source, tmp_path / "whole.mkv", fps=60)
    assert (result.frames_read, result.frames_written) == (FRAMES, FRAMES * 60 // 24)
    pairs = itertools.zip_longest(frames_of(tmp_path / "whole.mkv"), frames_of(output))
    seen = []
    for (time0, planes0), (time1, planes1) in pairs:
        assert time0 == time1
        assert all(map(np.array_equal, planes0, planes1)), time0
        seen.append(time0)
    assert len(seen) == result.frames_written
    assert names_in(tmp_path) == ["in.mp4", "out.mkv", "whole.mkv"]
