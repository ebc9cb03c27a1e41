"""ONNX graphs as other tools write them: RIFE 4 in small, by torch's own exporter, which puts Constants, Identities and
sizes from Shape everywhere, calls nodes `/block0/conv0/conv0.0/Conv`, and writes a warp out where the network does.
"""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
import onnx.version_converter
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.parser import parse_model
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate, leaky_relu

Warp = Literal["gridsample", "gather", "index"]
Feeds = dict[str, NDArray[Any]]

OPSETS = (16, 18, 22)
NEWEST_EXPORT = 20
"""Newest opset of torch's exporter."""
WIDTH = 8  # channels of a stage
IMAGE, GRID, OUT = 'float["N",3,"H","W"] x', 'float["N","H","W",2] g', 'float["N",3,"H","W"] y'


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """Variants of a RIFE-4-like graph."""

    opset: int = 18
    stacked: bool = False
    """One input of eight channels (both frames, the timestep, one that counts for nothing), or three inputs."""
    size: tuple[int, int] | None = None
    """Height and width of a static file."""
    warp: Warp = "gridsample"
    """GridSample, or written out with GatherElements, or with Gather by a flat index."""
    computed_sizes: bool = False
    """Resize to sizes that Shape, Cast, Mul, Floor and Cast give."""
    nameless: bool = False
    """No node has a name."""


def foreign_model(options: Foreign = Foreign()) -> onnx.ModelProto:
    """Two stages, six warps and a mask blend."""
    return onnx.load_from_string(_exported(options))


@functools.cache
def _exported(options: Foreign) -> bytes:
    torch.manual_seed(0)
    feeds = foreign_feeds(options, *(options.size or (64, 96)))
    sides = {0: "batch", 2: "height", 3: "width"}
    axes = {name: sides if name != "timestep" else {0: "batch"} for name in (*feeds, "output")}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and traces
        torch.onnx.export(
            _Rife(options).eval(),
            tuple(map(torch.from_numpy, feeds.values())),
            buffer,
            input_names=list(feeds),
            output_names=["output"],
            opset_version=min(options.opset, NEWEST_EXPORT),
            dynamic_axes=None if options.size else axes,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    if options.opset > NEWEST_EXPORT:
        model = onnx.version_converter.convert_version(model, options.opset)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3  # the exporter loses it behind an index
    for node in model.graph.node:
        node.name = "" if options.nameless else node.name
    return model.SerializeToString()


def foreign_feeds(options: Foreign, height: int, width: int, batch: int = 1) -> Feeds:
    """Smooth pictures that move by a few pixels, and a timestep of 0.4."""
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")

    def picture(shift: float) -> NDArray[np.float32]:
        planes = [0.5 + 0.4 * np.sin((x + shift) / (4 + c)) * np.cos((y - shift) / (5 + c)) for c in range(3)]
        return np.stack([np.stack(planes)] * batch).astype(np.float32)

    img0, img1 = picture(0), picture(3)
    if not options.stacked:
        return {"img0": img0, "img1": img1, "timestep": np.full((batch, 1, 1, 1), 0.4, np.float32)}
    planes = np.full((batch, 2, height, width), 0.4, np.float32)
    return {"input": np.concatenate([img0, img1, planes], axis=1)}


class _Stage(nn.Module):
    def __init__(self, channels: int, scale: int, options: Foreign) -> None:
        super().__init__()
        first, second = nn.Conv2d(channels, WIDTH, 3, 2, 1), nn.Conv2d(WIDTH, WIDTH, 3, 2, 1)
        self.conv0 = nn.Sequential(first, nn.LeakyReLU(0.2), second, nn.LeakyReLU(0.2))
        self.convblock = nn.Conv2d(WIDTH, WIDTH, 3, 1, 1)
        self.beta = nn.Parameter(torch.full((1, WIDTH, 1, 1), 0.5))
        self.lastconv = nn.Sequential(nn.ConvTranspose2d(WIDTH, 24, 4, 2, 1), nn.PixelShuffle(2))
        self.scale, self.computed = scale, options.computed_sizes

    def forward(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """Return its part of the flow in pixels, and of the mask's logit."""
        deep = self.conv0(self.resized(given, 1 / self.scale))
        deep = leaky_relu(self.convblock(deep) * self.beta + deep, 0.2)
        large = self.resized(self.lastconv(deep), self.scale)
        return large[:, :4] * 4 * self.scale, large[:, 4:5]

    def resized(self, x: Tensor, factor: float) -> Tensor:
        return interpolate(x, scale_factor=factor, mode="bilinear", recompute_scale_factor=self.computed or None)


class _Rife(nn.Module):
    def __init__(self, options: Foreign) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.LeakyReLU(0.2))
        self.block0, self.block1 = _Stage(7, 4, options), _Stage(18, 2, options)
        self.last = nn.Conv2d(9, 1, 3, 1, 1)
        for weight in (weight for weight in self.parameters() if weight.dim() == 4 and len(weight) > 1):
            nn.init.kaiming_normal_(weight, a=0.2)  # flows of some pixels
        self.warp = {"gridsample": _grid_sample, "gather": _gather, "index": _index}[options.warp]

    def forward(self, img0: Tensor, img1: Tensor | None = None, timestep: Tensor | None = None) -> Tensor:
        if img1 is None or timestep is None:
            img0, img1, plane = img0[:, :3], img0[:, 3:6], img0[:, 6:7]
        else:
            plane = timestep.expand(-1, -1, img0.shape[2], img0.shape[3])
        frames = torch.cat((img0, img1, plane), 1)
        flow, mask = self.block0(frames)
        warped = self.warp(img0, flow[:, :2]), self.warp(img1, flow[:, 2:4])
        step, logit = self.block1(torch.cat((frames, *warped, mask, flow), 1))
        flow, mask = flow + step, mask + logit
        warped = self.warp(img0, flow[:, :2]), self.warp(img1, flow[:, 2:4])
        features = self.warp(self.encode(img0), flow[:, :2]), self.warp(self.encode(img1), flow[:, 2:4])
        weight = torch.sigmoid(self.last(torch.cat((*features, mask), 1)))
        return warped[0] * weight + warped[1] * (1 - weight)


def _positions(image: Tensor, flow: Tensor) -> tuple[Tensor, Tensor, int, int]:
    """Pixel positions x and y [N, H, W], and the last index of each."""
    height, width = image.shape[2:]
    x = torch.arange(width, dtype=torch.float32).view(1, 1, -1) + flow[:, 0]
    y = torch.arange(height, dtype=torch.float32).view(1, -1, 1) + flow[:, 1]
    return x, y, width - 1, height - 1


def _grid_sample(image: Tensor, flow: Tensor) -> Tensor:
    x, y, right, bottom = _positions(image, flow)
    grid = torch.stack((x * 2 / right - 1, y * 2 / bottom - 1), -1)
    return grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _corners(image: Tensor, flow: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Whole x and y, and the weight [N, 1, H, W], of four pixels."""
    x, y, right, bottom = _positions(image, flow)
    x, y = x.clamp(0, right), y.clamp(0, bottom)
    left, top = torch.floor(x), torch.floor(y)
    for column, across in ((left, 1 - (x - left)), ((left + 1).clamp(max=right), x - left)):
        for row, down in ((top, 1 - (y - top)), ((top + 1).clamp(max=bottom), y - top)):
            yield column, row, (across * down)[:, None]


def _gather(image: Tensor, flow: Tensor) -> Tensor:
    """Gather pixels in a row [N, C, H * W]; the index y * W + x is computed in FP32."""
    pixels, picked = image.flatten(2), []
    for x, y, weight in _corners(image, flow):
        index = (y * image.shape[3] + x).long().flatten(1)[:, None].expand(-1, image.shape[1], -1)
        picked.append(pixels.gather(2, index).view(image.shape) * weight)
    return sum(picked[1:], picked[0])


def _index(image: Tensor, flow: Tensor) -> Tensor:
    """Index pixels [N, H, W, C] by batch, y and x."""
    pixels, batch, picked = image.permute(0, 2, 3, 1), torch.arange(image.shape[0]).view(-1, 1, 1), []
    for x, y, weight in _corners(image, flow):
        picked.append(pixels[batch, y.long(), x.long()].permute(0, 3, 1, 2) * weight)
    return sum(picked[1:], picked[0])


def model_of(
    body: str,
    inputs: str = f"{IMAGE}, {GRID}",
    out: str = OUT,
    opset: int = 18,
    rest: str = "",
    **constants: NDArray[Any],
) -> onnx.ModelProto:
    """Nodes in ONNX text -> model; `rest` follows the graph (functions)."""
    imports = f'"": {opset}, "com.microsoft": 1, "my": 1'
    model = parse_model(f"<ir_version: 8, opset_import: [{imports}]> main ({inputs}) => ({out}) {{ {body} }} {rest}")
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return model


def kernel(name: str, *shape: int, scale: float = 0.1) -> str:
    """A Constant node in ONNX text, with the values of a convolution's weights."""
    count = int(np.prod(shape))
    values = ", ".join(f"{scale * np.sin(1 + 3 * k):.6g}" for k in range(count))
    return f"{name} = Constant <value = float[{','.join(map(str, shape))}] {{{values}}}> ()"


SAMPLE = 'GridSample <padding_mode="border", align_corners=1>'
"""Bilinear by default, at every opset."""
CONV = "Conv <pads = [1,1,1,1]>"
"""A convolution of a 3x3 kernel, to the same size."""


def grid_input_model(opset: int = 18) -> onnx.ModelProto:
    """The grid [N, H, W, 2] is an input."""
    return model_of(
        f"{kernel('w', 3, 3, 3, 3)} f = {CONV} (x, w) a = {SAMPLE} (f, g) b = {SAMPLE} (x, g) s = Add (a, b) "
        f"{kernel('v', 3, 3, 3, 3)} c = {CONV} (s, v) y = Sigmoid (c)",
        opset=opset,
    )


def control_flow_model() -> onnx.ModelProto:
    """A GridSample in a branch."""
    return model_of(
        f"[choose] y = If (c) <then_branch = t () => ({OUT[:-1]}a) {{ a = {SAMPLE} (x, g) }}, "
        f"else_branch = e () => ({OUT[:-1]}b) {{ b = Identity (x) }}>",
        f"{IMAGE}, {GRID}, bool c",
    )


def function_model(opset: int = 18, inner: int | None = None) -> onnx.ModelProto:
    """The warp and what follows it are a model-local function, which is called twice."""
    nodes = f"a = {SAMPLE} (x, g) {kernel('w', 3, 3, 3, 3)} z = {CONV} (a, w)"
    function = f'<domain: "my", opset_import: ["": {inner or opset}]> WarpConv (x, g) => (z) {{ {nodes} }}'
    return model_of("a = my.WarpConv (x, g) y = my.WarpConv (a, g)", rest=function, opset=opset)


def custom_model(*, typed: bool) -> onnx.ModelProto:
    """An operator of another domain behind the warp; the file may say what type it gives."""
    model = model_of(
        f"{kernel('w', 3, 3, 3, 3)} c = {CONV} (x, w) a = {SAMPLE} (c, g) [odd] o = my.Odd (a) "
        f"{kernel('v', 3, 3, 3, 3)} y = {CONV} (o, v)"
    )
    if typed:
        model.graph.value_info.append(helper.make_tensor_value_info("o", TensorProto.FLOAT, ["N", 3, "H", "W"]))
    return model


def plain_model() -> onnx.ModelProto:
    """Two convolutions and no warp."""
    nodes = f"c = {CONV} (x, w) r = Relu (c) {kernel('v', 3, 3, 3, 3)} y = {CONV} (r, v)"
    return model_of(f"{kernel('w', 3, 3, 3, 3)} {nodes}", IMAGE)


def double_model() -> onnx.ModelProto:
    """Part of it computes in FP64."""
    nodes = f"[up] d = Cast <to = 11> (x) e = Mul (d, d) f = Cast <to = 1> (e) y = {SAMPLE} (f, g)"
    return model_of(nodes)


def half_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a model with the converter that most people use."""
    from onnxconverter_common import float16

    return float16.convert_float_to_float16(model, keep_io_types=True, op_block_list=["GridSample", "Range", "Resize"])


def with_initializers(model: onnx.ModelProto, *, as_inputs: bool = False) -> onnx.ModelProto:
    """A copy whose Constant nodes are initializers; as IR version 3 had it, also inputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes = list(copy.graph.node)
    del copy.graph.node[:]
    for node in nodes:
        if node.op_type != "Constant":
            copy.graph.node.append(node)
            continue
        tensor = copy.graph.initializer.add()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        if as_inputs:
            copy.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return copy
