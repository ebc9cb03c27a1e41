"""Packages that a stage needs and a machine may lack."""

from importlib import import_module
from typing import Any

from refine_export.errors import UnavailableError


def require(module: str, *, extra: str) -> Any:
    """Import `module`, or say which extra of this package brings it.

    Raises:
        UnavailableError: the module, or a module that it needs, can't be imported.
    """
    try:
        return import_module(module)
    except Exception as error:  # a library that is there but broken raises OSError, RuntimeError and others
        raise UnavailableError(
            f"this needs {module}, which can't be imported here ({error}); "
            f"add it with: pip install 'refine-export[{extra}]'"
        ) from error


def installed(module: str) -> Any:
    """The module where it can be imported, else None."""
    try:
        return import_module(module)
    except Exception:  # as above
        return None
