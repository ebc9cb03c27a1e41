"""ONNX graphs as other tools write them: the shape of RIFE 4, with names, constants and detours that are not ours.

What differs from our own files: constants are Constant nodes, weights too; nodes are called `/block0/conv0/Conv` or
nothing at all; Identity and Cast from FP32 to FP32 stand in between; sizes come from Shape, grids from Range; a warp
may be written out.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.parser import parse_model

Warp = Literal["gridsample", "gather_elements", "gather_nd"]
Feeds = dict[str, NDArray[Any]]

OPSETS = (16, 18, 22)
WIDTH = 8  # channels of a stage
STAGES = (4, 2)  # how much smaller each stage works
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
    computed_sizes: bool = False
    """Resize to sizes that Shape, Cast, Mul, Floor and Cast give, and cut the result to the frame's own."""
    nameless: bool = False
    """No node has a name."""


def foreign_model(options: Foreign = Foreign()) -> onnx.ModelProto:
    """Two stages, six warps and a mask blend."""
    return _Rife(options).model()


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


class Writer:
    """Nodes in order; every constant is a Constant node."""

    def __init__(self, *, nameless: bool = False) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._nameless = nameless
        self._known: dict[tuple[Any, ...], str] = {}

    def op(self, op_type: str, *inputs: str, result: str = "", name: str = "", **attributes: Any) -> str:
        """The output of a new node."""
        result = result or f"{len(self.nodes)}_{op_type.lower()}"
        count = sum(node.name.split("#")[0] == name for node in self.nodes) if name else 0
        label = "" if self._nameless else f"{name}#{count}" if count else name
        self.nodes.append(helper.make_node(op_type, list(inputs), [result], name=label, **attributes))
        return result

    def cast(self, value: str, dtype: int = TensorProto.FLOAT) -> str:
        """A Cast, to the type that it has or to another."""
        return self.op("Cast", value, to=dtype)

    def constant(self, value: Any, dtype: Any = np.float32, name: str = "") -> str:
        """A Constant; unnamed ones with one content are one node."""
        array = np.asarray(value, dtype)
        key = (name, array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            result = name or f"const_{len(self.nodes)}"
            self._known[key] = self.op("Constant", result=result, value=numpy_helper.from_array(array, "value"))
        return self._known[key]

    def ints(self, *values: int) -> str:
        """A list of INT64."""
        return self.constant(values, np.int64)


class _Rife(Writer):
    def __init__(self, options: Foreign) -> None:
        super().__init__(nameless=options.nameless)
        self._options = options
        self._grids: dict[str, str] = {}

    def model(self) -> onnx.ModelProto:
        """The whole graph."""
        inputs, img0, img1, timestep = self._inputs()
        frames = self.op("Concat", img0, img1, timestep, axis=1, name="/Concat")
        encoded = [self._conv("encode", image, 3, 4) for image in (img0, img1)]
        flow = mask = ""
        channels = 7
        for index, scale in enumerate(STAGES):
            stage = f"block{index}"
            given = frames
            if flow:
                warped = [self._warp(image, self._part(flow, k, k + 2)) for image, k in ((img0, 0), (img1, 2))]
                given = self.op("Concat", frames, *warped, mask, flow, axis=1, name=f"/{stage}/Concat")
                channels = 7 + 6 + 5
            step, logit = self._stage(stage, given, channels, scale, img0)
            flow = self.op("Add", flow, step, name=f"/{stage}/Add") if flow else step
            mask = self.op("Add", mask, logit) if mask else logit
        halves = [self._part(flow, 0, 2), self._part(flow, 2, 4)]
        warped = [self._warp(image, half) for image, half in zip((img0, img1), halves, strict=True)]
        features = [self._warp(feature, half) for feature, half in zip(encoded, halves, strict=True)]
        both = self.op("Concat", *features, mask, axis=1)
        mask = self._conv("last", both, 9, 1, activate=False)
        weight = self.op("Sigmoid", self.op("Identity", mask), name="/Sigmoid")
        rest = self.op("Sub", self.constant(1.0), weight)
        blended = [self.op("Mul", one, part) for one, part in zip(warped, (weight, rest), strict=True)]
        result = self.op("Add", *blended, name="/Add_out")
        if self._options.computed_sizes:
            sizes = self.op("Slice", self.op("Shape", img0), self.ints(2), self.ints(4))
            result = self.op("Slice", result, self.ints(0, 0), sizes, self.ints(2, 3), name="/Slice_out")
        self.op("Identity", result, result="output")
        height, width = self._options.size or ("height", "width")
        output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [self._batch, 3, height, width])
        return model_of_nodes(self.nodes, inputs, [output], self._options.opset)

    @property
    def _batch(self) -> int | str:
        return 1 if self._options.size else "batch"

    def _inputs(self) -> tuple[list[onnx.ValueInfoProto], str, str, str]:
        """The graph's inputs, and the names of both frames and of the timestep's plane."""
        height, width = self._options.size or ("height", "width")

        def declared(name: str, channels: int, *sides: int | str) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, [self._batch, channels, *sides])

        if self._options.stacked:
            img0, img1, plane = (self._part("input", *sides) for sides in ((0, 3), (3, 6), (6, 7)))
            return [declared("input", 8, height, width)], self.cast(img0), img1, plane
        shape = self.op("Shape", "img0")
        sizes = self.op("Concat", self.ints(1, 1), self.op("Slice", shape, self.ints(2), self.ints(4)), axis=0)
        plane = self.op("Expand", "timestep", sizes, name="/Expand_timestep")
        values = [declared(name, 3, height, width) for name in ("img0", "img1")]
        return [*values, declared("timestep", 1, 1, 1)], self.cast("img0"), "img1", plane

    def _part(self, value: str, start: int, stop: int) -> str:
        """Some of its channels."""
        return self.op("Slice", value, self.ints(start), self.ints(stop), self.ints(1))

    def _weights(self, name: str, shape: tuple[int, ...], gain: float = 1.0) -> str:
        random = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
        return self.constant(random.standard_normal(shape) * gain * np.sqrt(2 / np.prod(shape[1:])), name=name)

    def _conv(self, name: str, value: str, channels: int, out: int, *, stride: int = 1, activate: bool = True) -> str:
        weight = self._weights(f"{name}.weight", (out, channels, 3, 3))
        bias = self.constant(np.linspace(-0.1, 0.1, out), name=f"{name}.bias")
        node = f"/{name.replace('.', '/')}/Conv"
        result = self.op("Conv", value, weight, bias, name=node, pads=[1] * 4, strides=[stride] * 2)
        return self.op("LeakyRelu", result, alpha=0.2) if activate else result

    def _stage(self, name: str, value: str, channels: int, scale: int, image: str) -> tuple[str, str]:
        """Add a stage; return its part of the flow in pixels, and of the mask's logit."""
        small = self._resized(value, 1 / scale, image)
        deep = self._conv(f"{name}.conv0.0", small, channels, WIDTH, stride=2)
        deep = self._conv(f"{name}.conv0.1", deep, WIDTH, WIDTH, stride=2)
        block = self._conv(f"{name}.convblock", deep, WIDTH, WIDTH, activate=False)
        beta = self.constant(np.full((1, WIDTH, 1, 1), 0.5), name=f"{name}.beta")
        deep = self.op("LeakyRelu", self.op("Add", self.op("Mul", block, beta), deep), alpha=0.2)
        node = f"/{name}/lastconv/ConvTranspose"
        kernel = self._weights(f"{name}.lastconv.weight", (WIDTH, 24, 4, 4), gain=2.0)
        deep = self.op("ConvTranspose", deep, kernel, name=node, strides=[2, 2], pads=[1] * 4)
        shuffled = self.op("DepthToSpace", deep, blocksize=2, mode="CRD", name=f"/{name}/DepthToSpace")
        large = self._resized(self.op("Identity", shuffled), float(scale), image)
        flow = self.op("Mul", self._part(large, 0, 4), self.constant(float(scale)))
        return flow, self._part(large, 4, 5)

    def _resized(self, value: str, factor: float, image: str) -> str:
        mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        if not self._options.computed_sizes:
            scales = self.constant([1, 1, factor, factor])
            return self.op("Resize", value, "", scales, **mode)
        size = self.cast(self.op("Slice", self.op("Shape", image), self.ints(2), self.ints(4)))
        if factor < 1:
            size = self.op("Floor", self.op("Mul", size, self.constant(factor)))
        channels = self.op("Slice", self.op("Shape", value), self.ints(0), self.ints(2))
        sizes = self.op("Concat", channels, self.cast(size, TensorProto.INT64), axis=0)
        return self.op("Resize", value, "", "", sizes, **mode)

    def _sides(self, value: str) -> list[tuple[str, str]]:
        """Return the width and the height, each with the last index in FP32."""
        shape = self.op("Shape", value)
        found = []
        for axis in (3, 2):
            size = self.op("Gather", shape, self.constant(axis, np.int64), axis=0)
            last = self.op("Sub", self.cast(size), self.constant(1.0))
            found.append((size, last))
        return found

    def _positions(self, image: str, flow: str) -> list[tuple[str, str]]:
        """Return the pixel positions x and y [N, 1, H, W] in FP32, each with the last index."""
        found = []
        for k, (size, last) in enumerate(self._sides(image)):
            counted = self.op("Range", self.constant(0, np.int64), size, self.constant(1, np.int64))
            shape = self.ints(1, 1, 1, -1) if k == 0 else self.ints(1, 1, -1, 1)
            line = self.op("Reshape", self.cast(counted), shape)
            whole = self.op("Expand", line, self.op("Shape", self._part(flow, 0, 1)))
            found.append((self.op("Add", whole, self._part(flow, k, k + 1)), last))
        return found

    def _warp(self, image: str, flow: str) -> str:
        written: dict[Warp, Callable[[str, str], str]] = {
            "gridsample": self._grid_sample,
            "gather_elements": self._gather_elements,
            "gather_nd": self._gather_nd,
        }
        return written[self._options.warp](image, flow)

    def _grid_sample(self, image: str, flow: str) -> str:
        if flow not in self._grids:  # the features are warped by the grid of their image
            normal = []
            for position, last in self._positions(image, flow):
                doubled = self.op("Mul", position, self.constant(2.0))
                normal.append(self.op("Sub", self.op("Div", doubled, last), self.constant(1.0)))
            grid = self.op("Transpose", self.op("Concat", *normal, axis=1), perm=[0, 2, 3, 1])
            self._grids[flow] = self.cast(self.op("Identity", grid))
        mode = "linear" if self._options.opset >= 20 else "bilinear"
        attributes = {"mode": mode, "padding_mode": "border", "align_corners": 1}
        return self.op("GridSample", image, self._grids[flow], **attributes)

    def _corners(self, image: str, flow: str) -> tuple[list[tuple[str, str]], list[str], str]:
        """Four pairs of x and y as whole FP32 numbers, the four weights, the image's width in FP32."""
        near, far, shares = [], [], []
        for position, last in self._positions(image, flow):
            inside = self.op("Min", self.op("Max", position, self.constant(0.0)), last)
            low = self.op("Floor", inside)
            near.append(low)
            far.append(self.op("Min", self.op("Add", low, self.constant(1.0)), last))
            shares.append(self.op("Sub", inside, low))
        rests = [self.op("Sub", self.constant(1.0), share) for share in shares]
        corners = [(near[0], near[1]), (far[0], near[1]), (near[0], far[1]), (far[0], far[1])]
        parts = [(rests[0], rests[1]), (shares[0], rests[1]), (rests[0], shares[1]), (shares[0], shares[1])]
        size = self.cast(self.op("Gather", self.op("Shape", image), self.constant(3, np.int64)))
        return corners, [self.op("Mul", *pair) for pair in parts], size

    def _blended(self, values: Sequence[str], weights: Sequence[str]) -> str:
        products = [self.op("Mul", value, weight) for value, weight in zip(values, weights, strict=True)]
        return self.op("Sum", *products)

    def _gather_elements(self, image: str, flow: str) -> str:
        """Gather pixels in a row [N, C, H * W]; the index y * W + x is computed in FP32."""
        corners, weights, size = self._corners(image, flow)
        pixels = self.op("Reshape", image, self.ints(0, 0, -1))
        shape, picked = self.op("Shape", pixels), []
        for x, y in corners:
            index = self.cast(self.op("Add", self.op("Mul", y, size), x), TensorProto.INT64)
            index = self.op("Expand", self.op("Reshape", index, self.ints(0, 0, -1)), shape)
            found = self.op("GatherElements", pixels, index, axis=2)
            picked.append(self.op("Reshape", found, self.op("Shape", image)))
        return self._blended(picked, weights)

    def _gather_nd(self, image: str, flow: str) -> str:
        """Gather from [N, H, W, C] by pairs of y and x."""
        corners, weights, _ = self._corners(image, flow)
        pixels, picked = self.op("Transpose", image, perm=[0, 2, 3, 1]), []
        for x, y in corners:
            pair = self.op("Concat", *(self.cast(value, TensorProto.INT64) for value in (y, x)), axis=1)
            index = self.op("Transpose", pair, perm=[0, 2, 3, 1])
            found = self.op("GatherND", pixels, index, batch_dims=1)
            picked.append(self.op("Transpose", found, perm=[0, 3, 1, 2]))
        return self._blended(picked, weights)


def model_of_nodes(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    opset: int,
) -> onnx.ModelProto:
    """A valid model of the oldest IR version that has this opset."""
    opsets = [helper.make_opsetid("", opset)]
    graph = helper.make_graph(list(nodes), "main_graph", list(inputs), list(outputs))
    version = helper.find_min_ir_version_for(opsets)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=version, producer_name="pytorch")
    onnx.checker.check_model(model, full_check=True)
    return model


def model_of(
    body: str, inputs: str = f"{IMAGE}, {GRID}", out: str = OUT, opset: int = 18, rest: str = ""
) -> onnx.ModelProto:
    """Nodes in ONNX text -> model; `rest` follows the graph (functions)."""
    imports = f'"": {opset}, "com.microsoft": 1, "my": 1'
    return parse_model(f"<ir_version: 8, opset_import: [{imports}]> main ({inputs}) => ({out}) {{ {body} }} {rest}")


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
