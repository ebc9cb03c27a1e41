"""Options of the ONNX export."""

from __future__ import annotations

from dataclasses import dataclass, field

from refine_export.signature import LARGEST_BATCH, Layout, check_range, check_scale, parse_size


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of the ONNX export."""

    dynamic: bool = field(default=True, metadata={"flag": "--dynamic/--static"})
    """One file for every batch, height and width (multiples of the network's padding), instead of one size."""
    batch: int = field(default=1, metadata={"flag": "--batch"})
    """Frame pairs per call of a static file."""
    size: str | None = field(default=None, metadata={"flag": "--size", "metavar": "HxW"})
    """HEIGHTxWIDTH of a static file in pixels, multiples of the network's padding; default: the padded size of the
    frames."""
    scale: float = field(default=1.0, metadata={"flag": "--scale"})
    """0.25, 0.5, 1 or 2: divides the scales at which the network estimates motion; below 1 for large frames."""
    layout: Layout = field(default="pair", metadata={"flag": "--layout"})
    """Inputs of an interpolator: two frames and the timestep (pair), or one stack as vs-mlrt has it, of 7 channels
    (stacked7; a file for any size pads inside) or of 11 (stacked11)."""

    def __post_init__(self) -> None:
        check_range("batch", self.batch, 1, LARGEST_BATCH)
        check_scale(self.scale)
        if self.size is not None:
            parse_size(self.size)
        if self.dynamic and (self.size is not None or self.batch != 1):
            raise ValueError(
                "dynamic is true, but a size or a batch is given; they are for a static file: dynamic = false"
            )
