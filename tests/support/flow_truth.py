"""The exact flow and visibility between frames of moving layers: what proves the scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from refine_export.data.moving_layers import Rendered
from rife.warplayer import warp

ROUNDED = 1e-3  # three times the rounding of the warp's normalised coordinates at 3840 pixels


@dataclass(frozen=True)
class DrawnClip:
    """Frames at 0, t and 1, and the positions of frame t's points in the others."""

    img0: Tensor
    """[N, 3, H, W], RGB in [0, 1]."""
    img1: Tensor
    """[N, 3, H, W]"""
    frame: Tensor
    """[N, 3, H, W], at time t."""
    flow: Tensor
    """[N, 4, H, W] in pixels: (x, y) from frame t to frame 0, then (x, y) to frame 1."""
    owners: Tensor
    """[N, 3, H, W]: index of the layer that a pixel of frame 0, t and 1 shows; -1 where it mixes two."""

    def visible(self) -> Tensor:
        """Return where a pixel of frame t shows one layer, and frame 0 (frame 1) the same point: [N, 2, H, W]."""
        height, width = self.flow.shape[-2:]
        rows, columns = torch.arange(height, dtype=torch.float32)[:, None], torch.arange(width, dtype=torch.float32)
        seen = []
        for frame, flow in ((0, self.flow[:, :2]), (2, self.flow[:, 2:])):
            x, y = columns + flow[:, 0], rows + flow[:, 1]
            same = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1) & (self.owners[:, 1] >= 0)
            for layer in range(int(self.owners.max()) + 1):
                shown = warp((self.owners[:, frame : frame + 1] == layer).float(), flow)[:, 0]
                same &= (self.owners[:, 1] != layer) | (shown > 1 - ROUNDED)
            seen.append(same)
        return torch.stack(seen, 1)


def clip_from_rendered(rendered: Sequence[Rendered], timestep: Tensor) -> DrawnClip:
    """Combine the views at times 0, t ([N]) and 1."""
    t, moved = timestep.view(-1, 1, 1, 1), rendered[1].velocity
    img0, middle, img1 = (one.picture.clamp(0, 1).contiguous() for one in rendered)
    owners = torch.stack([one.owner for one in rendered], 1)
    return DrawnClip(img0, img1, middle, torch.cat((-t * moved, (1 - t) * moved), 1), owners)
