"""Times of frames that have none, and of those between."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from refine_export.errors import FrameError
from refine_export.interpolation.timing import Clock, Division
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


def test_a_time_base_that_no_encoder_takes_is_rounded():
    division = Division(source=Fraction(1, 10**9), times=3)
    assert division.time_base == Fraction(1, 10**9)
    assert [division.pts(10**9, 2 * 10**9, part) for part in range(4)] == [10**9, 1333333333, 1666666667, 2 * 10**9]
