"""Compare the ensemble `interpolate` with the reference: pictures in, a picture out, in grey levels.

The reference's pictures are padded, go through the network in FP32 torch, are cropped and rounded. Two numbers decide,
both from the limits of the network behind the ensemble (L = 255):

1. No value differs by more than ceil(L * max_abs) levels: one for FP32. Values that differ by e before the rounding
   differ by ceil(e) at most behind it.
2. The mean difference is at most L * 10**(-psnr_db / 20) levels, which is the root mean square of the error that the
   limit allows: rounding leaves the mean of small differences as it is where values lie anywhere between two levels.
   It shows what the first cannot: a picture that is truncated rather than rounded differs by one level, but nearly
   everywhere.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refine_export.accuracy.effective_limits import limits_on
from refine_export.accuracy.limits import Limits
from refine_export.artifacts import Artifact
from refine_export.data.feeds import Feed
from refine_export.data.images import (
    FramePair,
    at_size,
    cropped,
    padded,
    uint8_from_frame,
)
from refine_export.deploy.triton.names import ENSEMBLE, FRAME, FRAME0, FRAME1, TIMESTEP
from refine_export.deploy.verify.load_test import LoadRequest
from refine_export.deploy.verify.server_models import ServerModel
from refine_export.deploy.verify.verify_result import Answer, ModelComparison
from refine_export.errors import RefineExportError
from refine_export.runners.base import Arrays
from refine_export.runners.triton.client import TritonClient
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.signature import padded_size
from refine_export.support.progress import Progress
from refine_export.support.text import size_text
from refine_export.validate.reference import Reference
from refine_export.validate.validate_options import ValidateOptions

if TYPE_CHECKING:
    from torch import nn  # optional: annotations alone must not need it

LEVELS = 255
CUT = (3, 5)
"""Pixels that are cut off a frame's height and width, so that it has to be padded."""
Picture = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class FrameFeed:
    """Two pictures, a timestep and the right picture."""

    name: str
    inputs: Arrays
    expected: Picture
    limits: Limits
    size: tuple[int, int]


def compare_frames(
    channels: Sequence[ServerOptions],
    network: ServerModel,
    reference: nn.Module,
    pair: FramePair,
    options: ValidateOptions,
    progress: Progress,
) -> ModelComparison:
    """Send pictures over every channel; `network` is the one that the ensemble is made over."""
    answers: list[Answer] = []
    feeds = []
    with Reference(reference, network.artifact.graph, dtype=options.reference) as runner, ExitStack() as stack:
        clients = [(channel.channel, stack.enter_context(TritonClient(channel))) for channel in channels]
        for feed in _frame_feeds(runner, network.artifact, pair, options):
            feeds.append(feed)
            with progress.step(f"compare {ENSEMBLE} {feed.name}"):
                answers += [_answer(name, client, feed) for name, client in clients]
    load_requests = tuple(
        LoadRequest(inputs=feed.inputs, why_wrong=functools.partial(_why_wrong, feed))
        for feed in feeds
        if feed.size == feeds[0].size
    )
    return ModelComparison(answers=tuple(answers), load_requests=load_requests, size=feeds[0].size)


def compare_pictures(expected: Picture, answer: Arrays, limits: Limits) -> tuple[tuple[str, ...], int, float]:
    """Compare a picture of the ensemble with the right one.

    Returns:
        The limits that it exceeds, and its largest and its mean difference in grey levels.
    """
    actual: NDArray[Any] | None = answer.get(FRAME)
    if actual is None or actual.dtype != np.uint8 or actual.shape != expected.shape:
        found = "missing" if actual is None else f"{actual.dtype} {list(actual.shape)}"
        return (f"{FRAME} is {found}; expected uint8 {list(expected.shape)}",), LEVELS, LEVELS
    difference = np.abs(actual.astype(np.int16) - expected)
    largest, mean = int(difference.max()), float(difference.mean())
    max_largest, max_mean = math.ceil(LEVELS * limits.max_abs), LEVELS * 10 ** (-limits.psnr_db / 20)
    reasons = []
    if largest > max_largest:
        y, x, channel = (int(place) for place in np.unravel_index(difference.argmax(), difference.shape))
        reasons.append(f"{largest} grey levels off at x {x}, y {y}, channel {channel}; expected at most {max_largest}")
    if mean > max_mean:
        reasons.append(f"{mean:.3g} grey levels off in the mean; expected at most {max_mean:.3g}")
    return tuple(reasons), largest, mean


def _frame_feeds(
    reference: Reference, artifact: Artifact, pair: FramePair, options: ValidateOptions
) -> Iterator[FrameFeed]:
    """Yield the pair at a size that needs no padding and at one that does, every second time with frames exchanged."""
    timed = artifact.takes_timestep
    for size in _sizes(artifact, pair.size):
        fed = at_size(pair, size)
        pictures = uint8_from_frame(fed.img0), uint8_from_frame(fed.img1)
        for number, timestep in enumerate(options.timesteps if timed else (0.5,)):
            first, second = pictures if number % 2 == 0 else pictures[::-1]
            inputs: dict[str, NDArray[Any]] = {FRAME0: first, FRAME1: second}
            if timed:
                inputs[TIMESTEP] = np.array([timestep], np.float32)
            order = "" if number % 2 == 0 else ", frames exchanged"
            name = size_text(size) + (f", timestep {timestep:g}" if timed else "") + order
            fed_arrays = _network_inputs(inputs, artifact.multiple_of)
            outputs = reference.run(fed_arrays)
            limits = options.limits.of(artifact.graph, artifact.precision)
            if artifact.precision != "fp32":  # FP32 differs by one level at most, whatever the size
                fed_whole = Feed(
                    name=name, inputs=fed_arrays, size=padded_size(*size, artifact.multiple_of), largest_flow_px=None
                )
                *_, roundings = reference.roundings(artifact.precision, fed_whole, outputs)
                limits = limits_on(limits, roundings["frame"])
            picture = uint8_from_frame(cropped(outputs["frame"], size))
            yield FrameFeed(name=name, inputs=inputs, expected=picture, limits=limits, size=size)


def _sizes(artifact: Artifact, own: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the artifact's size, or the frames' own; a slightly smaller one; and the frames' own, where it fits."""
    _, height, width = artifact.fixed
    if artifact.profile is not None:
        height, width = artifact.profile[1][1:]
    whole = padded_size(height or own[0], width or own[1], artifact.multiple_of)
    sizes = [whole, (whole[0] - CUT[0], whole[1] - CUT[1])]
    return list(dict.fromkeys([*sizes, own])) if height is None and width is None else sizes


def _network_inputs(inputs: Arrays, multiple_of: int) -> dict[str, NDArray[np.float32]]:
    """Return what the ensemble feeds its network for two pictures."""
    img0, img1 = (
        np.ascontiguousarray(np.moveaxis(inputs[name].astype(np.float32) / np.float32(LEVELS), -1, 0)[None])
        for name in (FRAME0, FRAME1)
    )
    pair = padded(FramePair("frames", img0, img1), multiple_of)
    feeds = {"img0": pair.img0, "img1": pair.img1}
    if TIMESTEP in inputs:
        feeds[TIMESTEP] = inputs[TIMESTEP].reshape(1, 1, 1, 1)
    return feeds


def _answer(channel: str, client: TritonClient, feed: FrameFeed) -> Answer:
    answer = functools.partial(Answer, model=ENSEMBLE, channel=channel, feed=feed.name)
    try:
        reasons, largest, mean = compare_pictures(feed.expected, client.infer(ENSEMBLE, feed.inputs), feed.limits)
    except RefineExportError as error:
        return answer(status="failed", reasons=(str(error),), numbers={})
    numbers: dict[str, float | None] = {"levels": largest, "mean_levels": mean}
    return answer(status="failed" if reasons else "passed", reasons=reasons, numbers=numbers)


def _why_wrong(feed: FrameFeed, answer: Arrays) -> str | None:
    reasons, _, _ = compare_pictures(feed.expected, answer, feed.limits)
    return "; ".join(f"under load {reason}" for reason in reasons) or None
