"""Clips for the tests of `interpolation`: frames that carry their number, and what is read back from a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Any, ClassVar

import av
import numpy as np

from refine_export.data.colour import EXACT
from refine_export.interpolation.interpolate_video import Interpolated, interpolate_video
from refine_export.interpolation.interpolation_options import EncoderOptions, VideoOptions
from refine_export.interpolation.interpolator import Interpolator
from refine_export.support.progress import Silent

HEIGHT, WIDTH = 64, 96
BITS = 6
BLOCK = WIDTH // BITS


def numbered(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A picture with `number` in the grey blocks of its upper half, most significant bit first; the lower is a ramp."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[...] = np.linspace(60, 180, width, dtype=np.uint8)[None, :, None]
    for bit in range(BITS):
        picture[: height // 2, bit * BLOCK : (bit + 1) * BLOCK] = 208 if number >> (BITS - 1 - bit) & 1 else 48
    return picture


def shares_of(picture: np.ndarray) -> list[float]:
    """How white each block is: 0 or 1 in a frame of a clip, something between in one that was made."""
    found = []
    for bit in range(BITS):
        block = picture[4 : picture.shape[0] // 2 - 4, bit * BLOCK + 4 : (bit + 1) * BLOCK - 4]
        found.append((float(block.mean()) - 48) / 160)
    return found


def expected_shares(number: float) -> list[float]:
    """Compute the blocks of the frame at a time in frames, where the average is taken between two frames."""
    low = int(number)
    share = number - low
    bits = [[float(one >> (BITS - 1 - bit) & 1) for bit in range(BITS)] for one in (low, low + 1)]
    return [a * (1 - share) + b * share for a, b in zip(*bits, strict=True)]


def assert_frames(pictures: Sequence[np.ndarray], count: int, times: int) -> None:
    """All frames of a clip of `count` frames are there, once, in order, with the averages between; the last is held."""
    assert len(pictures) == count * times
    for index, picture in enumerate(pictures):
        off = np.abs(np.array(shares_of(picture)) - expected_shares(min(index / times, count - 1)))
        assert off.max() < 0.04, f"frame {index}: {shares_of(picture)}"


@dataclass
class Sound:
    """A stream of sound to write."""

    codec: str = "aac"
    seconds: float = 0.5
    rate: int = 48000


def write_clip(
    path: Path,
    pictures: Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    layout: str = "yuv420p",
    rate: Fraction | int = 25,
    times: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    matrix: int = 5,
    full: bool = False,
    tagged: bool = True,
    sounds: Sequence[Sound] = (),
    shape: Fraction | None = None,
    rotation: int | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a video; its colours are made with `matrix` and `full`, and said where `tagged`."""
    height, width = pictures[0].shape[:2]
    base = time_base or 1 / Fraction(rate)
    with av.open(str(path), "w", options=container_options or {}) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=rate, width=width, height=height, time_base=base, options=options)
        context = stream.codec_context
        context.pix_fmt = layout
        if tagged:
            context.colorspace, context.color_range = matrix, 2 if full else 1
            context.color_primaries, context.color_trc = 6, 6
        if shape:
            context.sample_aspect_ratio = shape
        if rotation is not None:
            stream.set_display_rotation(rotation)
        voices = [(container.add_stream(sound.codec, rate=sound.rate), sound) for sound in sounds]
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if layout != "rgb24":
                frame = frame.reformat(
                    format=layout, dst_colorspace=matrix, dst_color_range=2 if full else 1, interpolation=EXACT
                )
            frame.pts, frame.time_base = index if times is None else times[index], base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for voice, sound in voices:
            _write_sound(container, voice, sound)
    return path


def _write_sound(container: Any, stream: Any, sound: Sound) -> None:
    samples = round(sound.seconds * sound.rate)
    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(samples) / sound.rate)
    step = stream.codec_context.frame_size or 1024
    for start in range(0, samples, step):
        part = np.stack([wave[start : start + step]] * 2)
        frame = av.AudioFrame.from_ndarray(part.astype(np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = sound.rate, start, Fraction(1, sound.rate)
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="stereo", rate=sound.rate)
        for one in resampler.resample(frame):
            container.mux(stream.encode(one))
    container.mux(stream.encode(None))


@dataclass
class Clip:
    """Content of a file."""

    pictures: list[np.ndarray]
    """RGB, not turned."""
    planes: list[list[np.ndarray]]
    """Planes of each frame."""
    times: list[Fraction]
    """Seconds."""
    first: Any
    video: dict[str, Any]
    sounds: list[list[tuple[Fraction, Fraction, bytes]]]
    """Packets of each stream: time, length, content."""
    length_s: Fraction
    metadata: dict[str, str]


def read_clip(path: Path) -> Clip:
    """Decode a file."""
    clip = Clip([], [], [], None, {}, [], Fraction(0), {})
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        indices = [one.index for one in container.streams.audio]
        clip.sounds = [[] for _ in indices]
        clip.metadata = dict(container.metadata)
        for packet in container.demux():
            if packet.stream.index in indices and packet.size:
                here = clip.sounds[indices.index(packet.stream.index)]
                here.append((packet.pts * packet.time_base, packet.duration * packet.time_base, bytes(packet)))
            elif packet.stream.index == stream.index:
                for frame in packet.decode():
                    clip.first = clip.first or frame
                    clip.times.append(frame.pts * frame.time_base)
                    clip.planes.append([_plane(plane) for plane in frame.planes])
                    clip.pictures.append(frame.to_ndarray(format="rgb24", interpolation=EXACT))
        clip.video = {
            "layout": context.pix_fmt,
            "matrix": int(context.colorspace),
            "range": int(context.color_range),
            "primaries": int(context.color_primaries),
            "transfer": int(context.color_trc),
            "shape": stream.sample_aspect_ratio,
            "rotation": clip.first.rotation,
            "codec": context.name,
            "rate": stream.average_rate,
        }
        clip.length_s = Fraction(container.duration, 10**6)
    return clip


def _plane(plane: Any) -> np.ndarray:
    return np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width].copy()


def average(frame0: np.ndarray, frame1: np.ndarray, timestep: float) -> np.ndarray:
    """The weighted average, rounded to the levels of bytes."""
    mean = frame0 * (1 - timestep) + frame1 * timestep
    return np.uint8(np.rint(mean)) if frame0.dtype == np.uint8 else np.float32(mean)


class Averager(Interpolator):
    """An interpolator without a network."""

    def __init__(self, *, takes_timestep: bool = True, wait: Any = None) -> None:
        self.takes_timestep = takes_timestep
        self.provider = "the average"
        self._wait = wait

    def close(self) -> None:
        pass

    def _interpolate(self, frame0: np.ndarray, frame1: np.ndarray, timestep: float) -> np.ndarray:
        if self._wait:
            self._wait()
        return average(frame0, frame1, timestep)


class Averaging:
    """A backend that computes averages."""

    notes = ()
    identity: ClassVar[dict[str, str]] = {}

    def __init__(self, threads: int = 1, **averager: Any) -> None:
        self._threads = threads
        self._averager = averager

    @contextmanager
    def share(self, size: tuple[int, int]) -> Iterator[int]:
        yield self._threads

    @contextmanager
    def open(self, stop: Event | None = None) -> Iterator[Averager]:
        yield Averager(**self._averager)


def clip(path: Path, count: int = 6, **options: Any) -> Path:
    """Write a video of `count` numbered frames; options as in `write_clip`."""
    return write_clip(path, [numbered(number) for number in range(count)], **options)


def run(source: Path, output: Path, backend: Any = None, *, force: bool = False, **options: Any) -> Interpolated:
    """Interpolate a video with averages; `codec` and `crf` are the encoder's, other options the video's."""
    own = ("codec", "crf", "encoder_options", "raw_output")
    encoder = EncoderOptions(**{name: options.pop(name) for name in own if name in options})
    backend = backend or Averaging()
    progress = options.pop("progress", Silent())
    return interpolate_video(source, output, VideoOptions(**options), encoder, backend, force=force, progress=progress)


def converted(
    folder: Path, *, count: int = 6, name: str = "in.mp4", output: str = "out.mp4", run_with: Any = None, **options: Any
) -> tuple[Interpolated, Clip, Clip]:
    """Write a clip with `options`, interpolate it with `run_with`, and read both files."""
    result = run(clip(folder / name, count, **options), folder / output, **(run_with or {}))
    return result, read_clip(folder / name), read_clip(folder / output)


def remuxed(source, output, edit):
    """Write the packets of a video that `edit` leaves, under another name."""
    with av.open(str(source)) as before, av.open(str(output), "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        for packet in edit([packet for packet in before.demux(video=0) if packet.size]):
            packet.stream = stream
            after.mux_one(packet)
    return output
