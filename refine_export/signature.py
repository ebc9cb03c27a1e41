"""The I/O contract of each graph: names, shapes, types, units.

One `Signature` decides the names in the ONNX file, the sample feeds, the runners and all that follows them.

Shape legend: N batch, H and W frame size in pixels. A dimension is a number, "N", "H", "W", or "H/k", "W/k".
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from refine_export.errors import RequestError

GraphName = Literal["contextnet", "unet", "refine", "interpolator"]
Quantity = Literal["image", "flow", "mask", "timestep", "features", "residual"]
FilePrecision = Literal["fp32", "fp16", "bf16"]
Layout = Literal["pair", "stacked7", "stacked11"]
"""Forms of an interpolator's inputs: `img0`, `img1` and `timestep`, or one stack of so many channels."""

MULTIPLE_OF = 32
"""Padding of most networks, and of files that do not state theirs: H and W of frames are multiples of it."""

PADDINGS = {str(number): number for number in (32, 64, 128, 256, 512)}
"""Paddings of the networks, by their text in a file's metadata: 32, 64 or 128, over a scale of 1 to 0.25."""

SCALES = (0.25, 0.5, 1.0, 2.0)
"""Numbers by which the scales of a network's blocks may be divided; upstream recommends 0.5 for 4K."""

LARGEST_SIDE = 16384
"""Upper bound of the height and width of a frame, in pixels."""

LARGEST_BATCH = 256
"""Frame pairs per call of a static file."""


def parse_size(text: str) -> tuple[int, int]:
    """Parse `1088x1920` as height and width in pixels.

    Raises:
        ValueError: the text has another form, or a side is 0 or too large.
    """
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,9}x[0-9]{1,9}", text):
        raise ValueError(f"size is {text!r}; expected HEIGHTxWIDTH, such as 1088x1920")
    height, _, width = text.partition("x")
    size = int(height), int(width)
    if not 1 <= min(size) <= max(size) <= LARGEST_SIDE:
        raise ValueError(f"size is {text!r}; expected 1 to {LARGEST_SIDE} pixels a side")
    return size


def padded_size(height: int, width: int, multiple_of: int) -> tuple[int, int]:
    """Return the next multiples of what a network takes."""
    return -(-height // multiple_of) * multiple_of, -(-width // multiple_of) * multiple_of


def fitting_size(text: str, multiple_of: int, *, default: bool = False) -> tuple[int, int]:
    """Parse a size for a network: one that is only a default is padded, one that the user gave has to fit.

    Raises:
        RequestError: `wrong-size`; sides that are not multiples of the network's padding.
    """
    size = parse_size(text)
    if default:
        return padded_size(*size, multiple_of)
    check_multiples(size, multiple_of)
    return size


def check_multiples(size: tuple[int, int], multiple_of: int) -> None:
    """Check a height and width against the padding of a network.

    Raises:
        RequestError: `wrong-size`.
    """
    if any(side % multiple_of for side in size):
        height, width = padded_size(*size, multiple_of)
        raise RequestError(
            f"the size {size[0]}x{size[1]} (height x width) does not fit this network, which takes multiples of "
            f"{multiple_of}, such as {height}x{width}",
            code="wrong-size",
            size=size,
            multiple_of=multiple_of,
            padded=(height, width),
        )


def check_scale(scale: float) -> None:
    """Raise ValueError unless a scale is one of `SCALES`."""
    if scale not in SCALES:
        raise ValueError(f"scale is {scale:g}; expected one of {', '.join(f'{one:g}' for one in SCALES)}")


def check_range(name: str, value: float | None, low: float, high: float) -> None:
    """Raise ValueError unless a number is None or from `low` to `high`."""
    if value is not None and not low <= value <= high:
        raise ValueError(f"{name} is {value}; expected {low} to {high}")


def check_sizes_option(name: str, sizes: Iterable[str]) -> None:
    """Check the sizes in an option.

    Raises:
        ValueError: `parse_size` refuses one; the message begins with the option's name.
    """
    for size in sizes:
        try:
            parse_size(size)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


UNITS: Mapping[Quantity, str] = {
    "image": "RGB in [0, 1]",
    "flow": "pixels of the full-size frame, x before y",
    "mask": "logit of the weight of warped_img0",
    "timestep": "in (0, 1)",
    "features": "activations",
    "residual": "in (0, 1); frame = clamp(merged + 2 * residual - 1, 0, 1)",
}


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output of a graph."""

    name: str
    quantity: Quantity
    shape: tuple[int | str, ...]

    def shape_at(self, batch: int, height: int, width: int) -> tuple[int, ...]:
        """Return the shape in numbers for a batch of frames of `height` by `width` pixels."""
        sizes = {"N": batch, "H": height, "W": width}

        def number(dimension: int | str) -> int:
            if isinstance(dimension, int):
                return dimension
            symbol, _, divisor = dimension.partition("/")
            return sizes[symbol] // int(divisor or 1)

        return tuple(number(dimension) for dimension in self.shape)

    @property
    def units(self) -> str:
        """Unit of the values."""
        return UNITS[self.quantity]


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Inputs and outputs of a graph, in order."""

    graph: GraphName
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    multiple_of: int = MULTIPLE_OF
    """H and W of the frames are multiples of this."""
    scale: float = 1.0
    """One of `SCALES`: the scales of the network's blocks are divided by it, for which `multiple_of` allows."""

    @property
    def takes_timestep(self) -> bool:
        """True where the graph computes the frame at any time, not only the middle one."""
        return TIMESTEP in self.inputs

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(spec.name for spec in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return tuple(spec.name for spec in self.outputs)


def _plane(name: str, channels: int, quantity: Quantity = "image", divisor: int = 1) -> TensorSpec:
    height, width = ("H", "W") if divisor == 1 else (f"H/{divisor}", f"W/{divisor}")
    return TensorSpec(name=name, quantity=quantity, shape=("N", channels, height, width))


def _pyramid(prefix: str) -> tuple[TensorSpec, ...]:
    return tuple(_plane(f"{prefix}{k}", 8 * 2**k, "features", 2**k) for k in (1, 2, 3, 4))


_FRAMES = (_plane("img0", 3), _plane("img1", 3))
_REFINE = (
    *_FRAMES,
    _plane("warped_img0", 3),
    _plane("warped_img1", 3),
    _plane("mask", 1, "mask"),
    _plane("flow", 4, "flow"),
)
_RESIDUAL = (_plane("residual", 3, "residual"),)
_FRAME = (_plane("frame", 3),)

SIGNATURES: Mapping[GraphName, Signature] = {
    signature.graph: signature
    for signature in (
        Signature(graph="contextnet", inputs=(_plane("image", 3), _plane("flow", 2, "flow")), outputs=_pyramid("f")),
        Signature(graph="unet", inputs=_REFINE + _pyramid("c0_") + _pyramid("c1_"), outputs=_RESIDUAL),
        Signature(graph="refine", inputs=_REFINE, outputs=_RESIDUAL),
        Signature(graph="interpolator", inputs=_FRAMES, outputs=_FRAME),
    )
}
"""The four graphs by name; `interpolator` without the timestep that many networks take (see `signature_of`)."""

OLD_NAMES: Mapping[str, GraphName] = {"interpolator_m": "interpolator"}
"""Names that graphs had in earlier versions; recipes, reports and the command line may still have them."""

TIMESTEP = TensorSpec(name="timestep", quantity="timestep", shape=("N", 1, 1, 1))


def signature_of(
    graph: GraphName, *, timestep: bool = False, multiple_of: int = MULTIPLE_OF, scale: float = 1.0
) -> Signature:
    """Return the signature of a graph of one network.

    Args:
        graph: one of the four.
        timestep: the network's interpolator takes a timestep; ignored for other graphs.
        multiple_of: the network's padding.
        scale: the network's.
    """
    signature = SIGNATURES[graph]
    inputs = (*signature.inputs, TIMESTEP) if timestep and graph == "interpolator" else signature.inputs
    return replace(signature, inputs=inputs, multiple_of=multiple_of, scale=scale)


def as_stated(signature: Signature, stated: Mapping[str, str]) -> Signature:
    """Return a signature with the padding and the scale in a file's metadata, or in a server's config, if they are."""
    multiple_of = PADDINGS.get(stated.get("refine_export.multiple_of", ""), signature.multiple_of)
    scale = next((one for one in SCALES if stated.get("refine_export.scale") == f"{one:g}"), signature.scale)
    return replace(signature, multiple_of=multiple_of, scale=scale)


def signature_from_names(inputs: Iterable[str], outputs: Iterable[str]) -> Signature | None:
    """Return the signature with inputs and outputs of these names, in any order; None if no graph has them."""
    names = set(inputs), set(outputs)
    for signature in (*SIGNATURES.values(), signature_of("interpolator", timestep=True)):
        if names == (set(signature.input_names), set(signature.output_names)):
            return signature
    return None


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """An input or output as a backend declares it."""

    name: str
    dtype: str
    """Name of the numpy type, such as `float32`."""
    shape: tuple[int | str, ...]
    """Numbers, and names where a dimension is free."""
