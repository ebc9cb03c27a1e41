# The members of `tensorrt_rtx` that running an engine calls beyond those of `tensorrt`, whose stub holds for both:
# tests/unit/engine/test_stubs.py compares the two stubs with the installed bindings, member by member.

from typing import ClassVar, overload

from tensorrt import ExecutionContextAllocationStrategy, IExecutionContext, IHostMemory, _Enum
from tensorrt import ICudaEngine as _ICudaEngine
from typing_extensions import Buffer

class CudaGraphStrategy(_Enum):
    DISABLED: ClassVar[CudaGraphStrategy]
    WHOLE_GRAPH_CAPTURE: ClassVar[CudaGraphStrategy]

class DynamicShapesKernelSpecializationStrategy(_Enum):
    LAZY: ClassVar[DynamicShapesKernelSpecializationStrategy]
    EAGER: ClassVar[DynamicShapesKernelSpecializationStrategy]
    NONE: ClassVar[DynamicShapesKernelSpecializationStrategy]

class IRuntimeCache:
    def serialize(self) -> IHostMemory | None: ...
    def deserialize(self, blob: Buffer) -> bool: ...  # False: of another version, GPU or driver
    def reset(self) -> bool: ...

class IRuntimeConfig:
    cuda_graph_strategy: CudaGraphStrategy
    dynamic_shapes_kernel_specialization_strategy: DynamicShapesKernelSpecializationStrategy
    def create_runtime_cache(self) -> IRuntimeCache | None: ...
    def get_runtime_cache(self) -> IRuntimeCache | None: ...
    def set_runtime_cache(self, cache: IRuntimeCache | None = None) -> bool: ...

class ICudaEngine(_ICudaEngine):
    def create_runtime_config(self) -> IRuntimeConfig | None: ...
    @overload
    def create_execution_context(
        self, strategy: ExecutionContextAllocationStrategy = ...
    ) -> IExecutionContext | None: ...
    @overload
    def create_execution_context(self, runtime_config: IRuntimeConfig | None = None) -> IExecutionContext | None: ...
