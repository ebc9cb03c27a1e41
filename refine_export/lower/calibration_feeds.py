"""What a graph is calibrated with: the user's arrays, the feeds of its signature, or feeds made for its inputs.

Shape legend: N batch, C channels, H and W in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export.checkpoint.checkpoint import Checkpoint
from refine_export.data.feeds import CALIBRATION_KINDS, feeds_for, synthetic_flow
from refine_export.data.frame_source import Source
from refine_export.data.images import padded_size
from refine_export.data.npz_feeds import NamedFeed, feeds_from_npz
from refine_export.errors import GraphError, RequestError
from refine_export.export.reference_network import reference_network
from refine_export.lower.lowering import Prepared
from refine_export.signature import LARGEST_SIDE, MULTIPLE_OF, GraphName, TensorInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from refine_export.data.images import Frame

TIMESTEP = 0.5


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What the ranges, and a search, are measured on."""

    source: Source
    """Frames, for a graph without feeds of its own."""
    checkpoint: Callable[[], Checkpoint]
    """The weights that estimate flows and features for one of the five graphs; called only for those."""
    files: tuple[Path, ...] = ()
    """.npz files with feeds, in place of all else."""
    size: tuple[int, int] | None = None
    """Height and width for a graph that takes any; those of the frames for one of the five."""


def feeds_of_calibration(
    prepared: Prepared, checkpoint: Checkpoint | None, calibration: Calibration
) -> Iterator[NamedFeed]:
    """The user's arrays, the feeds of one of the five graphs, or what can be made for the inputs.

    Raises:
        RequestError: an array can't be used, or nothing can be made for an input.
    """
    inputs = _inputs(prepared)
    if calibration.files:
        return feeds_from_npz(calibration.files, inputs)
    if prepared.graph is not None and checkpoint is not None:
        batch, height, width = _size(prepared, calibration)
        network = reference_network(checkpoint)
        return feeds_of_graph(network, prepared.graph, calibration.source, (height, width), batch)
    return feeds_for_inputs(inputs, calibration.source, calibration.size)


def _inputs(prepared: Prepared) -> list[TensorInfo]:
    infos = []
    for value in prepared.model.graph.inputs:
        name = value.name or ""
        if value.shape is None or value.dtype is None:
            raise GraphError(f"input {name} has no shape; expected its number of dimensions at least: export it again")
        shape = tuple(dim if isinstance(dim, int) else str(dim) for dim in value.shape)
        infos.append(TensorInfo(name=name, dtype=str(value.dtype.numpy()), shape=shape))
    return infos


def _size(prepared: Prepared, calibration: Calibration) -> tuple[int, int, int]:
    """The file's own batch and size where it has them; else one, and what was asked for or the frames have, padded.

    Raises:
        GraphError: a side is no multiple of 32, or too large.
    """
    shape = prepared.model.graph.inputs[0].shape
    own = calibration.size or padded_size(*calibration.source.pair.size)
    sides = tuple(shape[2:]) if shape is not None and len(shape) == 4 else own
    height, width = (side if isinstance(side, int) else known for side, known in zip(sides, own, strict=True))
    batch = shape[0] if shape is not None and len(shape) == 4 and isinstance(shape[0], int) else 1
    if any(side < MULTIPLE_OF or side % MULTIPLE_OF or side > LARGEST_SIDE for side in (height, width)) or batch < 1:
        raise GraphError(
            f"the inputs are for a batch of {batch} at {height}x{width}; expected sides that are multiples of "
            f"{MULTIPLE_OF} to {LARGEST_SIDE}: export the graph at such a size"
        )
    return batch, height, width


def feeds_of_graph(
    reference: nn.Module, graph: GraphName, source: Source, size: tuple[int, int], batch: int
) -> Iterator[NamedFeed]:
    """One feed of each kind for one of the five graphs."""
    for feed in feeds_for(reference, graph, source.at(size), kinds=CALIBRATION_KINDS, batch=batch):
        yield feed.name, feed.inputs


def feeds_for_inputs(inputs: Sequence[TensorInfo], source: Source, size: tuple[int, int] | None) -> Iterator[NamedFeed]:
    """A feed for a graph that is not known, by the names and shapes of its inputs.

    Three channels are a frame (the second such input the other frame), six are both; two or four that are called a
    flow are one, to 96 px; numbers and one-valued planes are a timestep; anything else is noise in [0, 1).

    Raises:
        RequestError: a size is free and none is given, or a shape is no picture's.
    """
    import numpy as np

    generator = np.random.Generator(np.random.PCG64(0))
    arrays: dict[str, NDArray[Any]] = {}
    frames: list[Frame] = []
    shapes = {info.name: _shape(info, size) for info in inputs}
    planes = [shape[2:] for shape in shapes.values() if len(shape) == 4 and shape[1] in (3, 6)]
    if planes:
        height, width = (max(sides) for sides in zip(*planes, strict=True))
        pair = source.at(padded_size(height, width))
        frames = [pair.img0, pair.img1]
    for info in inputs:
        shape = shapes[info.name]
        if info.dtype not in ("float32", "float16"):
            raise RequestError(
                f"input {info.name} is {info.dtype}, for which no value can be made up; give feeds with --calibrate"
            )
        channels = shape[1] if len(shape) == 4 else 0
        named_flow = "flow" in info.name.lower()
        array: NDArray[Any]
        if len(shape) < 4 or max(shape[1:]) == 1 or (channels == 1 and "time" in info.name.lower()):
            array = np.full(shape, TIMESTEP)
        elif channels in (3, 6):
            array = np.concatenate(frames[: channels // 3], axis=1)
            frames.reverse()
        elif channels in (2, 4) and named_flow:
            array = synthetic_flow("large", *padded_size(*shape[2:]))[:, :channels]
        else:
            array = generator.random(shape)
        if len(shape) == 4:
            array = np.broadcast_to(array[:, :, : shape[2], : shape[3]], shape)
        arrays[info.name] = np.array(array, dtype=info.dtype, order="C")
    yield "frames and noise, made for the inputs", arrays


def _shape(info: TensorInfo, size: tuple[int, int] | None) -> tuple[int, ...]:
    """An input's shape in numbers."""
    free = [axis for axis, dim in enumerate(info.shape) if not isinstance(dim, int)]
    if any(isinstance(dim, int) and not 1 <= dim <= LARGEST_SIDE for dim in info.shape):
        raise RequestError(
            f"input {info.name} is {list(info.shape)}; expected sizes of 1 to {LARGEST_SIDE}: export it again, or "
            "give feeds with --calibrate FILE.npz"
        )
    if not free:
        return tuple(int(dim) for dim in info.shape)
    if len(info.shape) != 4 or 1 in free or (size is None and {2, 3} & set(free)):
        by_size = size is None and len(info.shape) == 4 and 1 not in free
        raise RequestError(
            f"input {info.name} is {list(info.shape)}, with sizes that are not known; give "
            + ("them with --size HxW, or " if by_size else "")
            + "feeds with --calibrate FILE.npz"
        )
    known = dict(enumerate((1, 0, *(size or (0, 0)))))
    return tuple(dim if isinstance(dim, int) else known[axis] for axis, dim in enumerate(info.shape))
