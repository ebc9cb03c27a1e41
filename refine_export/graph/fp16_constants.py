"""Find constants that FP16 or BF16 cannot hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import onnx_ir as ir

from refine_export.graph.operator_types import is_op

Low = Literal["float16", "bfloat16"]

DTYPES: Final = {
    "float16": ir.DataType.FLOAT16,
    "bfloat16": ir.DataType.BFLOAT16,
    "float32": ir.DataType.FLOAT,
}

LOST_SHARE: Final = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
"""Weights stay FP32 where they change by more than this share of their norm: rounding alone changes a quarter of it."""


@dataclass(frozen=True)
class WeightFault:
    """A constant with values that FP16 (BF16) cannot hold."""

    name: str
    largest: float
    overflowing: int
    """Values beyond 65504, which become infinite."""
    vanishing: int
    """Values other than zero that become zero."""
    changed: float
    """Norm of the change divided by the norm of the values."""
    stays_fp32: bool
    """True where the nodes that read it have to stay FP32."""
    low: Low
    """The type in question."""

    @property
    def problem(self) -> str:
        """The worst fault."""
        return f"{self.overflowing} values overflow" if self.overflowing else f"norm changes by {self.changed:.2g}"


def weight_faults(model: ir.Model, low: Low) -> list[WeightFault]:
    """Return every FP32 constant with values that overflow or vanish in FP16 (BF16), or that changes too much."""
    found = []
    for name, value in model.graph.initializers.items():
        if value.dtype != ir.DataType.FLOAT or value.const_value is None or not value.uses():
            continue
        # In a BF16 file transposed convolutions are FP16, with a smaller range.
        used: Low = "float16" if any(is_op(reader, "ConvTranspose") for reader, _ in value.uses()) else low
        values = value.const_value.numpy().ravel()
        values = values[np.isfinite(values)]  # infinity and NaN are the same in every type
        with np.errstate(over="ignore"):
            rounded = values.astype(DTYPES[used].numpy()).astype(np.float32)
        overflowing = int(np.isinf(rounded).sum())
        vanishing = int(((rounded == 0) & (values != 0)).sum())
        norm = float(np.linalg.norm(values.astype(np.float64))) or 1.0
        changed = float("inf") if overflowing else float(np.linalg.norm((rounded - values).astype(np.float64))) / norm
        stays = overflowing > 0 or changed > LOST_SHARE[used]
        if stays or vanishing:
            largest = float(np.abs(values).max(initial=0.0))
            found.append(WeightFault(name, largest, overflowing, vanishing, changed, stays, used))
    return found


def fits(tensor: ir.TensorProtocol | None, low: Low) -> bool:
    """Return whether FP16 (BF16) holds the one value of a ConstantOfShape, or a value near enough."""
    value = 0.0 if tensor is None else float(tensor.numpy().ravel()[0])
    with np.errstate(over="ignore"):
        rounded = float(np.float32(value).astype(DTYPES[low].numpy()).astype(np.float32))
    return not np.isfinite(value) or abs(rounded - value) <= LOST_SHARE[low] * abs(value)
