"""The reference network as a module that is called with two frames and a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from refine_export.errors import RequestError
from refine_export.export.reference_network import graph_network


class InterpolationNetwork(nn.Module):
    """Computes the frame between two, in FP32 torch on the original weights.

    Attributes:
        multiple_of: H and W of the frames have to be multiples of this.
        takes_timestep: whether the network can compute the frame at any time; others compute the middle one.
    """

    def __init__(self, reference: nn.Module) -> None:
        super().__init__()
        network: Any = reference
        self.takes_timestep: bool = network.takes_timestep
        self.multiple_of: int = network.multiple_of
        self.graph = graph_network(reference, "interpolator")

    def forward(self, img0: Tensor, img1: Tensor, timestep: float | Tensor = 0.5) -> Tensor:
        """Compute the frame at `timestep`.

        Args:
            img0: the frame at time 0, RGB in [0, 1], [N, 3, H, W].
            img1: the frame at time 1, of the same shape.
            timestep: in (0, 1): a number, or a tensor [N, 1, 1, 1].

        Returns:
            The frame between, [N, 3, H, W] in [0, 1].

        Raises:
            RequestError: `wrong-shape`, `wrong-size`, `wrong-type` or `wrong-timestep`.
        """
        self._check_frames(img0, img1)
        times = self._checked_timestep(timestep, img0)
        frame: Tensor = self.graph(img0, img1, times) if self.takes_timestep else self.graph(img0, img1)
        return frame

    def _check_frames(self, img0: Tensor, img1: Tensor) -> None:
        shapes = [tuple(img0.shape), tuple(img1.shape)]
        if shapes[0] != shapes[1] or len(shapes[0]) != 4 or shapes[0][1] != 3:
            message = f"the frames are {list(shapes[0])} and {list(shapes[1])}; expected two of one shape [N, 3, H, W]"
            raise RequestError(message, code="wrong-shape", shapes=shapes)
        if not img0.is_floating_point() or not img1.is_floating_point():
            raise RequestError(
                f"the frames are {img0.dtype} and {img1.dtype}; expected a floating type, with values in [0, 1]",
                code="wrong-type",
            )
        height, width = shapes[0][2:]
        if height % self.multiple_of or width % self.multiple_of or not height * width:
            raise RequestError(
                f"the frames are {height}x{width} (height x width); expected multiples of {self.multiple_of}: pad them "
                "with torch.nn.functional.pad(..., mode='replicate') and crop the result",
                code="wrong-size",
                size=(height, width),
                multiple_of=self.multiple_of,
            )

    def _checked_timestep(self, timestep: float | Tensor, img0: Tensor) -> Tensor:
        """Return the time of each sample, [N, 1, 1, 1]."""
        batch = img0.shape[0]
        times = torch.as_tensor(timestep, dtype=img0.dtype, device=img0.device)
        if times.ndim not in (0, 4) or (times.ndim == 4 and tuple(times.shape) not in {(batch, 1, 1, 1), (1, 1, 1, 1)}):
            message = f"timestep is {list(times.shape)}; expected a number, or a tensor [{batch}, 1, 1, 1]"
            raise RequestError(message, code="wrong-shape", shapes=[tuple(times.shape)])
        if not self.takes_timestep and bool((times != 0.5).any()):
            raise RequestError(
                "timestep is not 0.5, and this network computes the middle frame alone; leave it out, or give weights "
                "of a network that takes a timestep, such as RIFE 4.0",
                code="wrong-timestep",
            )
        if not bool(((times > 0) & (times < 1)).all()):  # so that NaN is refused too
            raise RequestError("timestep is not in (0, 1); expected a time between the frames", code="wrong-timestep")
        return times.expand(batch, 1, 1, 1)
