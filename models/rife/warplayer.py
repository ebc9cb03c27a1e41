"""Backward warping (upstream file: `model/warplayer.py`)."""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample
from torch.overrides import wrap_torch_function


# A torch function like any other: a TorchFunctionMode (an exporter's, a profiler's) sees the call as a whole.
@wrap_torch_function(lambda tenInput, tenFlow: (tenInput, tenFlow))  # noqa: N803
def warp(tenInput: Tensor, tenFlow: Tensor) -> Tensor:  # noqa: N803 (upstream's argument names)
    """Sample `tenInput` at each pixel's position plus its flow.

    Bilinear, positions outside the frame are clamped to its border, corners aligned
    (ONNX GridSample-16: `mode="bilinear"`, `padding_mode="border"`, `align_corners=1`).

    Args:
        tenInput: [N, C, H, W], any number of channels; H and W at least 2.
        tenFlow: [N, 2, H, W], displacement (x, y) in pixels of this H and W.

    Returns:
        [N, C, H, W]
    """
    height, width = tenFlow.shape[-2:]
    # The normalised grid is broadcast from one row and one column, so that a traced graph holds H + W numbers.
    column = torch.linspace(-1.0, 1.0, width, dtype=tenFlow.dtype, device=tenFlow.device)
    row = torch.linspace(-1.0, 1.0, height, dtype=tenFlow.dtype, device=tenFlow.device).unsqueeze(-1)
    x = column + tenFlow[:, 0] / ((width - 1.0) / 2.0)  # [N, H, W]
    y = row + tenFlow[:, 1] / ((height - 1.0) / 2.0)  # [N, H, W]
    grid = torch.stack((x, y), dim=-1)  # [N, H, W, 2]
    return grid_sample(tenInput, grid, mode="bilinear", padding_mode="border", align_corners=True)
