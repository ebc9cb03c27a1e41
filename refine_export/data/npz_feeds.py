"""Feeds that the user brings: .npz files with an array for each input of a graph.

Shape legend: N batch, H and W frame size in pixels.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refine_export.data.feeds import Feed, longest_px, name_of_feed
from refine_export.data.images import labels_of
from refine_export.errors import RequestError
from refine_export.signature import LARGEST_SIDE, SIGNATURES, Signature, TensorInfo, signature_of
from refine_export.support.files import check_input_file
from refine_export.support.text import listed

LARGEST_UNPACKED_BYTES = 2**32

NamedFeed = tuple[str, Mapping[str, NDArray[Any]]]
"""Name of a feed, for messages, and an array for each input."""


def signature_of_npz(path: Path) -> Signature:
    """Find the graph whose inputs the arrays are, by their names; no array is read.

    Raises:
        RequestError: `unreadable-npz` or `wrong-names`.
    """
    with _opened(path) as content:
        names = set(content.files)
    known = [*SIGNATURES.values(), signature_of("interpolator", timestep=True)]
    for signature in known:
        if names == set(signature.input_names):
            return signature
    expected = "; ".join(f"{signature.graph}: {', '.join(signature.input_names)}" for signature in known)
    raise _wrong_names(path, names, f"those of one graph ({expected})")


def feeds_of_arrays(paths: Sequence[Path], signature: Signature) -> Iterator[Feed]:
    """Read the feeds of one of the graphs; files with the names of another graph are skipped.

    Raises:
        RequestError: as in `feeds_from_npz`; or batches and sizes that do not fit the graph, or each other.
    """
    infos = [TensorInfo(name=spec.name, dtype="float32", shape=spec.shape) for spec in signature.inputs]
    for path, label in zip(paths, labels_of(paths), strict=True):
        if signature_of_npz(path).input_names != signature.input_names:
            continue
        for _, arrays in feeds_from_npz([path], infos):
            batch, height, width = _batch_and_size(path, arrays, signature)
            yield Feed(
                name=name_of_feed(signature.graph, batch, (height, width), label),
                inputs={spec.name: arrays[spec.name] for spec in signature.inputs},
                size=(height, width),
                largest_flow_px=longest_px(arrays["flow"]) if "flow" in arrays else None,
            )


def _batch_and_size(path: Path, arrays: Mapping[str, Any], signature: Signature) -> tuple[int, int, int]:
    multiple_of = signature.multiple_of
    first, *others = signature.inputs  # the first is an image: N, 3, H, W
    batch, _, height, width = arrays[first.name].shape
    if batch < 1 or any(side < 1 or side % multiple_of for side in (height, width)):
        raise RequestError.about(
            path,
            "wrong-size",
            f"has a batch of {batch} at {height}x{width} in {first.name}; expected one or more, with sides that are "
            f"multiples of {multiple_of}: pad the arrays",
        )
    for spec in others:
        if arrays[spec.name].shape != (expected := spec.shape_at(batch, height, width)):
            raise _wrong_shape(path, spec.name, arrays[spec.name].shape, expected)
    return batch, height, width


def feeds_from_npz(paths: Sequence[Path], inputs: Sequence[TensorInfo]) -> Iterator[NamedFeed]:
    """Read one feed from each .npz file, which has an array for each input by its name.

    Args:
        paths: the files.
        inputs: names, types and shapes; arrays are converted to the type.

    Raises:
        RequestError: `unreadable-npz`, `wrong-names`, `wrong-shape`, `not-numbers` or `not-finite`.
    """
    for path in paths:
        feed = {}
        with _opened(path) as content:
            if set(content.files) != (names := {info.name for info in inputs}):
                raise _wrong_names(path, content.files, ", ".join(sorted(names)))
            for info in inputs:
                feed[info.name] = _converted(path, info, content[info.name])
        yield path.name, feed


def _converted(path: Path, info: TensorInfo, array: NDArray[Any]) -> NDArray[Any]:
    if len(array.shape) != len(info.shape) or any(
        size != dim and (isinstance(dim, int) or size > LARGEST_SIDE)
        for size, dim in zip(array.shape, info.shape, strict=True)
    ):
        raise _wrong_shape(path, info.name, array.shape, info.shape)
    if array.dtype.kind not in "fiu":
        raise RequestError.about(path, "not-numbers", f"has {info.name} as {array.dtype}; expected numbers")
    if not np.isfinite(array).all():
        raise RequestError.about(path, "not-finite", f"has NaN or infinite values in {info.name}; correct the feed")
    with np.errstate(over="ignore"):  # a value that becomes infinite is found by the run
        return array.astype(info.dtype)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open an .npz file and translate errors in it; nothing that is pickled in it is run."""
    check_input_file(path, RequestError, "expected an .npz file with an array for each input")
    if not zipfile.is_zipfile(path):  # numpy would take it for a pickle, and advise to load it as one
        problem = "is not an .npz file; write one with numpy.savez, with an array for each input"
        raise RequestError.about(path, "unreadable-npz", problem)
    try:
        # numpy leaves its own file open where it is damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            # Zeros pack a thousandfold: a small file may unpack to more than the memory.
            if (size := sum(part.file_size for part in content.zip.infolist())) > LARGEST_UNPACKED_BYTES:
                problem = f"unpacks to {size} bytes; expected at most {LARGEST_UNPACKED_BYTES}: give fewer frames"
                raise RequestError.about(path, "too-large", problem)
            yield content
    except (MemoryError, RequestError):
        raise
    except Exception as error:  # of zipfile, zlib, ast and numpy, which share no other base class
        reason = "it holds Python objects" if "pickle" in str(error) else error  # numpy advises to load them
        problem = f"cannot be read as an .npz file ({reason}); write it again with numpy.savez"
        raise RequestError.about(path, "unreadable-npz", problem) from error


def _wrong_names(path: Path, names: Sequence[str] | set[str], expected: str) -> RequestError:
    found = listed(sorted(names)) or "(none)"
    return RequestError.about(path, "wrong-names", f"has arrays named {found}; expected {expected}: rename them")


def _wrong_shape(path: Path, name: str, shape: Sequence[int], expected: Sequence[int | str]) -> RequestError:
    problem = f"has {name} of shape {list(shape)}; expected {list(expected)}: correct the feed"
    return RequestError.about(path, "wrong-shape", problem, input=name)
