"""What a graph is calibrated with: the user's arrays, the feeds of its signature, or feeds made for its inputs.

Shape legend: N batch, C channels, H and W in pixels.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export.errors import RequestError
from refine_export.feeds import FLOW_KINDS, feeds_for, synthetic_flow
from refine_export.frames import padded_size
from refine_export.runners.base import TensorInfo
from refine_export.signature import GraphName
from refine_export.source import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from refine_export.frames import Frame

TIMESTEP = 0.5

NamedFeed = tuple[str, Mapping[str, Any]]


def feeds_from_npz(paths: Sequence[Path], inputs: Sequence[TensorInfo]) -> Iterator[NamedFeed]:
    """One feed from each .npz, which has an array for each input by its name.

    Raises:
        RequestError: no such file, no .npz, other names, no numbers, or NaN or infinity.
    """
    import numpy as np

    expected = {info.name for info in inputs}
    for path in paths:
        arrays = _arrays(path)
        if set(arrays) != expected:
            names = ", ".join(sorted(arrays)) or "(none)"
            raise RequestError(
                f"{path} has arrays named {names}; expected {', '.join(sorted(expected))}: name them after the inputs"
            )
        for name, array in arrays.items():
            if array.dtype.kind not in "fiu":
                raise RequestError(f"{path}: {name} is {array.dtype}; expected numbers")
            if not np.isfinite(array).all():
                raise RequestError(f"{path}: {name} has NaN or infinite values; expected finite numbers: mend the feed")
        types = {info.name: info.dtype for info in inputs}
        with np.errstate(over="ignore"):  # what becomes infinite is found by the run
            feed = {name: array.astype(types[name]) for name, array in arrays.items()}
        yield path.name, feed


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz; nothing in it is run.

    Raises:
        RequestError: no such file, or it can't be read.
    """
    import numpy as np

    if not path.is_file():
        raise RequestError(f"{path} does not exist or is no file; expected an .npz with an array for each input")
    if not zipfile.is_zipfile(path):
        raise RequestError(f"{path} is no .npz, or truncated; write one with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except MemoryError:
        raise
    except Exception as error:  # of zipfile, zlib, tokenize and numpy, which share no base class but this one
        raise RequestError(f"{path} can't be read ({error}); write it again with numpy.savez") from error
    if strange := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise RequestError(f"{path}: {strange[0]} is no array; write the file with numpy.savez")
    return arrays


def feeds_of_graph(
    reference: nn.Module, graph: GraphName, source: Source, size: tuple[int, int]
) -> Iterator[NamedFeed]:
    """One feed of each kind for one of the five graphs."""
    for feed in feeds_for(reference, graph, source.at(size), kinds=FLOW_KINDS):
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
        arrays[info.name] = np.ascontiguousarray(array, dtype=info.dtype)
    yield "frames and noise, made for the inputs", arrays


def _shape(info: TensorInfo, size: tuple[int, int] | None) -> tuple[int, ...]:
    """An input's shape in numbers."""
    free = [axis for axis, dim in enumerate(info.shape) if not isinstance(dim, int)]
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
