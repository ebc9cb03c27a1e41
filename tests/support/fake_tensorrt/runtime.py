"""Runtime, engine and execution context: ONNX Runtime on host memory."""

from __future__ import annotations

import base64
import ctypes
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import onnx
import tensorrt_rtx as rtx
from numpy.typing import NDArray

from .behaviour import Behaviour, IHostMemory, Shape, say
from .builder import model_text, needs_gpu, payload_from_plan, plan_from_payload
from .inspector import EngineInspector

NUMPY: Mapping[str, Any] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}


class Runtime:
    _fake: ClassVar[Behaviour]

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        needs_gpu(self._fake, logger)
        self.engine_host_code_allowed: bool = False

    def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:
        if self._fake.fails("deserialize_cuda_engine", self._logger):
            return None
        payload = payload_from_plan(bytes(serialized_engine))
        refusal = payload if isinstance(payload, str) else self._refusal(payload)
        if isinstance(payload, str) or refusal:
            say(self._logger, f"IRuntime::deserializeCudaEngine: Error Code 1: {refusal}")
            return None
        engine: ICudaEngine = self._fake.module.ICudaEngine(self._fake, self._logger, payload)
        return engine

    def _refusal(self, payload: Mapping[str, Any]) -> str | None:
        ours, theirs = self._fake.version, payload["version"]
        newer = self._fake.numbers >= tuple(int(part) for part in theirs.split("."))
        if ours != theirs and not (payload["version_compatible"] and newer):
            return (
                "The engine plan file is not compatible with this version of TensorRT, "
                f"expecting library version {ours} got {theirs}, please rebuild."
            )
        if payload["lean_runtime"] and not self.engine_host_code_allowed:
            return "The plan contains host code, and engine_host_code_allowed is False."
        return None


class ISerializationConfig:
    def __init__(self, fake: Behaviour, flags: int) -> None:
        self._fake, self.flags = fake, flags

    def set_flag(self, flag: Any) -> bool:
        self.flags |= 1 << int(flag)
        return True

    def clear_flag(self, flag: Any) -> bool:
        self.flags &= ~(1 << int(flag))
        return True

    def get_flag(self, flag: Any) -> bool:
        return bool(self.flags >> int(flag) & 1)


class ICudaEngine:
    def __init__(self, fake: Behaviour, logger: Any, payload: dict[str, Any]) -> None:
        self._fake, self._logger, self._payload = fake, logger, payload
        self._model = onnx.load_model_from_string(base64.b64decode(payload["model"]))
        self._session: Any = None

    @property
    def num_io_tensors(self) -> int:
        return len(self._names)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._payload["profiles"])

    @property
    def refittable(self) -> bool:
        return self._payload["refit"] is not None

    @property
    def profiling_verbosity(self) -> Any:
        return rtx.ProfilingVerbosity.__members__[self._payload["verbosity"]]

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def get_tensor_mode(self, name: str) -> Any:
        for mode in ("INPUT", "OUTPUT"):
            if name in self._payload[f"{mode.lower()}s"]:
                return rtx.TensorIOMode.__members__[mode]
        return rtx.TensorIOMode.NONE

    def get_tensor_dtype(self, name: str) -> Any:
        return rtx.DataType.__members__[self._known(name)["dtype"]]

    def get_tensor_shape(self, name: str) -> Any:
        return rtx.Dims(self._known(name)["shape"])

    def get_tensor_location(self, name: str) -> Any:
        return rtx.TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
        static = [self._known(name)["shape"]] * 3
        return [rtx.Dims(shape) for shape in self._payload["profiles"][profile_index].get(name, static)]

    def create_execution_context(self) -> IExecutionContext | None:
        if self._fake.fails("create_execution_context", self._logger):
            return None
        if self._payload["missing"]:
            say(self._logger, "createExecutionContext: the weights of this engine were stripped: refit it")
            return None
        return IExecutionContext(self)

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self)

    def create_serialization_config(self) -> ISerializationConfig:
        return ISerializationConfig(self._fake, 1 if self._payload["stripped"] else 0)

    def serialize(self) -> IHostMemory | None:
        return self.serialize_with_config(self.create_serialization_config())

    def serialize_with_config(self, config: ISerializationConfig, /) -> IHostMemory | None:
        stripped = config.get_flag(self._fake.module.SerializationFlag.EXCLUDE_WEIGHTS)
        keeps_refit = self._fake.module.SerializationFlag.__members__.get("INCLUDE_REFIT")
        payload = dict(self._payload)
        if self._payload["stripped"] and not stripped:
            payload["stripped"] = False
            if keeps_refit is None or not config.get_flag(keeps_refit):
                payload["refit"] = None
        if stripped:
            payload["missing"] = list(payload["digests"])
        payload["model"] = model_text(self._model, payload["missing"])
        return IHostMemory(plan_from_payload(self._fake.numbers, payload))

    @property
    def _names(self) -> list[str]:
        return [*self._payload["inputs"], *self._payload["outputs"]]

    def _known(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._payload["inputs"].get(name) or self._payload["outputs"].get(name) or {}
        if not found:  # of length -1 up to 11.1, in place of the error
            raise RuntimeError(f"Could not get shape for tensor '{name}'. Check that the tensor name is correct.")
        return found

    def _run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        import onnxruntime as ort

        if self._session is None:
            options = ort.SessionOptions()
            options.intra_op_num_threads = 1
            options.log_severity_level = 4
            self._session = ort.InferenceSession(
                self._model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}
        self._inferred: dict[str, Shape] | None = None
        self._use(0)

    @property
    def active_optimization_profile(self) -> int:
        return self._profile

    @property
    def all_binding_shapes_specified(self) -> bool:
        return not any(-1 in shape for shape in self._shapes.values())

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        fails = self._engine._fake.fails("set_optimization_profile_async", self._engine._logger)
        if fails or not 0 <= profile_index < self._engine.num_optimization_profiles:
            raise RuntimeError("Error in set optimization profile async.")
        self._use(profile_index)
        return True

    def set_input_shape(self, name: str, shape: Any) -> bool:
        wanted = tuple(shape)
        if self._engine._fake.fails("set_input_shape", self._engine._logger):
            return False
        if name not in self._shapes:
            return self._refuse(f"setInputShape: no input is named {name}")
        low, _, high = (tuple(dims) for dims in self._engine.get_tensor_profile_shape(name, self._profile))
        fits = len(low) == len(wanted) == len(high)
        if not fits or any(not a <= b <= c for a, b, c in zip(low, wanted, high, strict=True)):
            return self._refuse(f"setInputShape: {name} is {wanted}; profile {self._profile} has {low} to {high}")
        self._shapes[name] = wanted
        self._inferred = None
        return True

    def get_tensor_shape(self, name: str) -> Any:
        if name in self._shapes:
            return rtx.Dims(self._shapes[name])
        known = self._engine._known(name)
        return rtx.Dims(self._output_shapes()[name] if self.all_binding_shapes_specified else known["shape"])

    def infer_shapes(self) -> list[str]:
        if self._engine._fake.fails("infer_shapes", self._engine._logger):
            raise RuntimeError("infer_shapes error code: -1")
        return [name for name, shape in self._shapes.items() if -1 in shape]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if self._engine._fake.fails("set_tensor_address", self._engine._logger):
            return False
        if name not in self._engine._names:
            return self._refuse(f"setTensorAddress: no tensor is named {name}")
        self._addresses[name] = memory
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self._engine._fake.fails("execute_async_v3", self._engine._logger):
            return False
        if missing := self.infer_shapes():
            return self._refuse(f"enqueueV3: the shapes of {missing} are not set")
        if missing := [name for name in self._engine._names if not self._addresses.get(name)]:
            return self._refuse(f"enqueueV3: the addresses of {missing} are not set")
        try:
            outputs = self._engine._run(
                {name: self._memory(name, shape).copy() for name, shape in self._shapes.items()}
            )
        except Exception as error:
            return self._refuse(f"enqueueV3: {error}")
        for name, array in outputs.items():
            if self._engine._payload["error"] and array.dtype.kind == "f":
                array = (array + self._engine._payload["error"]).astype(array.dtype)
            self._memory(name, array.shape)[...] = array
        return True

    def _memory(self, name: str, shape: Shape) -> NDArray[Any]:
        """The caller's memory as an array."""
        dtype = np.dtype(self._type(name))
        raw = (ctypes.c_char * (math.prod(shape) * dtype.itemsize)).from_address(self._addresses[name])
        return np.ndarray(shape, dtype, raw)

    def _output_shapes(self) -> dict[str, Shape]:
        if self._inferred is None:
            zeros = {name: np.zeros(shape, self._type(name)) for name, shape in self._shapes.items()}
            found = {name: array.shape for name, array in self._engine._run(zeros).items()}
            self._inferred = found
        return self._inferred

    def _type(self, name: str) -> Any:
        return NUMPY[self._engine.get_tensor_dtype(name).name]

    def _use(self, profile: int) -> None:
        self._profile = profile
        self._shapes: dict[str, Shape] = {
            name: tuple(known["shape"]) for name, known in self._engine._payload["inputs"].items()
        }
        self._inferred = None

    def _refuse(self, text: str) -> bool:
        say(self._engine._logger, f"IExecutionContext::{text}")
        return False
