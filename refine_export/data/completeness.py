"""Find out whether a video is whole, by its packets, its frames and what its header states.

FFmpeg passes over much damage without an error. Nothing of what whole files may have counts as damage: rates that vary,
screen recordings that stand still, parts that were copied out of a longer file, sound that lasts longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from refine_export.errors import FrameError

LENGTH_TOLERANCE = {"mov": 1.5, "matroska": 0.75, "avi": 1.5}
"""Frames by which a video may end before the end that its container states, of those that have one written down. The
edit list of a copied part begins between two frames, and the header of an AVI may count a frame too many."""
HOLE_FRAMES, HOLE_BYTES, HEADER_BYTES = 1.5, 1024, 32
"""A jump in time and bytes that belong to no packet, nor to the header of one: together they are frames that a demuxer
skipped. Either alone is usual: variable rates, indices and padding."""
WITHOUT_PLACES = ("mpeg", "mov", "avi")
"""Containers whose bytes between packets tell nothing: MPEG's are filled up to a rate, the others read by an index."""
DOUBTFUL = 3
"""Packets from one that a demuxer marks as corrupt to the jump in time: it may be an earlier one that is marked."""

FRAME_HEADER_BYTES = 80
"""Longest line before a frame of YUV4MPEG that FFmpeg reads."""

AGAIN = "copy or make it again"
OR_ACCEPT = f"{AGAIN}, cut the video before the damage, or have interpolate accept it with --allow-missing"


class Completeness:
    """Follows a video while it is decoded.

    Args:
        path: what errors call it.
        container: an open `av.container.InputContainer`.
        stream: its video.
        rate: frames a second, on average.
    """

    def __init__(self, path: Path, container: Any, stream: Any, rate: Fraction) -> None:
        self._path, self._format = path, str(container.format.name)
        self.count = 0
        """Frames so far."""
        self._stream, self._rate = stream, rate
        self.promised = self._promised()
        """Number of frames by the container's header; 0 where it has none."""
        self._length = container.duration and Fraction(container.duration, 10**6)
        if self._format == "avi":  # of which sound may claim more than there is
            self._length = stream.duration and stream.duration * Fraction(stream.time_base)
        self._end = Fraction(0)
        self._last_interval = 0
        self._stored = self._due = self._shown = 0
        self._last: Any = None
        self._between = 0
        """Bytes of other streams since the last packet of the video."""
        self._doubtful = 0
        self._first_key: int | None = None
        self._keys = 0
        self._interlaced = False
        self._latest: int | None = None

    def _promised(self) -> int:
        tags, entries = self._stream.metadata, self._stream.index_entries
        tagged = tags.get("NUMBER_OF_FRAMES") or tags.get("NUMBER_OF_FRAMES-eng") or ""  # of mkvmerge
        frames = int(self._stream.frames or (tagged if tagged.isdecimal() else 0))
        if self._format.startswith("mov"):  # an edit list may leave out some, which are not read
            return min(frames, len(entries))
        if self._format == "avi":  # where nothing changes, it has packets with nothing in them
            return min(frames, sum(1 for number in range(len(entries)) if entries[number].size))
        return frames

    def take_packet(self, packet: Any) -> FrameError | None:
        """Note a packet of any stream, in the order of the file; return what is missing before it."""
        is_own = packet.stream.index == self._stream.index
        if packet.pts is not None and packet.duration and packet.time_base and (is_own or self._format != "avi"):
            self._end = max(self._end, (packet.pts + packet.duration) * packet.time_base)
        if not is_own:
            self._between += packet.size + HEADER_BYTES
            return None
        self._doubtful = DOUBTFUL if packet.is_corrupt else self._doubtful - 1
        hole = self._last is not None and self._is_hole(packet)
        self._stored += packet.dts is not None or packet.size > 0
        if packet.size:
            self._keys += packet.is_keyframe
            if packet.is_keyframe and self._first_key is None:
                self._first_key = packet.pts
            is_due = not packet.is_discard and _is_shown(packet)
            self._due += is_due and not (self._keys < 2 and not packet.is_keyframe and self._leads(packet.pts))
            self._last, self._between = packet, 0
        if not hole:
            return None
        problem = self.described("lacks frames: a part of the file cannot be read")
        return FrameError.about(self._path, "frames-missing", problem, frame=self.count)

    def take_frame(self, frame: Any) -> None:
        """Note a frame, in the order of presentation."""
        self.count += 1
        self._interlaced |= bool(frame.interlaced_frame)
        self._shown += not self._leads(frame.pts)
        if frame.pts is not None:
            if self._latest is not None:
                self._last_interval = frame.pts - self._latest
            self._latest = frame.pts

    def _leads(self, pts: int | None) -> bool:
        """Return whether a picture comes before the first key frame: it needs what a copied part does not have."""
        return self._first_key is not None and (pts is None or pts < self._first_key)

    def _is_hole(self, packet: Any) -> bool:
        """Return whether packets are missing between two of the video, by their times and by their places."""
        last = self._last
        if None in (last.dts, packet.dts) or not last.duration or packet.dts - last.dts <= HOLE_FRAMES * last.duration:
            return False
        if self._format.startswith(WITHOUT_PLACES) or None in (last.pos, packet.pos):
            return self._doubtful > 0  # MPEG TS counts its packets
        return bool(packet.pos - last.pos - last.size - self._between > HOLE_BYTES)

    def problems(self, broken: int, size: int) -> Iterator[FrameError]:
        """Yield what is missing, when all is decoded.

        Args:
            broken: places that are known.
            size: bytes of the file, or those that were read of a pipe.
        """
        # The last frame is taken to last as long as the one before it. Of an earlier one, such as the first behind a
        # still picture, the end would be too late, and hide a cut.
        shown_until = ((self._latest or 0) + self._last_interval) * Fraction(self._stream.time_base)
        end = max(self._end, shown_until)
        tolerance = next((one for name, one in LENGTH_TOLERANCE.items() if self._format.startswith(name)), None)
        if tolerance is not None and self._length and self._length - end > tolerance / float(self._rate):
            problem = f"ends at {float(end):.2f} of {float(self._length):.2f} seconds: it is truncated"
            yield FrameError.about(self._path, "video-truncated", self.described(problem), frame=self.count)
        is_y4m = self._format == "yuv4mpegpipe" and self._last is not None
        if is_y4m and size - self._last.pos - self._last.size > FRAME_HEADER_BYTES:
            problem = self.described("ends within a frame: it is truncated")
            yield FrameError.about(self._path, "video-truncated", problem, frame=self.count)
        if self._stored < self.promised:
            problem = self.described(f"has {self._stored} frames, and its header says {self.promised}")
            yield FrameError.about(self._path, "frames-missing", problem, frame=self.count)
        if self.lost > broken and not self._interlaced:
            lost = self.lost - broken
            problem = self.described(f"lacks {lost} frames: {lost} of its packets gave none")
            yield FrameError.about(self._path, "frames-missing", problem, frame=self.count)

    def described(self, problem: str) -> str:
        """Return a problem with its place, and what to do."""
        return f"{problem}, at frame {self.count}; {OR_ACCEPT}"

    @property
    def lost(self) -> int:
        """Packets that gave no frame; of interlaced video they may be single fields."""
        return self._due - self._shown

    def notes(self, broken: int) -> Iterator[str]:
        """Describe packets without a frame that are not damage."""
        if self._interlaced and self.lost > broken:
            yield f"{self.lost - broken} of its packets gave no frame; it is interlaced, and they may be fields"


def _is_shown(packet: Any) -> bool:
    """Return whether a packet is to give a frame; VP8 has hidden ones (RFC 6386, section 9.1: show_frame)."""
    return packet.stream.codec_context.name != "vp8" or bool(bytes(packet)[0] >> 4 & 1)
