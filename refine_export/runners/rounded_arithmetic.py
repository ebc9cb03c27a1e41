"""Torch with convolutions and warps rounded to FP16 or BF16: what a type costs a network, whatever the file.

Sums stay FP32, as on tensor cores, and coordinates too, as in files of this tool: only what goes into a convolution,
its weights, and what comes out of it, of its activation and of a warp has the type's precision. Imports torch;
`runners.torch` imports it when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from rife.warplayer import warp

_CONVOLUTIONS = {torch.conv2d, torch.conv_transpose2d, functional.conv2d, functional.conv_transpose2d}
_ROUNDED = _CONVOLUTIONS | {torch.prelu, functional.prelu, functional.leaky_relu, torch._C._nn.leaky_relu, warp}


class RoundedArithmetic(TorchFunctionMode):
    """A context in which convolutions and warps have the precision of a type, while tensors stay FP32.

    Args:
        dtype: `float16` or `bfloat16`.
    """

    def __init__(self, dtype: str) -> None:
        super().__init__()
        self._dtype = getattr(torch, dtype)

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _CONVOLUTIONS:
            args = tuple(map(self._rounded, args))
        result = func(*args, **(kwargs or {}))
        return self._rounded(result) if func in _ROUNDED else result

    def _rounded(self, value: Any) -> Any:
        """Round a tensor; what the type cannot hold stays as it is, since a right file keeps it in FP32."""
        if not isinstance(value, torch.Tensor):
            return value
        rounded = value.to(self._dtype).to(value.dtype)
        return rounded if bool(rounded.isfinite().all()) else torch.where(rounded.isfinite(), rounded, value)
