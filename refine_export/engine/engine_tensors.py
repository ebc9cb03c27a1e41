"""Inputs and outputs of a built engine: names, types, ranges of shapes.

Checked against the API documentation of TensorRT 10.12 to 11.4; not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from refine_export.errors import GraphError, RequestError
from refine_export.signature import Signature, TensorInfo, signature_from_names

if TYPE_CHECKING:
    import tensorrt as trt

Shape = tuple[int, ...]
Ranges = Mapping[str, tuple[Shape, Shape]]
"""Input -> its smallest and largest shape in one profile."""

DTYPES: Mapping[str, str] = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
"""Names of `tensorrt.DataType` -> numpy's and torch's (numpy lacks bfloat16); their numbers moved between versions."""


def io_of(
    engine: trt.ICudaEngine, module: Any
) -> tuple[Signature | None, tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Return the signature of our graph with an engine's names (None for a foreign one), its inputs and its outputs.

    Raises:
        GraphError: `unsupported-tensor`; a type that no array has, or a tensor in host memory (a shape tensor).
    """
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == module.TensorIOMode.INPUT]
    outputs = [name for name in names if name not in inputs]
    signature = signature_from_names(inputs, outputs)
    symbols = {spec.name: spec.shape for spec in (*signature.inputs, *signature.outputs)} if signature else {}

    def info(name: str) -> TensorInfo:
        dtype = engine.get_tensor_dtype(name).name
        if dtype not in DTYPES:
            message = f"{name} is {dtype}; expected an engine with inputs and outputs of {', '.join(DTYPES)}"
            raise GraphError(message, code="unsupported-tensor", tensor=name)
        if engine.get_tensor_location(name) != module.TensorLocation.DEVICE:
            message = f"{name} is a shape tensor in host memory; expected an engine with tensors on the GPU"
            raise GraphError(message, code="unsupported-tensor", tensor=name)
        sizes = sizes_from_dims(engine.get_tensor_shape(name))
        known = symbols.get(name, ())
        if len(known) != len(sizes):
            known = tuple(f"{name}?{place}" for place in range(len(sizes)))
        shape = tuple(size if size >= 0 else symbol for size, symbol in zip(sizes, known, strict=True))
        return TensorInfo(name=name, dtype=DTYPES[dtype], shape=shape)

    return signature, tuple(info(name) for name in inputs), tuple(info(name) for name in outputs)


def ranges_of(engine: trt.ICudaEngine, inputs: Sequence[TensorInfo]) -> tuple[Ranges, ...]:
    """Return the shapes that each profile takes; fixed shapes are the engine's own.

    By `get_tensor_profile_shape`: `get_tensor_profile_values` is for shape tensors, and its keywords are swapped in the
    binding.
    """

    def limits(info: TensorInfo, profile: int) -> tuple[Shape, Shape]:
        fixed = tuple(size for size in info.shape if isinstance(size, int))
        if len(fixed) == len(info.shape):
            return fixed, fixed
        low, _, high = engine.get_tensor_profile_shape(info.name, profile)
        return sizes_from_dims(low), sizes_from_dims(high)

    return tuple(
        {info.name: limits(info, profile) for info in inputs} for profile in range(engine.num_optimization_profiles)
    )


def choose_profile(profiles: Sequence[Ranges], shapes: Mapping[str, Shape]) -> int:
    """Return the first profile that all shapes fit into.

    Raises:
        RequestError: `outside-profile`; the message has the shapes that each takes.
    """
    for index, ranges in enumerate(profiles):
        if all(_within(shape, *ranges[name]) for name, shape in shapes.items()):
            return index
    misfits = {
        name: [ranges[name] for ranges in profiles]
        for name, shape in shapes.items()
        if not all(_within(shape, *ranges[name]) for ranges in profiles)
    }
    name, limits = next(iter(misfits.items()))
    takes = ", ".join(f"{list(low)} to {list(high)} (profile {index})" for index, (low, high) in enumerate(limits))
    raise RequestError(
        f"the feed {name} is {list(shapes[name])}; this engine takes {takes}: feed one of these, or build an engine "
        "for that size: min_size, max_size, max_batch",
        code="outside-profile",
        tensor=name,
    )


def sizes_from_dims(dims: trt.Dims) -> Shape:
    """Return Dims as a tuple: they have no hash, and raise where they are compared with others (10.12 to 11.4)."""
    return tuple(int(dims[place]) for place in range(len(dims)))


def _within(shape: Shape, low: Shape, high: Shape) -> bool:
    return len(shape) == len(low) and all(a <= size <= b for size, a, b in zip(shape, low, high, strict=True))
