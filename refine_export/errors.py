"""The errors of the package, and the exit code that each one means.

    RefineExportError
    |-- RequestError               2  what was asked for is wrong
    |   |-- CheckpointError           the weights file
    |   |-- FrameError                the pictures
    |   |-- GraphError                the ONNX file
    |   `-- RecipeError               the recipe or an option
    |-- UnavailableError           3  the machine lacks something that was required
    `-- InternalError             70  a promise of this package was broken: our bug, never the user's

A message says what was given, what was expected and what to do. Exit code 1 is no error: it means that the
work was done and the verdict is "failed".
"""


class RefineExportError(Exception):
    """Anything this package raises on purpose."""

    exit_code = 70


class RequestError(RefineExportError):
    """What was asked for is wrong."""

    exit_code = 2


class CheckpointError(RequestError):
    """A weights file that can't be used."""


class FrameError(RequestError):
    """Pictures that can't be used."""


class GraphError(RequestError):
    """An ONNX file that can't be used."""


class RecipeError(RequestError):
    """A recipe or an option that can't be used."""


class UnavailableError(RefineExportError):
    """Something that was required is missing on this machine; the message says how to add it."""

    exit_code = 3


class InternalError(RefineExportError):
    """A postcondition of this package does not hold."""
