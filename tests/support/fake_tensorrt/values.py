"""Enumerations, Dims and host memory, with the manners of pybind11."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NoReturn

import numpy as np
from onnx import TensorProto

Shape = tuple[int, ...]


class _Enum:
    """As pybind11's `py::enum_`: no `enum.Enum`, and nothing to iterate over."""

    __slots__ = ("_name", "_value")
    __members__: ClassVar[dict[str, Any]] = {}

    def __init__(self, value: int) -> None:
        self._value = value
        self._name = next((name for name, other in self.__members__.items() if other.value == value), "???")

    @property
    def name(self) -> str:
        return self._name

    @property
    def value(self) -> int:
        return self._value

    def __int__(self) -> int:
        return self._value

    def __eq__(self, other: object, /) -> bool:
        return isinstance(other, _Enum) and type(other) is type(self) and other.value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self._name}"


def enum_type(owner: str, names: str | Mapping[str, int]) -> Any:
    values = names if isinstance(names, Mapping) else {name: place for place, name in enumerate(names.split())}
    kind: Any = type(owner, (_Enum,), {"__slots__": (), "__members__": {}})
    for name, value in values.items():
        member = kind(value)
        member._name = name
        kind.__members__[name] = member
        setattr(kind, name, member)
    return kind


DataType = enum_type("DataType", "FLOAT HALF INT8 INT32 BOOL UINT8 FP8 BF16 INT64 INT4 FP4")
InterpolationMode = enum_type("InterpolationMode", "NEAREST LINEAR CUBIC")
SampleMode = enum_type("SampleMode", "STRICT_BOUNDS WRAP CLAMP FILL REFLECT")
LayerType = enum_type(
    "LayerType",
    "CONVOLUTION GRID_SAMPLE ACTIVATION DECONVOLUTION ELEMENTWISE CONSTANT CAST PARAMETRIC_RELU",
)
ErrorCode = enum_type(
    "ErrorCode",
    "SUCCESS MODEL_DESERIALIZE_FAILED INVALID_GRAPH UNSUPPORTED_NODE UNSUPPORTED_NODE_ATTR REFIT_FAILED",
)
ErrorCode.name = _Enum.__str__  # a method, as in bindings that bring their own `__str__` by pybind11 before 2.12
MemoryPoolType = enum_type("MemoryPoolType", "WORKSPACE TACTIC_DRAM")
HardwareCompatibilityLevel = enum_type("HardwareCompatibilityLevel", "NONE AMPERE_PLUS SAME_COMPUTE_CAPABILITY")
ProfilingVerbosity = enum_type("ProfilingVerbosity", "LAYER_NAMES_ONLY NONE DETAILED")
TilingOptimizationLevel = enum_type("TilingOptimizationLevel", "NONE FAST MODERATE FULL")
TensorIOMode = enum_type("TensorIOMode", "NONE INPUT OUTPUT")
TensorLocation = enum_type("TensorLocation", "DEVICE HOST")
LayerInformationFormat = enum_type("LayerInformationFormat", "ONELINE JSON")

BUILDER_FLAGS: Mapping[str, int] = {
    "REFIT": 4,
    "TF32": 6,
    "VERSION_COMPATIBLE": 12,
    "EXCLUDE_LEAN_RUNTIME": 13,
    "STRIP_PLAN": 18,
    "REFIT_IDENTICAL": 19,
}
PRECISION_FLAGS: Mapping[int, Mapping[str, int]] = {10: {"FP16": 0, "INT8": 1, "FP8": 14, "BF16": 17}, 11: {}}
"""Flags that the tool never sets; 11 has none."""
CREATION_FLAGS: Mapping[int, str] = {
    10: "EXPLICIT_BATCH STRONGLY_TYPED PREFER_AOT_PYTHON_PLUGINS PREFER_JIT_PYTHON_PLUGINS",
    11: "STRONGLY_TYPED PREFER_AOT_PYTHON_PLUGINS PREFER_JIT_PYTHON_PLUGINS",
}
DTYPES = {  # ONNX -> TensorRT
    TensorProto.FLOAT: "FLOAT",
    TensorProto.FLOAT16: "HALF",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.INT8: "INT8",
    TensorProto.UINT8: "UINT8",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.BOOL: "BOOL",
}
NUMPY: Mapping[str, Any] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}


def serialization_flags(numbers: Shape) -> Any:
    names = "EXCLUDE_WEIGHTS EXCLUDE_LEAN_RUNTIME"
    return enum_type("SerializationFlag", f"{names} INCLUDE_REFIT" if numbers >= (10, 14) else names)


class Dims:
    """Iterated by index, compared with lists and tuples only; of length -1 where TensorRT's are invalid."""

    __slots__ = ("_sizes",)
    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __init__(self, shape: Sequence[int] | None = ()) -> None:
        self._sizes: list[int] | None = None if shape is None else [int(size) for size in shape]

    def __len__(self) -> int:
        return -1 if self._sizes is None else len(self._sizes)

    def __getitem__(self, index: Any, /) -> Any:
        found = (self._sizes or [])[index]
        return tuple(found) if isinstance(index, slice) else found

    def __eq__(self, other: object, /) -> bool:
        if not isinstance(other, list | tuple):
            raise TypeError("__eq__(): incompatible function arguments.")
        return list(other) == self._sizes

    def __repr__(self) -> str:
        return str(tuple(self._sizes or ()))


def sizes(value: Any) -> Shape:
    if not isinstance(value, Dims | list | tuple):
        raise TypeError("incompatible function arguments: expected a tuple, a list or Dims")
    return tuple(int(value[place]) for place in range(len(value)))


def checked(kind: Any, value: Any) -> Any:
    """Pybind11 converts nothing: an int is no flag."""
    if not isinstance(value, kind):
        raise TypeError(f"incompatible function arguments: expected {kind.__name__}, got {type(value).__name__}")
    return value


class IHostMemory(bytes):
    """A buffer and no more."""

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> NoReturn:
        raise TypeError("object of type 'tensorrt.IHostMemory' has no len()")

    def __getitem__(self, index: Any, /) -> NoReturn:
        raise TypeError("'tensorrt.IHostMemory' object is not subscriptable")

    def __iter__(self) -> NoReturn:
        raise TypeError("'tensorrt.IHostMemory' object is not iterable")
