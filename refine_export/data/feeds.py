"""Inputs of a graph from frames and flows.

Images are those of the pair. A graph that takes a flow is fed one of each kind:

- `network`: what the checkpoint's own flow stage estimates, with its mask; the values that the refinement really gets.
- `subpixel`: smooth, below one pixel, where only errors of the coordinates remain.
- `large`: smooth, up to 96 pixels.
- `outside`: a zoom out to 2.5 times, so that most positions lie outside the frame and are clamped to its border.
- `discontinuous`: one motion for each of a few regions, up to 40 pixels, with jumps of 40 to 75 pixels at their edges.
- `zero`: none, where every position is the pixel's own.

Shape legend: N batch, H and W frame size in pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from refine_export.data.frame_options import FLOW_KINDS, FlowKind, SceneOptions
from refine_export.data.images import FramePair
from refine_export.data.sample_scene import Scene
from refine_export.errors import RequestError
from refine_export.signature import SIGNATURES, TIMESTEP, GraphName, Signature
from refine_export.support.text import size_text

if TYPE_CHECKING:
    from torch import Tensor, nn

CALIBRATION_KINDS: tuple[FlowKind, ...] = ("network", "subpixel", "large", "outside")
"""Kinds that spread a graph's values: ranges measured on them decide which nodes stay FP32."""
AMPLITUDE_PX = {"subpixel": 0.9, "large": 96.0, "discontinuous": 40.0}
REGIONS = 6  # levels of a smooth field; most neighbours are one level apart
TURN = 2.4  # radians from the motion of one region to that of the next
MASK_LOGIT = 4.0
WAVES = 4  # per component of a smooth field
PROBE_SIZE = (64, 1920)
"""Size of the probe for dynamic files: wide, because an error of the coordinates grows with the width."""
PROBE_FLOW: FlowKind = "subpixel"
PROBE_FADE = 0.25
PROBE_TIMESTEP = 0.2  # at 0.5 the frames' share in the answer is equal, and a wrong mask shows less


@dataclass(frozen=True, kw_only=True)
class Feed:
    """The inputs of one run."""

    name: str
    """Such as `refine 1088x1920, subpixel flow`, or `refine 2x96x160, ...` for a batch of 2; unique for a graph."""
    inputs: dict[str, NDArray[np.float32]]
    size: tuple[int, int]
    """Height and width in pixels."""
    largest_flow_px: float | None
    """Length of the longest vector of the flow."""
    sequence: str | None = None
    """Name of the sequence of feeds with the same kind of flow and timestep; None for frames by themselves."""
    index: int = 0
    """Number in the sequence; the next one in time has the next number."""
    probe: bool = False
    """Made to show errors, not to look like frames: its signal-to-noise ratio is measured (see `probe_for`)."""


def name_of_feed(graph: GraphName, batch: int, size: tuple[int, int], *more: str) -> str:
    """Return a name such as `refine 2x96x160, clip.mp4 frames 3-4, zero flow`."""
    sides = size_text(size if batch == 1 else (batch, *size))
    return ", ".join((f"{graph} {sides}", *filter(None, more)))


def flow_kinds_of(reference: nn.Module, kinds: Sequence[FlowKind]) -> tuple[FlowKind, ...]:
    """Return those of `kinds` that can be made: weights of only a refinement have no flow stage to estimate a flow."""
    return tuple(kind for kind in kinds if kind != "network" or hasattr(reference, "motion"))


def feeds_for(
    reference: nn.Module | None,
    signature: Signature,
    pair: FramePair,
    *,
    kinds: Sequence[FlowKind] = FLOW_KINDS,
    timesteps: Sequence[float] = (0.5,),
    batch: int = 1,
    label: str = "",
    sequence: str | None = None,
    index: int = 0,
) -> Iterator[Feed]:
    """Make each feed of a graph for a pair of frames, when it is asked for.

    Args:
        reference: the module of `reference_network`, which estimates flows and extracts features; None for an
            interpolator, whose feeds have neither.
        signature: of the graph.
        pair: frames whose sides are multiples of the signature's.
        kinds: flows, for the graphs that take one.
        timesteps: for an interpolator that takes one, each in (0, 1).
        batch: how often the pair is repeated; every second time with its frames exchanged.
        label: tells the feeds of this pair from those of others, in their names.
        sequence: label of the clip that the pair belongs to.
        index: number of the pair in the clip.
    """
    graph, frames = signature.graph, (pair.img0, pair.img1)
    img0, img1 = frames
    if batch > 1:
        img0, img1 = (np.concatenate([frames[(k + first) % 2] for k in range(batch)]) for first in (0, 1))

    def feed(inputs: dict[str, NDArray[np.float32]], variant: str = "") -> Feed:
        flow = inputs.get("flow")
        return Feed(
            name=name_of_feed(graph, batch, pair.size, label, variant),
            inputs=inputs,
            size=pair.size,
            largest_flow_px=None if flow is None else longest_px(flow),
            sequence=None if sequence is None else name_of_feed(graph, batch, pair.size, sequence, variant),
            index=index,
        )

    images = {"img0": img0, "img1": img1}
    if signature.takes_timestep:
        for timestep in timesteps:
            extra = {TIMESTEP.name: np.full((batch, 1, 1, 1), timestep, np.float32)}
            yield feed(images | extra, f"timestep {timestep:g}")
    elif graph == "interpolator":
        yield feed(images)
    else:
        assert reference is not None  # only an interpolator goes without
        for kind in flow_kinds_of(reference, kinds):
            yield feed(_refinement_inputs(reference, graph, img0, img1, kind), f"{kind} flow")


def probe_for(reference: nn.Module, signature: Signature, size: tuple[int, int], *, batch: int = 1) -> Iterator[Feed]:
    """Make a feed that shows errors which frames may hide.

    Graphs that take a flow get white noise under a flow below one pixel. Where every pixel differs from its neighbours,
    wrong positions show best: errors of FP16 are 60 dB below the signal, whatever the weights; those of wrong sampling
    are at least 10 dB larger.

    An interpolator gets a scene that fades to a quarter of its brightness. Nothing moves, so that rounding costs
    little, and no warp explains the second frame: mask and refinement do the work, and errors in their weights show.

    Args:
        reference: as in `feeds_for`.
        signature: of the graph.
        size: height and width.
        batch: as in `feeds_for`.
    """
    if "flow" in signature.input_names:
        img0, img1 = np.random.Generator(np.random.PCG64(11)).random((2, 1, 3, *size), np.float32)
        pair = FramePair("noise", img0, img1)
    else:
        img0 = Scene(SceneOptions(height=size[0], width=size[1])).frame(0.0)
        pair = FramePair("fade", img0, img0 * np.float32(PROBE_FADE))
    kinds, timesteps = (PROBE_FLOW,), (PROBE_TIMESTEP,)
    for feed in feeds_for(reference, signature, pair, kinds=kinds, timesteps=timesteps, batch=batch, label=pair.name):
        yield dataclasses.replace(feed, probe=True)


def longest_px(flow: NDArray[np.float32]) -> float:
    """Return the length of the longest vector of a flow [N, 2 or 4, H, W]."""
    return float(np.hypot(flow[:, 0::2], flow[:, 1::2]).max())


def synthetic_flow(kind: FlowKind, height: int, width: int) -> NDArray[np.float32]:
    """Make a flow [1, 4, H, W] in pixels, the same on every call.

    Raises:
        RequestError: `not-synthetic`; `network` flows come from a checkpoint.
    """
    if kind == "network":
        raise RequestError("a network flow comes from a checkpoint with a flow stage", code="not-synthetic")
    if kind == "outside":
        y, x = np.meshgrid(np.linspace(-0.75, 0.75, height), np.linspace(-0.75, 0.75, width), indexing="ij")
        outward = np.stack((x * width, y * height))
        return np.concatenate((outward, 0.8 * outward))[None].astype(np.float32)
    if kind == "zero":
        return np.zeros((1, 4, height, width), np.float32)
    if kind == "discontinuous":
        return _piecewise_flow(height, width)
    fields = np.stack([_smooth_field(height, width, seed) for seed in range(4)])
    longest = max(np.hypot(fields[0], fields[1]).max(), np.hypot(fields[2], fields[3]).max())
    return np.asarray((fields / longest * AMPLITUDE_PX[kind])[None], dtype=np.float32)


def _smooth_field(height: int, width: int, seed: int) -> NDArray[np.float64]:
    """Sum a few waves, [H, W] in about [-1, 1]; the same picture at every size."""
    generator = np.random.Generator(np.random.PCG64(seed))
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    field = np.zeros((height, width))
    for fx, fy, phase in zip(*generator.uniform(0.3, 2.5, (2, WAVES)), generator.uniform(0, 6.28, WAVES), strict=True):
        field += np.cos(2 * np.pi * (fx * x + fy * y) + phase) / WAVES
    return field


def _piecewise_flow(height: int, width: int) -> NDArray[np.float32]:
    """Make a flow [1, 4, H, W] with one vector per region; the regions of its two halves are the same."""
    field = _smooth_field(height, width, seed=5)
    low, high = field.min(), field.max()
    region = np.minimum((field - low) / (high - low) * REGIONS, REGIONS - 1).astype(np.int64)
    angle = 1 + TURN * region
    flow = np.stack((np.cos(angle), np.sin(angle), -0.75 * np.cos(angle), -0.75 * np.sin(angle)))
    return np.asarray((flow * AMPLITUDE_PX["discontinuous"])[None], dtype=np.float32)


def _refinement_inputs(
    reference: nn.Module, graph: GraphName, frame0: NDArray[np.float32], frame1: NDArray[np.float32], kind: FlowKind
) -> dict[str, NDArray[Any]]:
    import torch  # here: files of other tools are calibrated without torch

    from rife.warplayer import warp

    img0, img1 = torch.from_numpy(frame0), torch.from_numpy(frame1)
    batch, _, height, width = frame0.shape
    with torch.inference_mode():
        if kind == "network":
            flow, mask, warped_img0, warped_img1 = _estimated(reference, img0, img1)
        else:
            field = _smooth_field(height, width, seed=4)[None, None].astype(np.float32) * MASK_LOGIT
            flow = torch.from_numpy(synthetic_flow(kind, height, width).repeat(batch, axis=0))
            mask = torch.from_numpy(field.repeat(batch, axis=0))
            warped_img0, warped_img1 = warp(img0, flow[:, :2]), warp(img1, flow[:, 2:4])
        if graph == "contextnet":
            tensors = {"image": img0, "flow": flow[:, :2].contiguous()}
        else:
            images = (img0, img1, warped_img0, warped_img1, mask, flow)
            tensors = dict(zip(SIGNATURES["refine"].input_names, images, strict=True))
        if graph == "unet":
            contextnet = reference.get_submodule("contextnet")
            for side, image, part in (("c0", img0, flow[:, :2]), ("c1", img1, flow[:, 2:4])):
                for level, features in enumerate(contextnet(image, part), 1):
                    tensors[f"{side}_{level}"] = features
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _estimated(reference: nn.Module, img0: Tensor, img1: Tensor) -> Sequence[Tensor]:
    """Return flow, mask and warped images as the network itself estimates them; at t = 0.5, the default of all."""
    motion: Sequence[Tensor] = cast("Any", reference).motion(img0, img1)
    return motion
