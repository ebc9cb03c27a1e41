"""Clips for the tests of `interpolation`: frames that carry their number, and what is read back from a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Any

import av
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

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
    """Of the frame at a time in frames, where the average is taken between two frames."""
    low = int(number)
    share = number - low
    bits = [[float(one >> (BITS - 1 - bit) & 1) for bit in range(BITS)] for one in (low, low + 1)]
    return [a * (1 - share) + b * share for a, b in zip(*bits, strict=True)]


def assert_frames(pictures: Sequence[np.ndarray], count: int, times: int) -> None:
    """All frames of a clip of `count` frames are there, once, in order, with the averages between them."""
    assert len(pictures) == (count - 1) * times + 1
    for index, picture in enumerate(pictures):
        off = np.abs(np.array(shares_of(picture)) - expected_shares(index / times))
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
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a video; its colours are made with `matrix` and `full`, and said where `tagged`."""
    height, width = pictures[0].shape[:2]
    base = time_base or 1 / Fraction(rate)
    with av.open(str(path), "w") as container:
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


EXACT = 0x46002


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
    """What a file holds."""

    pictures: list[np.ndarray]
    """RGB, not turned."""
    planes: list[list[np.ndarray]]
    """Of each frame."""
    times: list[Fraction]
    """Seconds."""
    first: Any
    video: dict[str, Any]
    sounds: list[list[tuple[Fraction, Fraction, bytes]]]
    """Of each stream its packets: time, length, content."""
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
    """The weighted average, rounded."""
    return np.uint8(np.rint(frame0 * (1 - timestep) + frame1 * timestep))


class Averager:
    """An Interpolator without a network."""

    def __init__(self, *, any_time: bool = True, wait: Any = None) -> None:
        self.any_time = any_time
        self.provider = "the average"
        self._wait = wait

    def __enter__(self) -> Averager:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def between(self, frame0: np.ndarray, frame1: np.ndarray, timestep: float) -> np.ndarray:
        if self._wait:
            self._wait()
        return average(frame0, frame1, timestep)


class Averaging:
    """In the place of ComputeOptions."""

    notes = ()

    def __init__(self, threads: int = 1, **averager: Any) -> None:
        self.threads = threads
        self._averager = averager

    @contextmanager
    def open(self, stop: Event | None = None) -> Iterator[Averager]:
        yield Averager(**self._averager)


def averaging_model(*, any_time: bool = True, sizes: Sequence[int | str] = ("N", "H", "W")) -> onnx.ModelProto:
    """The weighted average, with the names of interpolator_m, or of interpolator."""
    batch, height, width = sizes

    def image(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3, height, width])

    inputs = [image("img0"), image("img1")]
    if any_time:
        inputs.append(helper.make_tensor_value_info("timestep", TensorProto.FLOAT, [batch, 1, 1, 1]))
    share = "timestep" if any_time else "half"
    nodes = [
        helper.make_node("Sub", ["one", share], ["rest"]),
        helper.make_node("Mul", ["img0", "rest"], ["early"]),
        helper.make_node("Mul", ["img1", share], ["late"]),
        helper.make_node("Add", ["early", "late"], ["frame"]),
    ]
    constants = [
        numpy_helper.from_array(np.array(value, np.float32), name) for name, value in (("one", 1), ("half", 0.5))
    ]
    graph = helper.make_graph(nodes, "average", inputs, [image("frame")], constants[: 1 if any_time else 2])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
