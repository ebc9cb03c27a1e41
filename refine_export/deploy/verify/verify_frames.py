"""The ensemble `interpolate` against the local reference: pictures in, pictures out, in grey levels.

The reference's pictures are padded, go through the network in FP32 torch, are cropped and rounded. Two numbers judge
the difference, both from the limits of the network behind the ensemble (L = 255):

1. No value is further off than ceil(L * max_abs) levels: one for FP32. Values that differ by e before the rounding
   differ by ceil(e) at most behind it.
2. The mean difference is at most L * 10**(-psnr_db / 20) levels, which is the root mean square of the error that the
   limit allows: rounding leaves the mean of small differences as it is where values lie anywhere between two levels.
   It shows what the first can't: a picture that is cut off in place of rounded is one level off, but nearly everywhere.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refine_export.accuracy.limits import Limits
from refine_export.artifacts import Artifact
from refine_export.data.images import (
    FramePair,
    at_size,
    cropped,
    padded,
    padded_size,
    uint8_from_frame,
)
from refine_export.deploy.triton.names import ENSEMBLE, FRAME, FRAME0, FRAME1, TIMESTEP
from refine_export.deploy.verify.channels import Channel
from refine_export.deploy.verify.load_test import Question
from refine_export.deploy.verify.server_models import Served
from refine_export.deploy.verify.verify_result import Answered, Compared
from refine_export.errors import RefineExportError
from refine_export.runners.base import Runner
from refine_export.runners.torch import TorchRunner
from refine_export.runners.triton.client import TritonClient
from refine_export.support.progress import Progress
from refine_export.validate.validate_options import ValidateOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

LEVELS = 255
CUT = (3, 5)
"""What is cut off a frame's height and width, so that it has to be padded."""


@dataclass(frozen=True, kw_only=True)
class FrameFeed:
    """Two pictures, a timestep and the picture that is right."""

    name: str
    inputs: Mapping[str, NDArray[Any]]
    expected: NDArray[np.uint8]
    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Levels:
    """How far a picture is off."""

    largest: int
    mean: float
    reasons: tuple[str, ...]
    """What it misses; empty where it passes."""


def frame_feeds(
    reference: Runner, artifact: Artifact, pair: FramePair, timesteps: Sequence[float]
) -> Iterator[FrameFeed]:
    """The pair at a size that needs no padding and at one that does, both ways round.

    Args:
        reference: runs `interpolator` or `interpolator_m`.
        artifact: of the network behind the ensemble: its size, where it has one.
        pair: of any size.
        timesteps: for `interpolator_m`.
    """
    import numpy as np

    timed = artifact.graph == "interpolator_m"
    for size in _sizes(artifact, pair.size):
        fed = at_size(pair, size)
        pictures = uint8_from_frame(fed.img0), uint8_from_frame(fed.img1)
        for number, timestep in enumerate(timesteps if timed else (0.5,)):
            first, second = pictures if number % 2 == 0 else pictures[::-1]
            inputs: dict[str, NDArray[Any]] = {FRAME0: first, FRAME1: second}
            if timed:
                inputs[TIMESTEP] = np.array([timestep], np.float32)
            order = "" if number % 2 == 0 else ", frames exchanged"
            yield FrameFeed(
                name=f"{size[0]}x{size[1]}" + (f", timestep {timestep:g}" if timed else "") + order,
                inputs=inputs,
                expected=_expected(reference, inputs, size),
                size=size,
            )


def judge_frame(expected: NDArray[np.uint8], answer: Mapping[str, NDArray[Any]], limits: Limits) -> Levels:
    """Compare a picture with the right one."""
    import numpy as np

    actual = answer.get(FRAME)
    if actual is None or actual.dtype != np.uint8 or actual.shape != expected.shape:
        found = "not there" if actual is None else f"{actual.dtype} {list(actual.shape)}"
        return Levels(
            largest=LEVELS, mean=LEVELS, reasons=(f"{FRAME} is {found}; expected uint8 {list(expected.shape)}",)
        )
    difference = np.abs(actual.astype(np.int16) - expected)
    largest, mean = int(difference.max()), float(difference.mean())
    most, most_mean = math.ceil(LEVELS * limits.max_abs), LEVELS * 10 ** (-limits.psnr_db / 20)
    reasons = []
    if largest > most:
        y, x, channel = (int(place) for place in np.unravel_index(difference.argmax(), difference.shape))
        reasons.append(f"{largest} grey levels off at x {x}, y {y}, channel {channel}; expected at most {most}")
    if mean > most_mean:
        reasons.append(f"{mean:.3g} grey levels off in the mean; expected at most {most_mean:.3g}")
    return Levels(largest=largest, mean=mean, reasons=tuple(reasons))


def _sizes(artifact: Artifact, own: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """The artifact's size, or the frames' own; and a little less."""
    _, height, width = artifact.fixed
    if artifact.profile is not None:
        height, width = artifact.profile[1][1:]
    whole = padded_size(height or own[0], width or own[1])
    yield whole
    cut = (whole[0] - CUT[0], whole[1] - CUT[1])
    yield cut
    if height is None and width is None and own not in (whole, cut):
        yield own


def _expected(reference: Runner, inputs: Mapping[str, NDArray[Any]], size: tuple[int, int]) -> NDArray[np.uint8]:
    import numpy as np

    img0, img1 = (
        np.ascontiguousarray(np.moveaxis(inputs[name].astype(np.float32) / np.float32(LEVELS), -1, 0)[None])
        for name in (FRAME0, FRAME1)
    )
    pair = padded(FramePair("frames", img0, img1))
    feeds = {"img0": pair.img0, "img1": pair.img1}
    if TIMESTEP in inputs:
        feeds[TIMESTEP] = inputs[TIMESTEP].reshape(1, 1, 1, 1)
    return uint8_from_frame(cropped(reference.run(feeds)["frame"], size))


def compare_frames(
    channels: Sequence[Channel],
    behind: Served,
    reference: nn.Module,
    pair: FramePair,
    options: ValidateOptions,
    progress: Progress,
) -> Compared:
    """Send pictures over every channel.

    Args:
        channels: to the server.
        behind: the network that the ensemble is made over.
        reference: what `network.reference_network` returns.
        pair: of any size.
        options: timesteps and limits.
        progress: told of each step.
    """
    limits = options.limits.of(behind.artifact.graph, behind.artifact.precision)
    answers: list[Answered] = []
    with TorchRunner(reference, behind.artifact.graph, dtype=options.reference) as runner, ExitStack() as stack:
        clients = [(channel.name, stack.enter_context(TritonClient(channel.options))) for channel in channels]
        feeds = []
        for feed in frame_feeds(runner, behind.artifact, pair, options.timesteps):
            feeds.append(feed)
            with progress.step(f"compare {ENSEMBLE} {feed.name}"):
                answers += [_answered(name, client, feed, limits) for name, client in clients]
    of_first = [feed for feed in feeds if feed.size == feeds[0].size]
    return Compared(
        answers=tuple(answers),
        questions=tuple(
            Question(inputs=feed.inputs, wrong=functools.partial(_wrong, feed.expected, limits)) for feed in of_first
        ),
        size=feeds[0].size,
    )


def _answered(channel: str, client: TritonClient, feed: FrameFeed, limits: Limits) -> Answered:
    made = functools.partial(Answered, model=ENSEMBLE, channel=channel, feed=feed.name)
    try:
        answer = client.infer(ENSEMBLE, feed.inputs)
    except RefineExportError as error:
        return made(status="failed", reasons=(str(error),), numbers={})
    found = judge_frame(feed.expected, answer, limits)
    return made(
        status="failed" if found.reasons else "passed",
        reasons=found.reasons,
        numbers={"levels": found.largest, "mean_levels": found.mean},
    )


def _wrong(expected: NDArray[np.uint8], limits: Limits, answer: Mapping[str, NDArray[Any]]) -> str | None:
    return "; ".join(f"under load {reason}" for reason in judge_frame(expected, answer, limits).reasons) or None
