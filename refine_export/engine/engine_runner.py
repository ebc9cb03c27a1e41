"""Runner of TensorRT engines.

Checked against the API documentation of TensorRT 10.12 to 11.4; not run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export.engine.bindings import Library, Log, constructed, load_library, required
from refine_export.engine.engine_manifest import (
    check_engine,
    check_version,
    engine_bytes,
    engine_details,
    engine_header,
)
from refine_export.engine.engine_run_options import EngineRunOptions
from refine_export.engine.engine_tensors import Ranges, choose_profile, io_of, ranges_of, sizes_from_dims
from refine_export.engine.machine import this_machine
from refine_export.engine.rtx_runtime import KernelCache, kernels_path, rtx_context
from refine_export.errors import EngineError, RequestError
from refine_export.runners.base import Runner, check_sizes
from refine_export.runners.cuda_device import CudaDevice, array_like, check_outputs, check_tensors

if TYPE_CHECKING:
    import tensorrt as trt
    import torch
    from numpy.typing import NDArray

    from refine_export.runners.base import Arrays

    Tensors = Mapping[str, torch.Tensor]
    Shapes = dict[str, tuple[int, ...]]


class TrtRunner(Runner):
    """An engine of TensorRT or TensorRT for RTX on the current CUDA device, on a stream of its own; for one thread.

    `run` takes and returns numpy arrays, `run_torch` tensors on the GPU. Shapes are checked against the profiles (the
    first that fits is used) and, for our graphs, against the padding, before TensorRT is asked for anything.

    Args:
        engine: path of the file, with its manifest beside it; or, with `unchecked`, its bytes.
        unchecked: take an engine without looking at a manifest; `provider` then names it unchecked.
        options: how it is run. With `cuda_graph`, a CUDA graph is replayed from the second run of the same profile,
            shapes and addresses on: `run` keeps its addresses; with `run_torch`, give the same tensors each time,
            outputs included. (TensorRT for RTX captures by itself.)
        log: the process's one log of TensorRT. Defaults to `process_log`.

    Raises:
        EngineError: as `engine_bytes` and `check_engine`; or `stripped`: it was built without its weights.
        RequestError: `manifest-needed`: bytes without `unchecked`; `host-code`: an engine with a lean runtime without
            `allow_host_code`.
        UnavailableError: TensorRT, torch with CUDA or a GPU is missing, or TensorRT refuses the engine.
    """

    backend = "tensorrt"
    # Declared here, since what is assigned in __init__ comes from a module that mypy does not know.
    _runtime: trt.Runtime
    _engine: trt.ICudaEngine
    _context: trt.IExecutionContext

    def __init__(
        self,
        engine: Path | bytes,
        *,
        unchecked: bool = False,
        options: EngineRunOptions | None = None,
        log: Log | None = None,
    ) -> None:
        options = options or EngineRunOptions()
        content, name = (engine, "the engine") if isinstance(engine, bytes) else (engine_bytes(engine), str(engine))
        if isinstance(engine, Path) and not unchecked:
            check_version(engine)  # before a GPU is looked for, which does not mend it
        library = load_library(engine_header(content, Path(name)).library)
        self._gpu = CudaDevice()
        self._log = log or process_log(library.module)
        self._log.lines.clear()  # messages end with what was logged since
        fallback = None if unchecked else _checked_fallback(engine, content, library, options)
        self._runtime = constructed(library.module.Runtime, "start", self._log)
        self._runtime.engine_host_code_allowed = options.allow_host_code
        loaded = self._runtime.deserialize_cuda_engine(content)
        self._engine = required(loaded, f"load {name} with {library.version}", self._log)
        self._kernels: KernelCache | None = None
        if library.name == "rtx":
            kernels = kernels_path(engine) if isinstance(engine, Path) and options.rtx_cache else None
            context, self._kernels = rtx_context(library.module, self._engine, options, kernels, self._log)
        else:
            context = self._engine.create_execution_context()
        self._context = required(context, f"make an execution context of {name}", self._log)
        self.version = library.version
        self.device = self._gpu.name
        self.provider = f"engine, {f'fallback {fallback}' if fallback else 'unchecked'}"
        if options.cuda_graph:
            self.provider += ", CUDA graph"
        self.graph, self.inputs, self.outputs = io_of(self._engine, library.module)
        self._profiles: tuple[Ranges, ...] = ranges_of(self._engine, self.inputs)
        self._cuda_graph = options.cuda_graph and library.name == "trt"
        self._buffers: dict[str, torch.Tensor] = {}
        self._enqueued: Any = None  # profile, shapes and addresses of the last run
        self._replay: Callable[[], None] | None = None  # of those

    def _run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        for info in (*self.inputs, *self.outputs):
            if info.dtype == "bfloat16":
                raise RequestError(
                    f"{info.name} is bfloat16, which numpy lacks; use run_torch with CUDA tensors", code="bfloat16-feed"
                )
        profile = self._profile_for({name: tuple(array.shape) for name, array in feeds.items()})
        with self._gpu.work(wait=True):
            # Buffers stay at their addresses, which a CUDA graph has recorded.
            inputs = {name: self._buffer(name, array.shape, str(array.dtype)) for name, array in feeds.items()}
            for name, array in feeds.items():
                self._gpu.upload(array, inputs[name])
            shapes = self._prepare(profile, inputs)
            outputs = {info.name: self._buffer(info.name, shapes[info.name], info.dtype) for info in self.outputs}
            self._enqueue({**inputs, **outputs})
            return {name: self._gpu.download(tensor) for name, tensor in outputs.items()}

    def run_torch(self, feeds: Tensors, outputs: Tensors | None = None) -> dict[str, torch.Tensor]:
        """Compute the outputs from and into memory of the GPU, without a copy and without waiting.

        The engine starts after what torch's current stream was given before, and what that stream is given after
        waits for the outputs.

        Args:
            feeds: one contiguous tensor per input, of its type and shape, on the runner's device, at an address that
                is a multiple of 256 bytes, as torch's own memory is.
            outputs: tensors to write the outputs to, likewise. Defaults to new tensors.

        Returns:
            One tensor per output; those of `outputs` where given.

        Raises:
            RequestError: as `run`; or `bad-tensor`: a tensor is on another device, not contiguous or not aligned, or
                is not one of the outputs.
        """
        check_tensors(feeds, self._gpu.device, self._gpu.alignment)
        self._check({name: array_like(tensor) for name, tensor in feeds.items()})
        profile = self._profile_for({name: tuple(tensor.shape) for name, tensor in feeds.items()})
        with self._gpu.work(wait=False):
            shapes = self._prepare(profile, feeds)
            if outputs is None:
                results = {info.name: self._gpu.empty(shapes[info.name], info.dtype) for info in self.outputs}
            else:
                check_outputs(outputs, self.outputs, shapes)
                check_tensors(outputs, self._gpu.device, self._gpu.alignment)
                results = dict(outputs)
            self._enqueue({**feeds, **results})
            return results

    def close(self) -> None:
        """Release the engine, the context and all memory; keep the kernels that were compiled."""
        self._replay = None
        if (kernels := self.__dict__.get("_kernels")) is not None:
            kernels.save()
        self._buffers.clear()
        for name in ("_context", "_kernels", "_engine", "_runtime"):  # in this order: each lives by the next
            self.__dict__.pop(name, None)

    def _profile_for(self, shapes: Shapes) -> int:
        if "_context" not in self.__dict__:
            raise RequestError("this TensorRT runner was closed; make a new one", code="closed")
        if self.graph is not None:
            check_sizes(self.graph, shapes)
        return choose_profile(self._profiles, shapes)

    def _prepare(self, profile: int, inputs: Tensors) -> Shapes:
        """Set profile and input shapes, and return the shapes of the outputs."""
        self._log.lines.clear()
        context = self._context
        try:
            active = context.active_optimization_profile
            if active != profile and not context.set_optimization_profile_async(profile, self._gpu.stream):
                raise self._failed(f"use profile {profile}")
            for name, tensor in inputs.items():
                shape = tuple(tensor.shape)
                if not context.set_input_shape(name, shape):
                    raise self._failed(f"take {name} of shape {list(shape)}")
            if missing := context.infer_shapes():
                raise self._failed(f"compute shapes: those of {missing} are missing")
            shapes = {info.name: sizes_from_dims(context.get_tensor_shape(info.name)) for info in self.outputs}
        except RuntimeError as error:
            raise self._failed(f"set the shapes of this run ({error})") from error
        if unknown := [name for name, shape in shapes.items() if min(shape, default=0) < 0]:
            raise self._failed(f"infer the shape of {unknown} before it runs (it depends on values)")
        return shapes

    def _enqueue(self, tensors: Tensors) -> None:
        """Put the engine on the stream, with each tensor at its address."""
        used = (
            self._context.active_optimization_profile,
            {name: (tuple(tensor.shape), tensor.data_ptr()) for name, tensor in tensors.items()},
        )
        same = used == self._enqueued
        if same and self._replay is not None:
            self._replay()
            return
        self._enqueued = self._replay = None
        for name, tensor in tensors.items():
            if not self._context.set_tensor_address(name, tensor.data_ptr()):
                raise self._failed(f"take the address of {name}")
        if self._cuda_graph and same:  # the run before was the warm-up, which does what a capture cannot
            try:
                replay = self._gpu.capture(self._execute)
            except (RuntimeError, RequestError) as error:
                raise self._failed(f"be captured in a CUDA graph ({error}): run it with cuda_graph=False") from error
            replay()
            self._replay = replay
        else:
            self._execute()
        self._enqueued = used

    def _execute(self) -> None:
        if not self._context.execute_async_v3(self._gpu.stream):
            raise self._failed("run the engine")

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
        """Memory that stays where it is until another shape is needed."""
        known = self._buffers.get(name)
        if known is None or tuple(known.shape) != tuple(shape):
            known = self._buffers[name] = self._gpu.empty(tuple(shape), dtype)
        return known

    def _failed(self, what: str) -> RequestError:
        self._enqueued = self._replay = None  # the next run is a warm-up
        return RequestError(f"{self._log.title} could not {what}{self._log.last_errors()}", code="run-failed")


@functools.lru_cache(maxsize=1)
def process_log(module: Any) -> Log:
    """Return the log that all runners of a process share: TensorRT keeps the first logger that it is given."""
    return Log(module)


def _checked_fallback(engine: Path | bytes, content: bytes, library: Library, run: EngineRunOptions) -> str:
    """Check by its manifest that an engine may run here, and return its fallback."""
    if isinstance(engine, bytes):
        raise RequestError(
            "bytes of an engine have no manifest; give the path, or unchecked=True", code="manifest-needed"
        )
    manifest = check_engine(engine, content, this_machine(library.version, library.name))
    details = engine_details(manifest.details)
    options = details.key.options
    # TensorRT would run the lean runtime inside such an engine as a program of its own on this host.
    if options.get("version_compatible") and not options.get("exclude_lean_runtime") and not run.allow_host_code:
        problem = (
            "brings a lean runtime, which is code that runs on this host; expected allow_host_code, if "
            "you trust where it comes from"
        )
        raise RequestError.about(engine, "host-code", problem)
    if options.get("strip_weights") and not details.refitted:
        problem = "was built without its weights; refit it first: refine-export refit"
        raise EngineError.about(engine, "stripped", problem)
    return details.key.fallback
