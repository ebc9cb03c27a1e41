"""Runtime, engine and execution context: ONNX Runtime on host memory."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
import tensorrt_rtx as rtx

from .builder import payload_from_plan, plan_from_payload, say


class Runtime:
    _trt: Any

    def __init__(self, logger):
        self._logger = logger
        self.engine_host_code_allowed: bool = False

    def deserialize_cuda_engine(self, serialized_engine):
        try:
            payload, model = payload_from_plan(bytes(serialized_engine))
        except ValueError as error:
            return self._refuse(f"Serialization assertion failed: {error}")
        lean = "VERSION_COMPATIBLE" in payload["flags"] and "EXCLUDE_LEAN_RUNTIME" not in payload["flags"]
        if lean and not self.engine_host_code_allowed:
            return self._refuse("engine_host_code_allowed is False.")
        return self._trt.ICudaEngine(self._logger, payload, model)

    def _refuse(self, text):
        say(self._logger, f"IRuntime::deserializeCudaEngine: Error Code 1: {text}")


class ISerializationConfig:
    def __init__(self, flags):
        self._flags = flags

    def set_flag(self, flag):
        self._flags.add(flag)
        return True

    def clear_flag(self, flag):
        self._flags.discard(flag)
        return True

    def get_flag(self, flag):
        return flag in self._flags


class ICudaEngine:
    _trt: Any

    def __init__(self, logger, payload, model):
        self._logger, self._payload, self._model, self._session = logger, payload, model, None
        builder = rtx.Builder(logger)
        self._network = builder.create_network(1 << int(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        self._parser = rtx.OnnxParser(self._network, logger)
        assert self._parser.parse(model.SerializeToString())
        self._inputs = [self._network.get_input(index) for index in range(self._network.num_inputs)]
        outputs = [self._network.get_output(index) for index in range(self._network.num_outputs)]
        self._tensors = {one.name: one for one in (*self._inputs, *outputs)}

    @property
    def num_io_tensors(self):
        return len(self._tensors)

    @property
    def num_optimization_profiles(self):
        return len(self._payload["profiles"]) or 1

    @property
    def refittable(self):
        return self._payload["refit"]

    def get_tensor_name(self, index):
        return [*self._tensors][index]

    def get_tensor_mode(self, name):
        return rtx.TensorIOMode.INPUT if self._tensors[name].is_network_input else rtx.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return self._tensors[name].dtype

    def get_tensor_shape(self, name):
        return self._tensors[name].shape

    def get_tensor_location(self, name):
        return rtx.TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name, profile_index):
        ranges = [*self._payload["profiles"], {}][profile_index]
        return [rtx.Dims(shape) for shape in ranges.get(name, [[*self._tensors[name].shape]] * 3)]

    def create_execution_context(self):
        if self._payload["stripped"]:
            say(self._logger, "createExecutionContext: the weights of this engine were stripped: refit it")
            return None
        return self._trt.IExecutionContext(self)

    def create_engine_inspector(self):
        return self._trt.EngineInspector(self)

    def create_serialization_config(self):
        return ISerializationConfig(
            {self._trt.SerializationFlag.EXCLUDE_WEIGHTS} if self._payload["stripped"] else set()
        )

    def serialize_with_config(self, config, /):
        stripped = config.get_flag(self._trt.SerializationFlag.EXCLUDE_WEIGHTS)
        keep = self._trt.SerializationFlag.__members__.get("INCLUDE_REFIT")
        was_stripped = "STRIP_PLAN" in self._payload["flags"]
        refit = self.refittable and (stripped or not was_stripped or (keep is not None and config.get_flag(keep)))
        return plan_from_payload({**self._payload, "stripped": stripped, "refit": refit}, self._model)

    def _run(self, feeds):
        import onnxruntime as ort

        if self._session is None:
            options = ort.SessionOptions()
            options.intra_op_num_threads = 1
            options.log_severity_level = 4
            content = self._model.SerializeToString()
            self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, feeds), strict=True))


class IExecutionContext:
    def __init__(self, engine):
        self._engine, self._addresses = engine, {}
        self._use(0)

    @property
    def active_optimization_profile(self):
        return self._profile

    def set_optimization_profile_async(self, profile_index, stream_handle):
        self._use(profile_index)
        return True

    def set_input_shape(self, name, shape):
        wanted = tuple(shape)
        low, _, high = (tuple(dims) for dims in self._engine.get_tensor_profile_shape(name, self._profile))
        if len(low) != len(wanted) or any(not a <= b <= c for a, b, c in zip(low, wanted, high, strict=True)):
            return self._refuse(f"setInputShape: {name} is {wanted}; profile {self._profile} has {low} to {high}")
        self._shapes[name], self._inferred = wanted, None
        return True

    def get_tensor_shape(self, name):
        if self._inferred is None and not self.infer_shapes():
            zeros = {one: np.zeros(shape, self._type(one)) for one, shape in self._shapes.items()}
            self._inferred = {one: array.shape for one, array in self._engine._run(zeros).items()}
        known = {**(self._inferred or {}), **self._shapes}
        return rtx.Dims(known[name]) if name in known else self._engine.get_tensor_shape(name)

    def infer_shapes(self):
        return [name for name, shape in self._shapes.items() if -1 in shape]

    def set_tensor_address(self, name, memory):
        self._addresses[name] = memory
        return True

    def get_tensor_address(self, name):
        return self._addresses.get(name, 0)

    def execute_async_v3(self, stream_handle):
        missing = [name for name in self._engine._tensors if not self._addresses.get(name)] or self.infer_shapes()
        if missing:
            return self._refuse(f"enqueueV3: addresses or shapes of {missing} are not set")
        feeds = {name: self._memory(name, shape).copy() for name, shape in self._shapes.items()}
        for name, array in self._engine._run(feeds).items():
            self._memory(name, array.shape)[...] = array + array.dtype.type(self._engine._payload["error"])
        return True

    def _memory(self, name, shape):
        """The caller's memory as an array."""
        dtype = np.dtype(self._type(name))
        raw = (ctypes.c_char * (math.prod(shape) * dtype.itemsize)).from_address(self._addresses[name])
        return np.ndarray(shape, dtype, raw)

    def _type(self, name):
        return rtx.nptype(self._engine.get_tensor_dtype(name))

    def _use(self, profile):
        self._profile, self._inferred = profile, None
        self._shapes = {one.name: tuple(one.shape) for one in self._engine._inputs}

    def _refuse(self, text):
        say(self._engine._logger, f"IExecutionContext::{text}")
        return False
