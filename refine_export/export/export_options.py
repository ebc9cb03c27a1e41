"""Options of the ONNX export."""

from __future__ import annotations

from dataclasses import dataclass, field

from refine_export.signature import LARGEST_BATCH, parse_size


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of the ONNX export."""

    dynamic: bool = field(default=True, metadata={"flag": "--dynamic/--static"})
    """One file for every batch and every height and width that are multiples of 32, instead of one size."""
    batch: int = field(default=1, metadata={"flag": "--batch"})
    """Frame pairs per call of a static file."""
    size: str | None = field(default=None, metadata={"flag": "--size", "metavar": "HxW"})
    """HEIGHTxWIDTH of a static file in pixels, multiples of 32; default: the padded size of the frames."""

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= LARGEST_BATCH:
            raise ValueError(f"batch is {self.batch}; expected 1 to {LARGEST_BATCH}")
        if self.size is not None:
            parse_size(self.size)
        if self.dynamic and (self.size is not None or self.batch != 1):
            raise ValueError(
                "dynamic is true, but a size or a batch is given; they are for a static file: dynamic = false"
            )
