"""The interface of all runners: feeds by name in, outputs by name out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

from numpy.typing import NDArray

from refine_export.errors import RequestError
from refine_export.signature import Signature, TensorInfo

Arrays = Mapping[str, NDArray[Any]]
"""Arrays by the names of inputs or outputs."""


class Runner(ABC):
    """A graph that can be run; a context manager that closes it.

    Names, types and shapes are known before the first run. `device` and `provider` report what is used, which can
    differ from what was asked for.

        with OrtRunner(Path("refine.onnx")) as runner:
            residual = runner.run(feeds)["residual"]
    """

    backend: str
    """Name of the backend, such as `torch` or `onnxruntime`."""
    version: str
    """Version of the backend."""
    device: str
    """Device that it runs on: `cpu`, or the index and name of a GPU."""
    provider: str
    """Component that computes: torch's type of arithmetic, or ONNX Runtime's first execution provider."""
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """Compute the outputs.

        Args:
            feeds: one array per input, of its type and shape.

        Returns:
            One new array per output.

        Raises:
            RequestError: a feed is missing, unknown, or of the wrong type or shape, or the backend refuses it.
        """
        self._check(feeds)
        return self._run(feeds)

    @abstractmethod
    def _run(self, feeds: Arrays) -> dict[str, NDArray[Any]]: ...

    def close(self) -> None:  # noqa: B027 (most backends hold nothing)
        """Release what the backend holds; the runner cannot be used after it."""

    def _check(self, feeds: Mapping[str, Any]) -> None:
        """Check names, types and shapes of feeds; all that is read of them is `shape` and `dtype`."""
        expected = [info.name for info in self.inputs]
        if set(feeds) != set(expected):
            message = f"feeds are named {sorted(feeds)}; this graph takes {sorted(expected)}"
            raise RequestError(message, code="feed-names", expected=sorted(expected))
        sizes: dict[str, int] = {}  # of the free dimensions: the first input that has one decides
        for info in self.inputs:
            array = feeds[info.name]
            fits = len(array.shape) == len(info.shape) and all(
                size == (dim if isinstance(dim, int) else sizes.setdefault(dim, size))
                for size, dim in zip(array.shape, info.shape, strict=True)
            )
            if fits and str(array.dtype) == info.dtype:
                continue
            message = (
                f"the feed {info.name} is {array.dtype} {list(array.shape)}; expected {info.dtype} {list(info.shape)}"
                + (f" with {sizes}" if sizes else "")
            )
            if str(array.dtype) != info.dtype:
                raise RequestError(message, code="feed-type", input=info.name)
            raise RequestError(message, code="feed-shape", input=info.name)


def check_sizes(signature: Signature, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that frames are multiples of the graph's padding and that all inputs have one size.

    Backends on a GPU need this: they find out while they run, and their messages name a node inside the graph.

    Raises:
        RequestError: they are not.
    """
    first = signature.inputs[0]
    batch, _, height, width = shapes[first.name]
    stride = signature.multiple_of
    if height % stride or width % stride:
        raise RequestError(
            f"the feed {first.name} is {height}x{width}; {signature.graph} takes multiples of {stride}: pad the frames",
            code="feed-size",
            input=first.name,
            multiple_of=stride,
        )
    for spec in signature.inputs:
        if shapes[spec.name] != (expected := spec.shape_at(batch, height, width)):
            raise RequestError(
                f"the feed {spec.name} is {list(shapes[spec.name])}; expected {list(expected)}, as {first.name} is "
                f"{list(shapes[first.name])}",
                code="feed-shape",
                input=spec.name,
            )
