"""Times of the output: exact fractions, one rate, the length of the video."""

import itertools
from fractions import Fraction

import pytest

from refine_export.errors import RequestError
from refine_export.interpolation.interpolation_options import VideoOptions
from refine_export.interpolation.rates import Division, Grid, named_rate, schedule_for
from tests.support.refusals import refused

NTSC_24, NTSC_60 = Fraction(24000, 1001), Fraction(60000, 1001)


def all_shots(schedule, times, end):
    """All frames of the output: times of the video's frames, and the end of the last."""
    shots = [shot for a, b in itertools.pairwise(times) for shot in schedule.between(a, b)]
    return [*shots, *schedule.behind(times[-1], end)]


@pytest.mark.parametrize(
    ("rate", "unit", "options", "expected"),
    [
        (Fraction(24), Fraction(1, 24), {"fps": 60}, Fraction(60)),
        (NTSC_24, Fraction(1, 24000), {"fps": 59.94}, NTSC_60),
        (NTSC_24, Fraction(1, 1000), {"fps": 59.94}, NTSC_60),  # as Matroska rounds
        (NTSC_24, Fraction(1, 90000), {"fps": 59.94}, NTSC_60),  # as MPEG-TS does
        (Fraction(25), Fraction(1, 12800), {"times": 2.5}, Fraction(125, 2)),
        (Fraction(25), Fraction(1, 25), {"fps": 60}, Fraction(60)),
    ],
)
def test_a_constant_rate_has_exact_timesteps_and_keeps_the_length(rate, unit, options, expected):
    count = 48
    times = [round(number / rate / unit) for number in range(count + 1)]
    schedule = schedule_for(VideoOptions(**options), unit, rate, times[0])
    shots = all_shots(schedule, times[:-1], times[-1])
    assert schedule.rate == expected
    assert [shot.pts * schedule.time_base for shot in shots] == [k / expected for k in range(len(shots))]
    assert abs(len(shots) / expected - count / rate) < 1 / expected
    ratio = rate / expected
    last = [shot.timestep for shot in schedule.behind(times[-2], times[-1])]
    assert [shot.timestep for shot in shots] == [k * ratio % 1 for k in range(len(shots) - len(last))] + last
    assert set(last) == {0}


def test_a_rate_that_varies_becomes_constant_by_time_of_presentation():
    """Frames at 0, 0.3 and 0.4 s; at 10 a second, 0.1 s is a third of the way to the second."""
    schedule = Grid(source=Fraction(1, 100), source_rate=Fraction(5), first=0, target=Fraction(10))
    shots = all_shots(schedule, [0, 30, 40], 60)
    assert [shot.timestep for shot in shots] == [0, Fraction(1, 3), Fraction(2, 3), 0, 0, 0]
    assert [shot.pts * schedule.time_base for shot in shots] == [Fraction(k, 10) for k in range(6)]


def test_frames_one_unit_apart_stay_apart():
    """Equal times are made to grow, as programs do that record at a rate that varies."""
    schedule = schedule_for(VideoOptions(), Fraction(1, 12800), Fraction(7, 5), 0)
    assert [shot.pts * schedule.time_base for shot in schedule.between(0, 1)] == [0, Fraction(1, 25600)]


def test_slow_motion_keeps_the_rate_and_lasts_longer():
    schedule = schedule_for(VideoOptions(slow=4), Fraction(1, 25), Fraction(25), 10)
    shots = all_shots(schedule, [10, 11, 12], 13)
    assert (schedule.rate, len(shots)) == (25, 12)
    assert [shot.timestep for shot in shots[:5]] == [0, Fraction(1, 4), Fraction(1, 2), Fraction(3, 4), 0]
    assert [shot.pts * schedule.time_base for shot in shots[:2]] == [Fraction(10, 25), Fraction(11, 25)]


def test_whole_times_divide_each_interval():
    schedule = schedule_for(VideoOptions(times=3), Fraction(1, 50), Fraction(25), 0)
    assert isinstance(schedule, Division)
    shots = all_shots(schedule, [0, 3, 4], 6)
    assert [shot.pts * schedule.time_base * 50 for shot in shots] == [
        Fraction(k, 3) for k in (0, 3, 6, 9, 10, 11, 12, 14, 16)
    ]


def test_times_that_matroska_rounds_are_even_again():
    times = [round(Fraction(number, 24) * 1000) for number in range(49)]
    schedule = schedule_for(VideoOptions(times=2), Fraction(1, 1000), Fraction(24), 0)
    shots = all_shots(schedule, times[:-1], times[-1])
    assert [shot.pts * schedule.time_base for shot in shots] == [Fraction(k, 48) for k in range(96)]
    assert {shot.duration * schedule.time_base for shot in shots} == {Fraction(1, 48)}


def test_a_time_base_that_no_encoder_takes_is_rounded():
    division = Division(source=Fraction(1, 10**9), source_rate=Fraction(25), first=0, times=3)
    assert division.time_base == Fraction(1, 10**9)
    shots = division.between(10**9, 2 * 10**9)
    assert [shot.pts for shot in shots] == [10**9, 1333333333, 1666666667]


@pytest.mark.parametrize(
    ("fps", "exact"), [(59.94, NTSC_60), (23.976, NTSC_24), (60, 60), (29.97, Fraction(30000, 1001)), (12.5, 12.5)]
)
def test_rates_that_are_written_short_are_exact(fps, exact):
    assert named_rate(fps) == exact


@pytest.mark.parametrize(
    ("options", "allowed"), [({"fps": 24}, False), ({"fps": 25}, True), ({"fps": 7, "slow": 4}, True)]
)
def test_a_rate_below_the_videos_is_refused(options, allowed):
    if allowed:
        schedule_for(VideoOptions(**options), Fraction(1, 25), Fraction(25), 0)
        return
    with refused("fps-below-source", RequestError):
        schedule_for(VideoOptions(**options), Fraction(1, 25), Fraction(25), 0)
