"""What a runner is: a context manager that takes feeds by name and returns outputs by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from refine_export.errors import RequestError
from refine_export.signature import TensorInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]


class Runner(ABC):
    """A graph that can be run.

    Names, types and shapes are known before the first run; `device` and `provider` say what is used, not what was
    asked for.

        with OrtRunner(Path("refine.onnx")) as runner:
            residual = runner.run(feeds)["residual"]
    """

    backend: str
    """`torch`, `onnxruntime`"""
    version: str
    """Of the backend."""
    device: str
    """Where it runs: `cpu`, or the GPU's index and name."""
    provider: str
    """What computes: torch's type of arithmetic, or ONNX Runtime's first execution provider."""
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        """Give back what the backend holds; the runner can't be used after it."""

    def _check(self, feeds: Arrays) -> None:
        expected = [info.name for info in self.inputs]
        if set(feeds) != set(expected):
            raise RequestError(f"feeds are named {sorted(feeds)}; this graph takes {sorted(expected)}")
        symbols: dict[str, int] = {}
        for info in self.inputs:
            array = feeds[info.name]
            fits = len(array.shape) == len(info.shape) and all(
                size == (dim if isinstance(dim, int) else symbols.setdefault(dim, size))
                for size, dim in zip(array.shape, info.shape, strict=True)
            )
            if str(array.dtype) != info.dtype or not fits:
                raise RequestError(
                    f"the feed {info.name} is {array.dtype} {list(array.shape)}; expected {info.dtype} "
                    f"{list(info.shape)}" + (f" with {symbols}" if symbols else "")
                )
