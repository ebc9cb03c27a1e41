"""IFNet_2R, the paper's larger variant (upstream: `model/IFNet_2R.py`, `refine_2R.py`).

Its state dict has the keys and shapes of `IFNet`: only strides differ, so that it works at twice the resolution.
Nothing in a checkpoint tells the two apart; the user has to say which one it is.
"""

from rife.ifnet import IFBlock, IFNet
from rife.refine import Contextnet, Unet


class IFBlock2R(IFBlock):
    """`IFBlock` at twice the resolution."""

    FIRST_STRIDE = 1


class Contextnet2R(Contextnet):
    """`Contextnet` whose maps are [N, 16, H, W] to [N, 128, H/8, W/8]."""

    FIRST_STRIDE = 1


class Unet2R(Unet):
    """`Unet` for the maps of `Contextnet2R`; the last convolution halves the size again."""

    FIRST_STRIDE = 1


class IFNet_2R(IFNet):  # noqa: N801 (upstream's name)
    """Interpolates the middle frame."""

    BLOCK, CONTEXTNET, UNET = IFBlock2R, Contextnet2R, Unet2R
