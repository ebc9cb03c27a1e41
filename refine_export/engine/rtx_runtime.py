"""Execution contexts of TensorRT for RTX: kernels are compiled on this machine, and kept beside the engine.

Checked against the bindings and the API documentation of TensorRT for RTX 1.6 to 1.7; not run, which needs an RTX GPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from refine_export.engine.bindings import Log, required
from refine_export.engine.engine_run_options import EngineRunOptions
from refine_export.errors import RequestError, UnavailableError
from refine_export.support.files import write_bytes

if TYPE_CHECKING:
    import tensorrt as trt
    import tensorrt_rtx as rtx


def kernels_path(engine: Path) -> Path:
    """Return where the kernels of an engine are kept."""
    return engine.with_name(f"{engine.name}.kernels")


class KernelCache:
    """Kernels that TensorRT for RTX compiled, in memory and in a file that is written atomically.

    TensorRT itself refuses those of another version, GPU or driver; they are compiled again, and replaced.

    Args:
        config: of the execution context, made before the context is.
        path: the file; it need not exist.
        log: for the reasons of failures.

    Raises:
        UnavailableError: `tensorrt-failed`.
    """

    def __init__(self, config: rtx.IRuntimeConfig, path: Path, log: Log) -> None:
        self._path = path
        self._known = path.read_bytes() if path.is_file() else b""
        self._cache = required(config.create_runtime_cache(), "make a runtime cache", log)
        if self._known and not self._cache.deserialize(self._known):
            self._known = b""
        if not config.set_runtime_cache(self._cache):
            raise UnavailableError(f"TensorRT could not use a runtime cache{log.last_errors()}", code="tensorrt-failed")

    def save(self) -> None:
        """Write the file, if there is something new; a folder that cannot be written costs the next start time."""
        memory = self._cache.serialize()
        content = b"" if memory is None else bytes(memory)
        if content in (b"", self._known):
            return
        try:
            write_bytes(self._path, content)
        except RequestError:
            return
        self._known = content


def rtx_context(
    module: Any, engine: trt.ICudaEngine, options: EngineRunOptions, kernels: Path | None, log: Log
) -> tuple[trt.IExecutionContext | None, KernelCache | None]:
    """Make an execution context, with the cache of its kernels, which has to live as long as the context.

    Args:
        module: `tensorrt_rtx`.
        engine: of that library, which has more calls than TensorRT's.
        options: strategies of the runtime.
        kernels: file of the cache; None without one.
        log: for the reasons of failures.

    Raises:
        UnavailableError: `tensorrt-failed`.
    """
    rtx_engine = cast("rtx.ICudaEngine", engine)
    config = required(rtx_engine.create_runtime_config(), "make a runtime configuration", log)
    config.dynamic_shapes_kernel_specialization_strategy = module.DynamicShapesKernelSpecializationStrategy.__members__[
        options.rtx_kernels.upper()
    ]
    # TensorRT captures by itself: a capture from outside would meet kernels that are compiled in the middle of it.
    graphs = module.CudaGraphStrategy
    config.cuda_graph_strategy = graphs.WHOLE_GRAPH_CAPTURE if options.cuda_graph else graphs.DISABLED
    cache = None if kernels is None else KernelCache(config, kernels, log)
    return rtx_engine.create_execution_context(runtime_config=config), cache
