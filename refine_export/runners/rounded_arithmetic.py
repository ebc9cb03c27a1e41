"""Torch with convolutions and warps rounded to a type: what it costs a network, whatever the file.

Sums stay FP32, as on tensor cores, and coordinates too, as in files of this tool: what goes into a convolution, its
weights, and what comes out of it, of its activation and of a warp has the type's precision. A mode rounds what FP32
torch computes, in a fifth of the time of a run in float64 and half its memory. Imports torch; `runners.torch` imports
it when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from refine_export.signature import FilePrecision
from rife.warplayer import warp

BITS: Final[dict[FilePrecision, int]] = {"fp32": 23, "fp16": 11, "bf16": 8}
"""Significant bits. FP32 has one more, but values that are rounded to what they have do not change."""
POSITION_BITS: Final = 22
"""Significant bits of sampling positions in [-1, 1]: a sampler rounds each of them several times in FP32."""
_CONVOLUTIONS = {torch.conv2d, torch.conv_transpose2d, functional.conv2d, functional.conv_transpose2d}
_ACTIVATIONS = {torch.prelu, functional.prelu, functional.leaky_relu, torch._C._nn.leaky_relu}
_ROUNDED = _CONVOLUTIONS | _ACTIVATIONS | {functional.grid_sample}


class InsideWarp(TorchFunctionMode):
    """A mode that is given the sampling in a warp, which torch hands it as one call.

    A subclass has `call`, which takes the place of `func(*args, **kwargs)`.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is warp:
            with self:  # torch takes the mode off for the time of this method
                return warp.__wrapped__(*args)  # type: ignore[attr-defined]
        return self.call(func, args, kwargs or {})

    def call(self, func: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Return the result of a function."""
        raise NotImplementedError


class RoundedArithmetic(InsideWarp):
    """A context in which convolutions and warps have the precision of a type, while tensors stay FP32.

    Its range is not imitated: a right file keeps in FP32 what the type cannot hold.
    """

    def __init__(self, precision: FilePrecision) -> None:
        super().__init__()
        self._bits = BITS[precision]

    def call(self, func: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Round what goes into a convolution, a position, and what comes out."""
        if func in _CONVOLUTIONS:
            args = tuple(self._rounded(value) if isinstance(value, torch.Tensor) else value for value in args)
        elif func is functional.grid_sample:
            args = (args[0], rounded(args[1], POSITION_BITS), *args[2:])
        result = func(*args, **kwargs)
        if func in _ROUNDED:
            _round_in_place(result.view(torch.int32), self._bits)
        if func in _ROUNDED or (func is torch.cat and all(map(self._is_rounded, args[0]))):
            result.bits = self._bits  # the convolution behind it needs no copy
        return result

    def _is_rounded(self, value: torch.Tensor) -> bool:
        return getattr(value, "bits", None) == self._bits

    def _rounded(self, value: torch.Tensor) -> torch.Tensor:
        return value if self._is_rounded(value) else rounded(value, self._bits)


def rounded(value: torch.Tensor, bits: int) -> torch.Tensor:
    """Round an FP32 tensor to a number of significant bits, below 24; ties away from zero."""
    return _round_in_place(value.view(torch.int32).clone(), bits)


def _round_in_place(words: torch.Tensor, bits: int) -> torch.Tensor:
    """Round the FP32 values whose bits are `words`, without a second tensor of their size."""
    dropped = 24 - bits
    return words.add_(1 << (dropped - 1)).bitwise_and_(-1 << dropped).view(torch.float32)
