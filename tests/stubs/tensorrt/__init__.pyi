# The members of `tensorrt` that an engine builder, runner, refitter and inspector call, for mypy on machines without
# TensorRT. Written by hand from the Apache-2.0 pybind sources of NVIDIA/TensorRT (read, not copied): argument names,
# order and defaults are those of the bindings.
#
# Read, as `python/src/infer/pyCore.cpp`, `pyGraph.cpp`, `pyFoundationalTypes.cpp`, `python/src/parsers/pyOnnx.cpp`:
#   61a07be  before 10.12: pyCore                  3b4ddc1  10.14: pyCore
#   4976592  10.16.0.72: pyCore, pyGraph           6e50a4c  11.0: pyCore, tensorrt/__init__.py
#   771d8ef  11.0.0.114: pyGraph, pyOnnx           82d1dca  11.1.0: pyCore
#   3bd1928  11.3.0.99: pyCore                     98adec8  11.3.0.99: include/NvInfer.h
# and pyOnnx of 10.15 and pyFoundationalTypes of 2025 (a 10.x), found by their text. Compared member by member with the
# stubs that others generated from the bindings of 10.12.0.36 and 10.13.0.35 (PyPI: tensorrt-stubs), which have the same
# names, arguments and defaults, and never None. 11.2 lies between two that agree; for 11.4 there were only NVIDIA's
# documentation pages (11.4.0 and 11.4.1: the removed APIs, the inspector). "10.12-11.4" below means: the same in each
# of these that has the class, and nothing to the contrary there.
#
# A member that one of the two majors lacks is not declared here: ask for it by name (`getattr`, `__members__`).
#
#   10 only | NetworkDefinitionCreationFlag: EXPLICIT_BATCH
#   10 only | BuilderFlag: FP16 BF16 INT8 FP8 INT4 FP4 OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS
#   10 only | BuilderFlag: REJECT_EMPTY_ALGORITHMS WEIGHTLESS
#   10 only | Builder: platform_has_tf32 platform_has_fast_fp16 platform_has_fast_int8
#   10 only | OnnxParser: supports_model parse_with_weight_descriptors
#   10 only | ILayer: precision precision_is_set reset_precision set_output_type output_type_is_set reset_output_type
#   10 only | ITensor: dynamic_range set_dynamic_range reset_dynamic_range
#   10 only | ICudaEngine: device_memory_size get_device_memory_size_for_profile has_implicit_batch_dimension
#   10 only | ICudaEngine: create_execution_context_without_device_memory weight_streaming_budget
#   10 only | ICudaEngine: minimum_weight_streaming_budget
#   10 only | IExecutionContext: all_shape_inputs_specified
#   10.14 on | SerializationFlag: INCLUDE_REFIT
#
# Differences behind the same name:
#   - The integers of NetworkDefinitionCreationFlag and BuilderFlag moved between 10 and 11 (STRONGLY_TYPED 1 -> 0,
#     VERSION_COMPATIBLE 13 -> 12, STRIP_PLAN 19 -> 18, REFIT_IDENTICAL 20 -> 19): no mask outlives a process.
#   - `ITensor.dtype` has a setter in 10 only. STRONGLY_TYPED is ignored in 11, where it always holds.
#   - `get_tensor_shape` of an unknown name gives a Dims of length -1 (`len` raises ValueError) up to 11.1, and raises
#     RuntimeError in 11.3.
#
# Enumerations are pybind11's, not `enum.Enum`: a class can't be iterated, members have `name`, `value` and `__int__`.
# Constructors raise TypeError ("factory function returned nullptr") where C++ gives null: no GPU, not refittable.

# ruff: noqa: A002 (the argument names are the bindings')

from collections.abc import Sequence
from typing import Any, ClassVar, overload

from typing_extensions import Buffer

__version__: str

class _Enum:  # not in TensorRT: what py::enum_ gives to each enumeration
    def __init__(self, value: int) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> int: ...
    def __int__(self) -> int: ...
    def __index__(self) -> int: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...

# ---------------------------------------------------------------- foundational types, 10.12-11.4

class DataType(_Enum):
    __members__: ClassVar[dict[str, DataType]]
    FLOAT: ClassVar[DataType]
    HALF: ClassVar[DataType]
    BF16: ClassVar[DataType]
    INT8: ClassVar[DataType]
    INT32: ClassVar[DataType]
    INT64: ClassVar[DataType]
    BOOL: ClassVar[DataType]
    UINT8: ClassVar[DataType]
    FP8: ClassVar[DataType]
    INT4: ClassVar[DataType]
    FP4: ClassVar[DataType]
    @property
    def itemsize(self) -> float: ...  # bytes; 0.5 for the four-bit types; set by tensorrt/__init__.py

def nptype(trt_type: DataType) -> type[Any]: ...  # TypeError for BF16 and the small types

class Dims:
    # No `__iter__`: Python iterates by `__getitem__` and IndexError, type checkers don't. Comparing two Dims raises
    # TypeError (the binding takes a list or a tuple), and they have no hash: make tuples.
    MAX_DIMS: ClassVar[int]
    @overload
    def __init__(self) -> None: ...
    @overload
    def __init__(self, shape: Sequence[int]) -> None: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int, /) -> int: ...
    @overload
    def __getitem__(self, index: slice, /) -> tuple[int, ...]: ...
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

class IHostMemory:
    # A buffer and no more: no `len`, no slices. The buffer says format "f" with items of one byte, so take
    # `bytes(memory)` or a file's `write`, and don't index a memoryview of it.
    @property
    def dtype(self) -> DataType: ...
    @property
    def nbytes(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

# ---------------------------------------------------------------- logger and progress, 10.12-11.4

class ILogger:
    # A subclass that defines `__init__` calls this one, or construction raises TypeError. What `log` raises is printed
    # to stderr and lost. The first one of a process stays its global logger: use one.
    class Severity(_Enum):
        __members__: ClassVar[dict[str, ILogger.Severity]]
        INTERNAL_ERROR: ClassVar[ILogger.Severity]
        ERROR: ClassVar[ILogger.Severity]
        WARNING: ClassVar[ILogger.Severity]
        INFO: ClassVar[ILogger.Severity]
        VERBOSE: ClassVar[ILogger.Severity]

    INTERNAL_ERROR: ClassVar[ILogger.Severity]
    ERROR: ClassVar[ILogger.Severity]
    WARNING: ClassVar[ILogger.Severity]
    INFO: ClassVar[ILogger.Severity]
    VERBOSE: ClassVar[ILogger.Severity]
    def __init__(self) -> None: ...
    def log(self, severity: ILogger.Severity, msg: str) -> None: ...

class Logger(ILogger):
    min_severity: ILogger.Severity
    def __init__(self, min_severity: ILogger.Severity = ...) -> None: ...
    def log(self, severity: ILogger.Severity, msg: str) -> None: ...

class IProgressMonitor:
    # Called from TensorRT's threads. `step_complete` cancels the build with False, and with anything it raises or None.
    def __init__(self) -> None: ...
    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None: ...
    def step_complete(self, phase_name: str, step: int) -> bool: ...
    def phase_finish(self, phase_name: str) -> None: ...

# ---------------------------------------------------------------- network, 10.12-11.4

class LayerType(_Enum):  # the rest of the bindings' list is of no use here
    __members__: ClassVar[dict[str, LayerType]]
    CONVOLUTION: ClassVar[LayerType]
    GRID_SAMPLE: ClassVar[LayerType]
    ACTIVATION: ClassVar[LayerType]
    POOLING: ClassVar[LayerType]
    SOFTMAX: ClassVar[LayerType]
    DECONVOLUTION: ClassVar[LayerType]
    CONCATENATION: ClassVar[LayerType]
    ELEMENTWISE: ClassVar[LayerType]
    UNARY: ClassVar[LayerType]
    SHUFFLE: ClassVar[LayerType]
    REDUCE: ClassVar[LayerType]
    GATHER: ClassVar[LayerType]
    MATRIX_MULTIPLY: ClassVar[LayerType]
    CONSTANT: ClassVar[LayerType]
    IDENTITY: ClassVar[LayerType]
    CAST: ClassVar[LayerType]
    SLICE: ClassVar[LayerType]
    SHAPE: ClassVar[LayerType]
    PARAMETRIC_RELU: ClassVar[LayerType]
    RESIZE: ClassVar[LayerType]
    SELECT: ClassVar[LayerType]
    FILL: ClassVar[LayerType]
    SCATTER: ClassVar[LayerType]
    NORMALIZATION: ClassVar[LayerType]

class InterpolationMode(_Enum):
    __members__: ClassVar[dict[str, InterpolationMode]]
    NEAREST: ClassVar[InterpolationMode]
    LINEAR: ClassVar[InterpolationMode]
    CUBIC: ClassVar[InterpolationMode]

class SampleMode(_Enum):  # GridSample takes CLAMP (border), FILL (zeros) and REFLECT
    __members__: ClassVar[dict[str, SampleMode]]
    STRICT_BOUNDS: ClassVar[SampleMode]
    WRAP: ClassVar[SampleMode]
    CLAMP: ClassVar[SampleMode]
    FILL: ClassVar[SampleMode]
    REFLECT: ClassVar[SampleMode]

class ITensor:  # `name` and, of inputs, `shape` can be set; declared narrower here
    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> Dims: ...
    @property
    def dtype(self) -> DataType: ...
    @property
    def is_network_input(self) -> bool: ...
    @property
    def is_network_output(self) -> bool: ...
    @property
    def is_shape_tensor(self) -> bool: ...
    @property
    def is_execution_tensor(self) -> bool: ...

class ILayer:
    # `get_layer` gives this class for every layer; `layer.__class__ = trt.IGridSampleLayer` gives its own members.
    # `metadata` is "[ONNX Layer: name | ...]" from the ONNX parser.
    @property
    def name(self) -> str: ...
    @property
    def metadata(self) -> str: ...
    @property
    def type(self) -> LayerType: ...
    @property
    def num_inputs(self) -> int: ...
    @property
    def num_outputs(self) -> int: ...
    def get_input(self, index: int) -> ITensor | None: ...
    def get_output(self, index: int) -> ITensor | None: ...
    def get_output_type(self, index: int) -> DataType: ...

class IGridSampleLayer(ILayer):
    interpolation_mode: InterpolationMode
    align_corners: bool
    sample_mode: SampleMode

class NetworkDefinitionCreationFlag(_Enum):
    __members__: ClassVar[dict[str, NetworkDefinitionCreationFlag]]
    STRONGLY_TYPED: ClassVar[NetworkDefinitionCreationFlag]
    PREFER_AOT_PYTHON_PLUGINS: ClassVar[NetworkDefinitionCreationFlag]
    PREFER_JIT_PYTHON_PLUGINS: ClassVar[NetworkDefinitionCreationFlag]

class INetworkDefinition:
    @property
    def name(self) -> str: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def num_inputs(self) -> int: ...
    @property
    def num_outputs(self) -> int: ...
    @property
    def flags(self) -> int: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> ILayer: ...
    def get_flag(self, flag: NetworkDefinitionCreationFlag) -> bool: ...
    def get_layer(self, index: int) -> ILayer: ...
    def get_input(self, index: int) -> ITensor: ...
    def get_output(self, index: int) -> ITensor: ...
    def mark_output(self, tensor: ITensor) -> None: ...
    def unmark_output(self, tensor: ITensor) -> None: ...
    def mark_debug(self, tensor: ITensor) -> bool: ...
    def unmark_debug(self, tensor: ITensor) -> bool: ...
    def is_debug_tensor(self, tensor: ITensor) -> bool: ...

# ---------------------------------------------------------------- ONNX parser, 10.12-11.0; 11.4 by its documentation

class ErrorCode(_Enum):
    # `str` gives "ErrorCode.INVALID_NODE". `name` is a method in the bindings of 10.12 and 10.13: they add a `__str__`,
    # which pybind11 before 2.12 puts in the place of `name`.
    def name(self) -> str: ...  # type: ignore[override]
    __members__: ClassVar[dict[str, ErrorCode]]
    SUCCESS: ClassVar[ErrorCode]
    INTERNAL_ERROR: ClassVar[ErrorCode]
    MEM_ALLOC_FAILED: ClassVar[ErrorCode]
    MODEL_DESERIALIZE_FAILED: ClassVar[ErrorCode]
    INVALID_VALUE: ClassVar[ErrorCode]
    INVALID_GRAPH: ClassVar[ErrorCode]
    INVALID_NODE: ClassVar[ErrorCode]
    UNSUPPORTED_GRAPH: ClassVar[ErrorCode]
    UNSUPPORTED_NODE: ClassVar[ErrorCode]
    UNSUPPORTED_NODE_ATTR: ClassVar[ErrorCode]
    UNSUPPORTED_NODE_INPUT: ClassVar[ErrorCode]
    UNSUPPORTED_NODE_DATATYPE: ClassVar[ErrorCode]
    UNSUPPORTED_NODE_DYNAMIC: ClassVar[ErrorCode]
    UNSUPPORTED_NODE_SHAPE: ClassVar[ErrorCode]
    REFIT_FAILED: ClassVar[ErrorCode]

class ParserError:  # methods, not properties; lives as long as its parser, until `clear_errors`
    def code(self) -> ErrorCode: ...
    def desc(self) -> str: ...
    def file(self) -> str: ...
    def line(self) -> int: ...
    def func(self) -> str: ...
    def node(self) -> int: ...
    def node_name(self) -> str: ...
    def node_operator(self) -> str: ...

class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None: ...
    def parse(self, model: Buffer, path: str | None = None) -> bool: ...  # `path`: of the model, for external data
    def parse_from_file(self, model: str) -> bool: ...
    def supports_model_v2(self, model: Buffer, path: str | None = None) -> bool: ...
    def supports_operator(self, op_name: str) -> bool: ...
    @property
    def num_subgraphs(self) -> int: ...
    def is_subgraph_supported(self, index: int) -> bool: ...
    def get_subgraph_nodes(self, index: int) -> list[int]: ...
    @property
    def num_errors(self) -> int: ...
    def get_error(self, index: int) -> ParserError: ...
    def clear_errors(self) -> None: ...

# ---------------------------------------------------------------- builder, 10.12-11.4

class BuilderFlag(_Enum):
    __members__: ClassVar[dict[str, BuilderFlag]]
    DEBUG: ClassVar[BuilderFlag]
    GPU_FALLBACK: ClassVar[BuilderFlag]
    REFIT: ClassVar[BuilderFlag]
    DISABLE_TIMING_CACHE: ClassVar[BuilderFlag]
    EDITABLE_TIMING_CACHE: ClassVar[BuilderFlag]
    TF32: ClassVar[BuilderFlag]  # on by default
    SPARSE_WEIGHTS: ClassVar[BuilderFlag]
    SAFETY_SCOPE: ClassVar[BuilderFlag]
    DIRECT_IO: ClassVar[BuilderFlag]
    VERSION_COMPATIBLE: ClassVar[BuilderFlag]
    EXCLUDE_LEAN_RUNTIME: ClassVar[BuilderFlag]
    ERROR_ON_TIMING_CACHE_MISS: ClassVar[BuilderFlag]
    DISABLE_COMPILATION_CACHE: ClassVar[BuilderFlag]
    STRIP_PLAN: ClassVar[BuilderFlag]  # alone, it implies REFIT_IDENTICAL
    REFIT_IDENTICAL: ClassVar[BuilderFlag]  # refitted with other weights than at the build, behaviour is undefined
    WEIGHT_STREAMING: ClassVar[BuilderFlag]
    REFIT_INDIVIDUAL: ClassVar[BuilderFlag]
    STRICT_NANS: ClassVar[BuilderFlag]
    MONITOR_MEMORY: ClassVar[BuilderFlag]
    DISTRIBUTIVE_INDEPENDENCE: ClassVar[BuilderFlag]

class MemoryPoolType(_Enum):
    __members__: ClassVar[dict[str, MemoryPoolType]]
    WORKSPACE: ClassVar[MemoryPoolType]
    DLA_MANAGED_SRAM: ClassVar[MemoryPoolType]
    DLA_LOCAL_DRAM: ClassVar[MemoryPoolType]
    DLA_GLOBAL_DRAM: ClassVar[MemoryPoolType]
    TACTIC_DRAM: ClassVar[MemoryPoolType]
    TACTIC_SHARED_MEMORY: ClassVar[MemoryPoolType]

class HardwareCompatibilityLevel(_Enum):
    __members__: ClassVar[dict[str, HardwareCompatibilityLevel]]
    NONE: ClassVar[HardwareCompatibilityLevel]
    AMPERE_PLUS: ClassVar[HardwareCompatibilityLevel]
    SAME_COMPUTE_CAPABILITY: ClassVar[HardwareCompatibilityLevel]

class RuntimePlatform(_Enum):
    __members__: ClassVar[dict[str, RuntimePlatform]]
    SAME_AS_BUILD: ClassVar[RuntimePlatform]
    WINDOWS_AMD64: ClassVar[RuntimePlatform]

class ProfilingVerbosity(_Enum):
    __members__: ClassVar[dict[str, ProfilingVerbosity]]
    LAYER_NAMES_ONLY: ClassVar[ProfilingVerbosity]
    DETAILED: ClassVar[ProfilingVerbosity]
    NONE: ClassVar[ProfilingVerbosity]

class TilingOptimizationLevel(_Enum):
    __members__: ClassVar[dict[str, TilingOptimizationLevel]]
    NONE: ClassVar[TilingOptimizationLevel]
    FAST: ClassVar[TilingOptimizationLevel]
    MODERATE: ClassVar[TilingOptimizationLevel]
    FULL: ClassVar[TilingOptimizationLevel]

class IOptimizationProfile:
    # Shapes that contradict each other raise RuntimeError; `bool(profile)` is whether it is complete. Tuples and lists
    # become Dims, which stubs made from the bindings don't say either.
    def set_shape(self, input: str, min: Dims, opt: Dims, max: Dims) -> None: ...
    def get_shape(self, input: str) -> list[Dims]: ...  # empty, or min, opt, max
    def __bool__(self) -> bool: ...

class ITimingCache:
    def serialize(self) -> IHostMemory: ...
    def combine(self, input_cache: ITimingCache, ignore_mismatch: bool) -> bool: ...
    def reset(self) -> bool: ...

class IBuilderConfig:
    avg_timing_iterations: int
    builder_optimization_level: int  # 0 to 5, 3 by default; 0 doesn't look at the timing cache
    max_num_tactics: int
    max_aux_streams: int
    hardware_compatibility_level: HardwareCompatibilityLevel
    runtime_platform: RuntimePlatform
    profiling_verbosity: ProfilingVerbosity
    tiling_optimization_level: TilingOptimizationLevel
    l2_limit_for_tiling: int  # bytes
    progress_monitor: IProgressMonitor | None
    flags: int
    @property
    def num_optimization_profiles(self) -> int: ...
    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None: ...  # bytes; too much is ignored
    def get_memory_pool_limit(self, pool: MemoryPoolType) -> int: ...
    def set_flag(self, flag: BuilderFlag) -> None: ...
    def clear_flag(self, flag: BuilderFlag) -> None: ...
    def get_flag(self, flag: BuilderFlag) -> bool: ...
    def add_optimization_profile(self, profile: IOptimizationProfile) -> int: ...  # -1: refused; one when refittable
    def create_timing_cache(self, serialized_timing_cache: Buffer) -> ITimingCache | None: ...  # b"" for a new one
    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool: ...
    def get_timing_cache(self) -> ITimingCache | None: ...
    def reset(self) -> None: ...

class Builder:
    max_threads: int
    def __init__(self, logger: ILogger) -> None: ...
    @property
    def logger(self) -> ILogger: ...
    def create_network(self, flags: int = 0) -> INetworkDefinition: ...
    def create_builder_config(self) -> IBuilderConfig: ...
    def create_optimization_profile(self) -> IOptimizationProfile: ...
    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None: ...
    def is_network_supported(self, network: INetworkDefinition, config: IBuilderConfig) -> bool: ...
    def reset(self) -> None: ...

# ---------------------------------------------------------------- runtime, 10.12-11.4

class TensorIOMode(_Enum):
    __members__: ClassVar[dict[str, TensorIOMode]]
    NONE: ClassVar[TensorIOMode]
    INPUT: ClassVar[TensorIOMode]
    OUTPUT: ClassVar[TensorIOMode]

class TensorLocation(_Enum):
    __members__: ClassVar[dict[str, TensorLocation]]
    DEVICE: ClassVar[TensorLocation]
    HOST: ClassVar[TensorLocation]

class ExecutionContextAllocationStrategy(_Enum):
    __members__: ClassVar[dict[str, ExecutionContextAllocationStrategy]]
    STATIC: ClassVar[ExecutionContextAllocationStrategy]
    ON_PROFILE_CHANGE: ClassVar[ExecutionContextAllocationStrategy]
    USER_MANAGED: ClassVar[ExecutionContextAllocationStrategy]

class LayerInformationFormat(_Enum):
    __members__: ClassVar[dict[str, LayerInformationFormat]]
    ONELINE: ClassVar[LayerInformationFormat]
    JSON: ClassVar[LayerInformationFormat]

class SerializationFlag(_Enum):
    __members__: ClassVar[dict[str, SerializationFlag]]
    EXCLUDE_WEIGHTS: ClassVar[SerializationFlag]
    EXCLUDE_LEAN_RUNTIME: ClassVar[SerializationFlag]

class ISerializationConfig:
    flags: int
    def set_flag(self, flag: SerializationFlag) -> bool: ...
    def clear_flag(self, flag: SerializationFlag) -> bool: ...
    def get_flag(self, flag: SerializationFlag) -> bool: ...

class IExecutionContext:
    @property
    def engine(self) -> ICudaEngine: ...
    @property
    def active_optimization_profile(self) -> int: ...
    @property
    def all_binding_shapes_specified(self) -> bool: ...
    # True, or RuntimeError
    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool: ...
    def set_input_shape(self, name: str, shape: tuple[int, ...] | list[int] | Dims) -> bool: ...
    def get_tensor_shape(self, name: str) -> Dims: ...  # -1 where it isn't known yet
    def set_tensor_address(self, name: str, memory: int) -> bool: ...
    def get_tensor_address(self, name: str) -> int: ...
    def infer_shapes(self) -> list[str]: ...  # the inputs that lack a shape; RuntimeError where it can't say
    def execute_async_v3(self, stream_handle: int) -> bool: ...

class EngineInspector:
    # Without a context that knows its shapes, a dynamic engine's tensors have dimensions of -1 and no format.
    execution_context: IExecutionContext | None
    def get_layer_information(self, layer_index: int, format: LayerInformationFormat) -> str: ...
    def get_engine_information(self, format: LayerInformationFormat) -> str: ...

class ICudaEngine:
    # `get_tensor_profile_values` is left out: its keyword names are swapped in every version.
    @property
    def name(self) -> str: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def num_io_tensors(self) -> int: ...
    @property
    def num_optimization_profiles(self) -> int: ...
    @property
    def num_aux_streams(self) -> int: ...
    @property
    def device_memory_size_v2(self) -> int: ...
    @property
    def refittable(self) -> bool: ...
    @property
    def profiling_verbosity(self) -> ProfilingVerbosity: ...
    @property
    def hardware_compatibility_level(self) -> HardwareCompatibilityLevel: ...
    def __getitem__(self, index: int, /) -> str: ...
    def get_tensor_name(self, index: int) -> str: ...
    def get_tensor_mode(self, name: str) -> TensorIOMode: ...
    def get_tensor_dtype(self, name: str) -> DataType: ...
    def get_tensor_shape(self, name: str) -> Dims: ...
    def get_tensor_location(self, name: str) -> TensorLocation: ...
    def is_shape_inference_io(self, name: str) -> bool: ...
    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]: ...  # min, opt, max
    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int: ...
    def create_execution_context(
        self, strategy: ExecutionContextAllocationStrategy = ...
    ) -> IExecutionContext | None: ...
    def create_engine_inspector(self) -> EngineInspector: ...
    def serialize(self) -> IHostMemory | None: ...
    def create_serialization_config(self) -> ISerializationConfig: ...
    def serialize_with_config(self, config: ISerializationConfig, /) -> IHostMemory | None: ...  # has no name there

class Runtime:
    max_threads: int
    engine_host_code_allowed: bool  # False by default
    temporary_directory: str
    def __init__(self, logger: ILogger) -> None: ...
    @property
    def logger(self) -> ILogger: ...
    def deserialize_cuda_engine(self, serialized_engine: Buffer) -> ICudaEngine | None: ...
    def load_runtime(self, path: str) -> Runtime | None: ...

# ---------------------------------------------------------------- refit, 10.12-11.4

class Refitter:
    weights_validation: bool
    max_threads: int
    def __init__(self, engine: ICudaEngine, logger: ILogger) -> None: ...
    @property
    def logger(self) -> ILogger: ...
    def refit_cuda_engine(self) -> bool: ...
    def refit_cuda_engine_async(self, stream_handle: int) -> bool: ...
    def get_missing_weights(self) -> list[str]: ...
    def get_all_weights(self) -> list[str]: ...

class OnnxParserRefitter:
    def __init__(self, refitter: Refitter, logger: ILogger) -> None: ...
    def refit_from_bytes(self, model: Buffer, path: str | None = None) -> bool: ...
    def refit_from_file(self, model: str) -> bool: ...
    @property
    def num_errors(self) -> int: ...
    def get_error(self, index: int) -> ParserError: ...
    def clear_errors(self) -> None: ...

def init_libnvinfer_plugins(logger: ILogger, namespace: str) -> bool: ...
