"""The errors of the package, and the exit code that each one means.

    RefineExportError
    |-- RequestError               2  the request cannot be carried out as given
    |   |-- CheckpointError           the weights file
    |   |-- FrameError                the images, videos or arrays
    |   |-- GraphError                the ONNX file
    |   |-- EngineError               the engine file
    |   |-- RepositoryError           the model repository
    |   `-- RecipeError               the recipe or an option
    |-- UnavailableError           3  the machine lacks something that was required
    `-- InternalError             70  a postcondition of this package does not hold: our bug

Exit code 1 is not an error: the work was done and the verdict is "failed".
"""

from pathlib import Path
from typing import Any, Self


class RefineExportError(Exception):
    """Base class of everything that this package raises on purpose.

    Args:
        message: what was given, what was expected, and what to do.
        code: stable name of the problem in kebab case, such as `unknown-graph`; programs and tests rely on it.
        fields: the values that the message is about, such as `path` or `expected`.

    Attributes:
        code: as given; without one, the name of the class in kebab case.
        fields: as given.
    """

    exit_code = 70

    def __init__(self, message: str, *, code: str | None = None, **fields: Any) -> None:
        super().__init__(message)
        self.code = code or _kebab(type(self).__name__)
        self.fields = fields

    @classmethod
    def about(cls, path: Path, code: str, problem: str, **fields: Any) -> Self:
        """Build an error with the message `PATH problem` and the field `path`."""
        return cls(f"{path} {problem}", code=code, path=path, **fields)


class RequestError(RefineExportError):
    """The request cannot be carried out as given."""

    exit_code = 2


class CheckpointError(RequestError):
    """The weights file cannot be used."""


class FrameError(RequestError):
    """The images, videos or arrays cannot be used."""


class GraphError(RequestError):
    """The ONNX file cannot be used."""


class EngineError(RequestError):
    """The engine file cannot be used."""


class RepositoryError(RequestError):
    """The model repository cannot be used."""


class RecipeError(RequestError):
    """The recipe, or an option, cannot be used."""


class UnavailableError(RefineExportError):
    """Something that was required is missing on this machine; the message names the command that adds it."""

    exit_code = 3


class InternalError(RefineExportError):
    """A postcondition of this package does not hold."""


def _kebab(name: str) -> str:
    """`GraphError` to `graph-error`."""
    return "".join(f"-{char.lower()}" if char.isupper() else char for char in name).lstrip("-")
