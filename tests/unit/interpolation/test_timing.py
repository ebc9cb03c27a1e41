"""Times of frames that have none."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from refine_export.errors import FrameError
from refine_export.interpolation.timing import Clock
from tests.support.refusals import refused


@dataclass
class Timed:
    """A frame's times."""

    pts: int | None = None
    dts: int | None = None
    duration: int = 0


def test_a_frame_without_a_time_gets_its_packets_or_the_average_rate():
    clock = Clock(Path("in.avi"), Fraction(1, 100), Fraction(25))
    times = [clock.times_of(frame) for frame in (Timed(), Timed(dts=3), Timed(pts=9, dts=1, duration=2), Timed())]
    assert times == [(0, 4), (3, 4), (9, 2), (13, 4)]
    assert len(clock.notes) == 1
    with refused("frame-times-not-growing", FrameError, frame=4):
        clock.times_of(Timed(pts=13))
    for damaged in (Timed(pts=10**8), Timed(pts=20, duration=10**8)):
        with refused("frame-times-jump", FrameError, frame=4):
            clock.times_of(damaged)
