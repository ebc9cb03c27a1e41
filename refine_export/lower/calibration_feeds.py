"""Choose or make the feeds that a graph is calibrated with: the user's arrays, its own feeds, or made for its inputs.

Shape legend: N batch, C channels, H and W in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from refine_export.checkpoint.checkpoint import Checkpoint
from refine_export.data.feeds import CALIBRATION_KINDS, feeds_for, synthetic_flow
from refine_export.data.frame_options import SMALLEST_SCENE_SIDE
from refine_export.data.frame_source import Source
from refine_export.data.npz_feeds import NamedFeed, feeds_from_npz
from refine_export.errors import GraphError, RequestError
from refine_export.export.reference_network import reference_network, signature_of_network
from refine_export.graph.stacked_input import CHANNELS, stack_of
from refine_export.lower.lowering import Prepared
from refine_export.signature import LARGEST_SIDE, TensorInfo, check_multiples, padded_size

FRAME_CHANNELS: Final = (3, 6, 7, 8, 9, 10, 11)
"""Numbers of channels of an input that begins with a frame, or with both."""
_TIMESTEP = 0.5
LARGEST_CALIBRATION = 1024
"""Pixels of a side of the frames that ranges are measured on, where no size is given."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The data that the ranges, and a search, are measured on."""

    source: Callable[[], Source]
    """Frames, for a graph without feeds of its own; called only for those."""
    checkpoint: Callable[[], Checkpoint]
    """The weights that estimate flows and features for graphs that take them; called only for those."""
    files: tuple[Path, ...] = ()
    """.npz files with feeds, in place of all else."""
    size: tuple[int, int] | None = None
    """Height and width for a graph that takes any; those of the frames for one of ours."""


def check_inputs(prepared: Prepared, calibration: Calibration) -> None:
    """Refuse inputs that nothing can be made for, before frames are read or drawn for them.

    Raises:
        RequestError: as `feeds_of_calibration`.
    """
    inputs = inputs_of_model(prepared.model)
    if not calibration.files and prepared.signature is not None:
        _known_sides(inputs[0], calibration, prepared.signature.multiple_of)
    elif not calibration.files:
        for info in inputs:
            _shape(info, calibration.size)


def feeds_of_calibration(
    prepared: Prepared, checkpoint: Checkpoint | None, calibration: Calibration
) -> Iterator[NamedFeed]:
    """Return the user's arrays, the feeds of one of our graphs, or feeds made for the inputs.

    Raises:
        RequestError: an array cannot be used, or nothing can be made for an input.
    """
    inputs = inputs_of_model(prepared.model)
    if calibration.files:
        return feeds_from_npz(calibration.files, inputs)
    signature = prepared.signature
    if signature is None:
        return feeds_for_inputs(inputs, calibration.source(), calibration.size)
    network, unit = None, signature.multiple_of
    if checkpoint is not None:
        network = reference_network(checkpoint, signature.scale)
        # Files of other tools do not state their padding.
        unit = max(unit, signature_of_network(network, signature.graph).multiple_of)
    batch, size = _batch_and_size(inputs[0], calibration, unit)
    pair = calibration.source().at(size)
    feeds = feeds_for(network, signature, pair, kinds=CALIBRATION_KINDS, batch=batch)
    return ((feed.name, feed.inputs) for feed in feeds)


def inputs_of_model(model: ir.Model) -> list[TensorInfo]:
    """Return the inputs as a file declares them.

    Raises:
        GraphError: `unknown-shape`.
    """
    infos = []
    for value in model.graph.inputs:
        if value.name in model.graph.initializers:  # up to IR version 3 every constant is listed as an input too
            continue
        if value.shape is None or value.dtype is None:
            message = f"input {value.name} has no shape; expected its number of dimensions at least: export it again"
            raise GraphError(message, code="unknown-shape", tensor=value.name)
        shape = tuple(dim if isinstance(dim, int) else str(dim) for dim in value.shape)
        infos.append(TensorInfo(name=value.name or "", dtype=str(value.dtype.numpy()), shape=shape))
    return infos


def _batch_and_size(image: TensorInfo, calibration: Calibration, unit: int) -> tuple[int, tuple[int, int]]:
    """Return the file's own batch and size where it has them; else one, and the requested size or the frames', padded.

    Of large frames a part is enough: ranges grow little with the size, and `HEADROOM` covers a factor of 8.

    Raises:
        RequestError: as `_known_sides`.
    """
    batch, *sides = _known_sides(image, calibration, unit)
    if None in sides:
        free = padded_size(*calibration.source().pair.size, unit)
        limit = LARGEST_CALIBRATION // unit * unit
        sides = [known or min(side, limit) for known, side in zip(sides, free, strict=True)]
    height, width = (side for side in sides if side is not None)
    return batch or 1, (height, width)


def _known_sides(image: TensorInfo, calibration: Calibration, unit: int) -> tuple[int | None, int | None, int | None]:
    """Return batch, height and width that the file has, or that are requested; None where the frames decide.

    Raises:
        RequestError: `wrong-size`; a size that the user gave is not a multiple of `unit`.
        GraphError: a side of the file is not, or is too large.
    """
    if calibration.size is not None:
        check_multiples(calibration.size, unit)
    batch, _, *sides = image.shape if len(image.shape) == 4 else ("N", 3, "H", "W")
    requested = calibration.size or (None, None)
    count = batch if isinstance(batch, int) else None
    height, width = (side if isinstance(side, int) else other for side, other in zip(sides, requested, strict=True))
    known = [side for side in (height, width) if side is not None]
    if any(side < unit or side % unit or side > LARGEST_SIDE for side in known) or (count is not None and count < 1):
        raise GraphError(
            f"the inputs are {list(image.shape)}; expected a batch of 1 or more, and sides that are multiples of "
            f"{unit} to {LARGEST_SIDE}: export the graph at such a size",
            code="unsupported-shape",
            tensor=image.name,
        )
    return count, height, width


def feeds_for_inputs(inputs: Sequence[TensorInfo], source: Source, size: tuple[int, int] | None) -> Iterator[NamedFeed]:
    """Make a feed for a graph that is not known, by the names and shapes of its inputs.

    Three channels are a frame (the second such input the other frame), six are both, and seven to eleven are both with
    a timestep (seven and eleven as in `graph.stacked_input`); two or four that are called a flow are one, to 96 px;
    single numbers and one-valued planes are a timestep; anything else is noise in [0, 1).

    Raises:
        RequestError: a size is free and none is given, or a shape is not that of a picture.
    """
    generator = np.random.Generator(np.random.PCG64(0))
    arrays: dict[str, NDArray[Any]] = {}
    frames: list[NDArray[Any]] = []
    shapes = {info.name: _shape(info, size) for info in inputs}
    planes = [shape[2:] for shape in shapes.values() if len(shape) == 4 and shape[1] in FRAME_CHANNELS]
    if planes:  # at the largest of each side, from which every input is cut
        height, width = (max(sides) for sides in zip(*planes, strict=True))
        pair = source.at(padded_size(height, width, SMALLEST_SCENE_SIDE))
        frames = [pair.img0, pair.img1]
    for info in inputs:
        shape = shapes[info.name]
        channels = shape[1] if len(shape) == 4 else 0
        array: NDArray[Any]
        # Of a number of each picture in a batch, the batch is free or one.
        if math.prod(shape[1:] or shape) == 1 or (channels <= 1 and "time" in info.name.lower()):
            array = np.full(shape, _TIMESTEP)
        elif channels in FRAME_CHANNELS:
            cut = [frame[:, :, : shape[2], : shape[3]] for frame in frames[: 2 if channels > 3 else 1]]
            if channels in CHANNELS.values():
                array = stack_of(cut[0], cut[1], np.full((1, 1, 1, 1), _TIMESTEP), channels)
            else:
                rest = np.full((1, max(0, channels - 6), *shape[2:]), _TIMESTEP)
                array = np.concatenate([*cut, rest], axis=1)
            frames.reverse()
        elif channels in (2, 4) and "flow" in info.name.lower():
            array = synthetic_flow("large", *padded_size(shape[2], shape[3], SMALLEST_SCENE_SIDE))[:, :channels]
        else:
            array = generator.random(shape)
        if len(shape) == 4:
            array = np.broadcast_to(array[:, :, : shape[2], : shape[3]], shape)
        arrays[info.name] = np.array(array, dtype=info.dtype, order="C")
    yield "frames and noise, made for the inputs", arrays


def flat_feeds(feed: NamedFeed) -> Iterator[NamedFeed]:
    """Make feeds of black, white and grey pictures from one: texture hides what becomes zero where nothing varies."""
    name, arrays = feed
    for label, value_of in (("black", lambda one: 0), ("white", np.max), ("grey", np.mean)):
        planes = {key: one for key, one in arrays.items() if one.ndim == 4 and math.prod(one.shape[2:]) > 1}
        yield f"{label} in place of {name}", {**arrays, **{k: np.full_like(v, value_of(v)) for k, v in planes.items()}}


def _shape(info: TensorInfo, size: tuple[int, int] | None) -> tuple[int, ...]:
    """Return an input's shape in numbers: free ones are a batch of 1 and the given size.

    Raises:
        RequestError: no value can be made up for it.
    """
    if info.dtype not in ("float32", "float16"):
        raise RequestError(
            f"input {info.name} is {info.dtype}, for which no value can be made up; give feeds with --calibrate "
            "FILE.npz",
            code="needs-feeds",
            tensor=info.name,
        )
    if any(isinstance(dim, int) and not 1 <= dim <= LARGEST_SIDE for dim in info.shape):
        raise RequestError(
            f"input {info.name} is {list(info.shape)}; expected sizes of 1 to {LARGEST_SIDE}: export it again, or "
            "give feeds with --calibrate FILE.npz",
            code="needs-feeds",
            tensor=info.name,
        )
    known = dict(enumerate((1, None, *(size or (None, None))))) if len(info.shape) == 4 else {}
    sizes = [dim if isinstance(dim, int) else known.get(axis) for axis, dim in enumerate(info.shape)]
    if None in sizes:
        unknown = f"input {info.name} is {list(info.shape)}, with sizes that are not known; give"
        if size is None and len(info.shape) == 4 and isinstance(info.shape[1], int):
            message = f"{unknown} them with --size HxW, or feeds with --calibrate FILE.npz"
            raise RequestError(message, code="needs-size", tensor=info.name)
        raise RequestError(f"{unknown} feeds with --calibrate FILE.npz", code="needs-feeds", tensor=info.name)
    return tuple(size for size in sizes if size is not None)
