"""The two ONNX models around the network in the ensemble: pictures to its inputs, and its output to a picture.

They compute what `frames.padded`, `frames.cropped` and `frames.uint8_from_frame` do, so that a served frame is the one
that a local runner gives. Shape legend: H and W size of the pictures; h and w the same, up to multiples of the stride.

    content = pre_model("float", "float")  # bytes of interpolate_pre/1/model.onnx
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from refine_export import __version__
from refine_export.deploy.triton.names import FRAME, FRAME0, FRAME1, IMG0, IMG1, PICTURE, TIME, TIMESTEP
from refine_export.signature import MULTIPLE_OF

if TYPE_CHECKING:
    import onnx

ImageType = Literal["float", "float16"]
"""Of images or a timestep, as ONNX calls it."""

OPSET, IR_VERSION = 18, 9
"""What ONNX Runtime 1.17 and Triton 24.04 have already."""


def pre_model(image: ImageType, time: ImageType | None) -> bytes:
    """`interpolate_pre`: two pictures to the inputs of a network.

    frame0, frame1 uint8 [H, W, 3] to img0, img1 [1, 3, h, w] in [0, 1], the last rows and columns repeated; and
    timestep [1] to time [1, 1, 1, 1]. One Concat takes both pictures, so that two of different sizes are refused.

    Args:
        image: the type of the network's images.
        time: of its timestep; None where it takes none.
    """
    writer = _Writer()
    batched = [writer.op("Unsqueeze", frame, writer.ints("first", 0)) for frame in (FRAME0, FRAME1)]
    pair = writer.op("Concat", *batched, axis=0)  # 2 H W 3
    size = writer.op("Shape", pair, start=1, end=3)
    missing = writer.op("Mod", writer.op("Neg", size), writer.constant("stride", MULTIPLE_OF, "int64"))
    pads = writer.op("Concat", writer.ints("before", 0, 0, 0, 0, 0), missing, writer.ints("channels", 0), axis=0)
    padded = writer.op("Pad", pair, pads, mode="edge")  # 2 h w 3, in bytes: a quarter of what FP32 moves
    planes = writer.op("Transpose", padded, perm=[0, 3, 1, 2])
    halves = writer.op("Split", planes, results=("half0", "half1"), axis=0, num_outputs=2), "half1"
    levels = writer.constant("levels", 255, "float32")
    for half, name in zip(halves, (IMG0, IMG1), strict=True):
        half = writer.cast(half, "float")
        if image == "float":
            writer.op("Div", half, levels, results=(name,))
        else:
            writer.cast(writer.op("Div", half, levels), image, result=name)
    inputs = [writer.value(name, "uint8", "H", "W", 3) for name in (FRAME0, FRAME1)]
    outputs = [writer.value(name, image, 1, 3, "h", "w") for name in (IMG0, IMG1)]
    if time:
        number = writer.op("Reshape", TIMESTEP, writer.ints("number", 1, 1, 1, 1))
        writer.cast(number, time, result=TIME)
        inputs.append(writer.value(TIMESTEP, "float", 1))
        outputs.append(writer.value(TIME, time, 1, 1, 1, 1))
    return writer.content("interpolate_pre", inputs, outputs)


def post_model(image: ImageType) -> bytes:
    """`interpolate_post`: a network's frame [1, 3, h, w] to picture uint8 [H, W, 3] of frame0's size.

    Rounded half to even. A pixel with a value that is no number, or infinite, is magenta, as `uint8_from_frame` has
    it: no cast of NaN is the same everywhere, and black would look like a picture.

    Args:
        image: the type that the network gives.
    """
    writer = _Writer()
    size = writer.op("Shape", FRAME0, start=0, end=2)
    cut = writer.op("Slice", FRAME, writer.ints("corner", 0, 0), size, writer.ints("sides", 2, 3))
    cut = writer.cast(cut, "float")
    total = writer.op("ReduceSum", cut, writer.ints("colours", 1), keepdims=1)  # 1 1 H W: NaN or Inf if one is
    wrong = writer.op("IsNaN", writer.op("Mul", total, writer.constant("nothing", 0, "float32")))
    levels = writer.op("Mul", cut, writer.constant("levels", 255, "float32"))
    level, black = writer.constant("level", 1, "float32"), writer.constant("black", 0, "uint8")
    rounded = writer.op("QuantizeLinear", levels, level, black)  # half to even, and clipped; of NaN it is anything
    magenta = writer.constant("magenta", [[[[255]], [[0]], [[255]]]], "uint8")
    plane = writer.op("Squeeze", writer.op("Where", wrong, magenta, rounded), writer.ints("first", 0))
    writer.op("Transpose", plane, results=(PICTURE,), perm=[1, 2, 0])
    return writer.content(
        "interpolate_post",
        [writer.value(FRAME, image, 1, 3, "h", "w"), writer.value(FRAME0, "uint8", "H", "W", 3)],
        [writer.value(PICTURE, "uint8", "H", "W", 3)],
    )


class _Writer:
    """Nodes in order, and constants by name."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def op(self, op_type: str, *inputs: str, results: tuple[str, ...] = (), **attributes: Any) -> str:
        """The first output of a new node."""
        from onnx import helper

        name = f"{op_type.lower()}_{len(self._nodes)}"
        results = results or (name,)
        self._nodes.append(helper.make_node(op_type, list(inputs), list(results), name=name, **attributes))
        return results[0]

    def cast(self, value: str, dtype: str, result: str = "") -> str:
        """The value in another type, as `result`."""
        return self.op("Cast", value, results=(result,) if result else (), to=self.code(dtype))

    def constant(self, name: str, value: Any, dtype: str) -> str:
        """A constant, by its name."""
        import numpy as np
        from onnx import numpy_helper

        self._constants[name] = numpy_helper.from_array(np.asarray(value, dtype), name)
        return name

    def ints(self, name: str, *values: int) -> str:
        """A list of INT64."""
        return self.constant(name, values, "int64")

    @staticmethod
    def code(dtype: str) -> int:
        """ONNX's number of a type."""
        import onnx

        return int(onnx.TensorProto.DataType.Value(dtype.upper()))

    def value(self, name: str, dtype: str, *shape: int | str) -> onnx.ValueInfoProto:
        """An input or output of the graph."""
        from onnx import helper

        return helper.make_tensor_value_info(name, self.code(dtype), list(shape))

    def content(self, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]) -> bytes:
        """The checked model, as the bytes of a file."""
        import onnx
        from onnx import helper

        graph = helper.make_graph(self._nodes, name, inputs, outputs, list(self._constants.values()))
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="refine-export",
            producer_version=__version__,
        )
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))
