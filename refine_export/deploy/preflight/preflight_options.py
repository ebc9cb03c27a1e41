"""Options of `deploy check`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class PreflightOptions:
    """Options of the check of a model repository."""

    release: str | None = field(default=None, metadata={"flag": "--triton-release", "metavar": "YY.MM"})
    """Release of Triton that is to serve it, such as 26.06; default: engines are not compared with its TensorRT."""
