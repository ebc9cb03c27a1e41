"""Feeds that the user brings: .npz files with an array for each input of a graph.

Shape legend: N batch, H and W frame size in pixels.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export.data.feeds import Feed, longest_px, name_of_feed
from refine_export.data.images import labels_of
from refine_export.errors import RequestError
from refine_export.signature import LARGEST_SIDE, MULTIPLE_OF, SIGNATURES, GraphName, TensorInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_FEED_BYTES = 2**31

NamedFeed = tuple[str, Mapping[str, Any]]


def graph_of_npz(path: Path) -> GraphName:
    """The graph whose inputs the arrays are, by their names; no array is read.

    Raises:
        RequestError: no such file, no .npz, or the names are those of no graph.
    """
    names = _names(path)
    for graph, signature in SIGNATURES.items():
        if names == set(signature.input_names):
            return graph
    expected = "; ".join(f"{graph}: {', '.join(signature.input_names)}" for graph, signature in SIGNATURES.items())
    found = ", ".join(sorted(names)) or "(none)"
    raise RequestError(f"{path} has arrays named {found}; expected those of one graph ({expected}): name them so")


def feeds_of_arrays(paths: Sequence[Path], graph: GraphName) -> Iterator[Feed]:
    """The feeds for one of the five graphs; files with the names of another graph are passed over.

    Raises:
        RequestError: an array can't be used, or the arrays of a file are of different batches or sizes.
    """
    signature = SIGNATURES[graph]
    infos = [TensorInfo(name=spec.name, dtype="float32", shape=spec.shape) for spec in signature.inputs]
    for path, label in zip(paths, labels_of(paths), strict=True):
        if graph_of_npz(path) != graph:
            continue
        for _, arrays in feeds_from_npz([path], infos):
            batch, height, width = _batch_and_size(path, arrays, graph)
            yield Feed(
                name=name_of_feed(graph, batch, (height, width), label),
                inputs={spec.name: arrays[spec.name] for spec in signature.inputs},
                size=(height, width),
                largest_flow_px=longest_px(arrays["flow"]) if "flow" in arrays else None,
            )


def _batch_and_size(path: Path, arrays: Mapping[str, Any], graph: GraphName) -> tuple[int, int, int]:
    first, *others = SIGNATURES[graph].inputs  # an image: N, 3, H, W
    batch, _, height, width = arrays[first.name].shape
    if batch < 1 or any(side < MULTIPLE_OF or side % MULTIPLE_OF for side in (height, width)):
        raise RequestError(
            f"{path}: {first.name} is a batch of {batch} at {height}x{width}; expected one or more, with sides that "
            f"are multiples of {MULTIPLE_OF}: pad the arrays"
        )
    for spec in others:
        expected = spec.shape_at(batch, height, width)
        if arrays[spec.name].shape != expected:
            raise RequestError(
                f"{path}: {spec.name} is {list(arrays[spec.name].shape)}; expected {list(expected)}, as {first.name} "
                f"is {list(arrays[first.name].shape)}: mend the feed"
            )
    return batch, height, width


def feeds_from_npz(paths: Sequence[Path], inputs: Sequence[TensorInfo]) -> Iterator[NamedFeed]:
    """One feed from each .npz, which has an array for each input by its name.

    Raises:
        RequestError: no such file, no .npz, other names, no numbers, or NaN or infinity.
    """
    import numpy as np

    expected = {info.name for info in inputs}
    for path in paths:
        _check_headers(path, inputs)
        arrays = _arrays(path, expected)
        for name, array in arrays.items():
            if array.dtype.kind not in "fiu":
                raise RequestError(f"{path}: {name} is {array.dtype}; expected numbers")
            if not np.isfinite(array).all():
                raise RequestError(f"{path}: {name} has NaN or infinite values; expected finite numbers: mend the feed")
        types = {info.name: info.dtype for info in inputs}
        with np.errstate(over="ignore"):  # what becomes infinite is found by the run
            feed = {name: array.astype(types[name]) for name, array in arrays.items()}
        yield path.name, feed


def _check_headers(path: Path, inputs: Sequence[TensorInfo]) -> None:
    """Refuse arrays of another shape before they are unpacked: zeros pack a thousandfold.

    Raises:
        RequestError: an array does not fit its input, or is larger than any feed.
    """
    import numpy as np

    infos = {f"{info.name}.npy": info for info in inputs}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if (info := infos.get(member)) is None:
                    continue
                with archive.open(member) as file:
                    major, _ = np.lib.format.read_magic(file)
                    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
                    shape, _, dtype = read(file)
                fits = len(shape) == len(info.shape) and all(
                    size == dim or (isinstance(dim, str) and size <= LARGEST_SIDE)
                    for size, dim in zip(shape, info.shape, strict=True)
                )
                if not fits or math.prod(shape) * dtype.itemsize > LARGEST_FEED_BYTES:
                    raise RequestError(
                        f"{path}: {info.name} is {list(shape)}; expected {list(info.shape)}: mend the feed"
                    )
    except RequestError:
        raise
    except Exception:  # of zipfile, zlib, ast and numpy; reading the arrays says what is wrong
        return


def _arrays(path: Path, expected: set[str]) -> dict[str, NDArray[Any]]:
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
            if set(content.files) != expected:
                names = ", ".join(sorted(content.files)) or "(none)"
                raise RequestError(
                    f"{path} has arrays named {names}; expected {', '.join(sorted(expected))}: name them so"
                )
            arrays = {name: content[name] for name in content.files}
    except (MemoryError, RequestError):
        raise
    except Exception as error:  # of zipfile, zlib, tokenize and numpy, which share no base class but this one
        raise RequestError(f"{path} can't be read ({error}); write it again with numpy.savez") from error
    if strange := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise RequestError(f"{path}: {strange[0]} is no array; write the file with numpy.savez")
    return arrays


def _names(path: Path) -> set[str]:
    if not path.is_file():
        raise RequestError(f"{path} does not exist or is no file; expected an .npz with an array for each input")
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise RequestError(f"{path} is no .npz, or truncated ({error}); write one with numpy.savez") from error
