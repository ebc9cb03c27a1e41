"""Damage in a frame of FFV1 is seen, which FFmpeg hides."""

import av
import numpy as np
import pytest

from refine_export.data.ffv1_checksums import is_intact
from tests.support.interpolation_clips import numbered, write_clip


def packets(path, **options):
    write_clip(path, [numbered(number) for number in range(3)], codec="ffv1", options=options)
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("options", [{}, {"slices": "4", "level": "3"}, {"slicecrc": "0"}, {"level": "1"}])
def test_whole_frames_are_intact(tmp_path, options):
    assert all(map(is_intact, packets(tmp_path / "in.mkv", **options)))


def test_one_changed_bit_is_seen_anywhere(tmp_path):
    [frame, *_] = packets(tmp_path / "in.mkv", slices="4")
    for at in np.linspace(0, len(frame) - 9, 12, dtype=int):
        damaged = bytearray(frame)
        damaged[at] ^= 4
        assert not is_intact(bytes(damaged))
