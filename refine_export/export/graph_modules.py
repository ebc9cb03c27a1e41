"""The graphs as modules: arguments are the graph's inputs in order, the result its outputs in order.

This module needs torch at import, as the reference modules do; `reference_network` imports it when it is needed.
"""

from typing import Any

from torch import Tensor, nn

from refine_export.signature import GraphName


class ContextnetGraph(nn.Module):
    """`contextnet`: features of one image, warped."""

    def __init__(self, reference: nn.Module) -> None:
        super().__init__()
        self.contextnet = reference.get_submodule("contextnet")

    def forward(self, image: Tensor, flow: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.contextnet(image, flow))


class UnetGraph(nn.Module):
    """`unet`: only the fusion network."""

    def __init__(self, reference: nn.Module) -> None:
        super().__init__()
        self.unet = reference.get_submodule("unet")

    def forward(
        self,
        img0: Tensor,
        img1: Tensor,
        warped_img0: Tensor,
        warped_img1: Tensor,
        mask: Tensor,
        flow: Tensor,
        c0_1: Tensor,
        c0_2: Tensor,
        c0_3: Tensor,
        c0_4: Tensor,
        c1_1: Tensor,
        c1_2: Tensor,
        c1_3: Tensor,
        c1_4: Tensor,
    ) -> Tensor:
        c0, c1 = (c0_1, c0_2, c0_3, c0_4), (c1_1, c1_2, c1_3, c1_4)
        residual: Tensor = self.unet(img0, img1, warped_img0, warped_img1, mask, flow, c0, c1)
        return residual


class RefineGraph(nn.Module):
    """`refine`: both Contextnets and Unet."""

    def __init__(self, reference: nn.Module) -> None:
        super().__init__()
        self.contextnet = reference.get_submodule("contextnet")
        self.unet = reference.get_submodule("unet")

    def forward(
        self, img0: Tensor, img1: Tensor, warped_img0: Tensor, warped_img1: Tensor, mask: Tensor, flow: Tensor
    ) -> Tensor:
        c0 = self.contextnet(img0, flow[:, :2])
        c1 = self.contextnet(img1, flow[:, 2:4])
        residual: Tensor = self.unet(img0, img1, warped_img0, warped_img1, mask, flow, c0, c1)
        return residual


class InterpolatorGraph(nn.Module):
    """`interpolator`: a whole network; it makes the middle frame, or the frame at any time if it takes a timestep."""

    def __init__(self, reference: nn.Module) -> None:
        super().__init__()
        self.network: Any = reference

    def forward(self, img0: Tensor, img1: Tensor, *timestep: Tensor) -> Tensor:
        frame: Tensor = self.network.interpolate(img0, img1, *timestep).frame
        return frame


MODULES: dict[GraphName, type[nn.Module]] = {
    "contextnet": ContextnetGraph,
    "unet": UnetGraph,
    "refine": RefineGraph,
    "interpolator": InterpolatorGraph,
}
