"""Features of frames, kept from one pair of frames to the next; needs torch at import."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor, nn


class RememberedFeatures(nn.Module):
    """An encoder that keeps the features of the last two frames: a frame of a video is in two pairs.

    Args:
        encode: the encoder of RIFE 4.7 and later, [N, 3, H, W] to [N, C, H, W].
    """

    def __init__(self, encode: nn.Module) -> None:
        super().__init__()
        self.encode = encode
        self._known: deque[tuple[Tensor, Tensor]] = deque(maxlen=2)

    def forward(self, x: Tensor) -> Tensor:
        for frame, known in self._known:
            if torch.equal(frame, x):
                return known
        features: Tensor = self.encode(x)
        self._known.append((x, features))
        return features


def remember_features(network: nn.Module) -> nn.Module:
    """Have a reference network encode each frame of a video once, in place; the results stay the same to the bit."""
    encode = getattr(network, "encode", None)
    if encode is not None:
        network.encode = RememberedFeatures(encode)
    return network
