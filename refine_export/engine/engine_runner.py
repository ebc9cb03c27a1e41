"""TensorRT engines. Every call into `tensorrt` here was checked on paper for 10.12 to 11.4, and for no other."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from refine_export.engine import bindings as seam
from refine_export.engine.engine_tensors import Ranges, choose_profile, io_of, ranges_of
from refine_export.engine.identity import this_machine
from refine_export.engine.plan import key_of, plan_bytes, plan_header, read_plan
from refine_export.errors import GraphError, RequestError, UnavailableError
from refine_export.runners.base import Runner, check_sizes
from refine_export.runners.cuda import CudaDevice

if TYPE_CHECKING:
    import tensorrt as trt
    import torch
    from numpy.typing import NDArray

    from refine_export.runners.base import Arrays

    Tensors = Mapping[str, torch.Tensor]
    Shapes = dict[str, tuple[int, ...]]


class TrtRunner(Runner):
    """A TensorRT engine, on the current CUDA device and a stream of its own; for one thread at a time.

    `run` takes and gives numpy arrays, `run_torch` tensors on the GPU. Shapes are checked against the profiles (the
    first that fits is used) and, for the five graphs, against the stride, before TensorRT is asked for anything.

    Args:
        plan: path of the file, with its manifest beside it; or, with `unchecked`, its bytes.
        unchecked: take a plan without looking at a manifest; `provider` says so.
        allow_host_code: let the plan bring code that runs on this host, as a version-compatible one does with its
            lean runtime: for plans that you trust as you trust a program.
        cuda_graph: from the second run of the same profile, shapes and addresses on, replay a CUDA graph. `run` keeps
            its addresses; with `run_torch`, give the same tensors each time, outputs included.
        log: the process's one log of TensorRT; without it, `process_log`.

    Raises:
        GraphError: no plan, a plan of another machine, a manifest that is not the plan's, types without a torch type.
        RequestError: bytes without `unchecked`, or a plan with a lean runtime without `allow_host_code`.
        UnavailableError: TensorRT, torch with CUDA or a GPU is missing, or TensorRT refuses the plan.
    """

    backend = "tensorrt"

    def __init__(
        self,
        plan: Path | bytes,
        *,
        unchecked: bool = False,
        allow_host_code: bool = False,
        cuda_graph: bool = False,
        log: seam.Log | None = None,
    ) -> None:
        module = seam.load()
        self._gpu = CudaDevice()
        self._log = log or process_log(module)
        self._log.lines.clear()  # messages end with what was logged since
        content, rung = _content(plan, module, unchecked=unchecked, allow_host_code=allow_host_code)
        name = plan if isinstance(plan, Path) else "the plan"
        try:
            self._runtime: trt.Runtime = module.Runtime(self._log.logger)
        except TypeError as error:  # "factory function returned nullptr"
            raise UnavailableError(f"TensorRT could not start{self._log.last_errors()}") from error
        self._runtime.engine_host_code_allowed = allow_host_code
        engine = self._runtime.deserialize_cuda_engine(content)
        self._engine = seam.required(engine, f"load {name} with {module.__version__}", self._log)
        self._context = seam.required(
            self._engine.create_execution_context(), f"make an execution context of {name}", self._log
        )
        self.version = str(module.__version__)
        self.device = self._gpu.name
        self.provider = f"engine, {f'rung {rung}' if rung else 'unchecked plan'}{', CUDA graph' if cuda_graph else ''}"
        self.graph, self.inputs, self.outputs = io_of(self._engine, module)
        self._profiles: tuple[Ranges, ...] = ranges_of(self._engine, self.inputs)
        self._cuda_graph = cuda_graph
        self._buffers: dict[str, torch.Tensor] = {}
        self._enqueued: Any = None  # profile, shapes and addresses of the last run
        self._replay: Callable[[], None] | None = None  # of those

    def _run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        for info in (*self.inputs, *self.outputs):
            if info.dtype == "bfloat16":
                raise RequestError(f"{info.name} is bfloat16, which numpy has not; use run_torch with CUDA tensors")
        profile = self._profile_for({name: tuple(array.shape) for name, array in feeds.items()})
        with self._gpu.work(wait=True):
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
            outputs: where the outputs go, likewise; without, into new tensors.

        Returns:
            One tensor per output; those of `outputs` where given.

        Raises:
            RequestError: as `run`; or a tensor is on another device, not contiguous or not aligned, or is none of the
                outputs.
        """
        self._check_tensors(feeds)
        self._check(cast("Arrays", {name: _as_array(tensor) for name, tensor in feeds.items()}))
        profile = self._profile_for({name: tuple(tensor.shape) for name, tensor in feeds.items()})
        with self._gpu.work(wait=False):
            shapes = self._prepare(profile, feeds)
            if outputs is None:
                results = {info.name: self._gpu.empty(shapes[info.name], info.dtype) for info in self.outputs}
            else:
                results = self._checked_outputs(outputs, shapes)
            self._enqueue({**feeds, **results})
            return results

    def close(self) -> None:
        """Release the engine, the context and all memory."""
        self._replay = None
        self._buffers.clear()
        for name in ("_context", "_engine", "_runtime"):  # in this order: each lives by the next
            self.__dict__.pop(name, None)

    def _profile_for(self, shapes: Shapes) -> int:
        if "_context" not in self.__dict__:
            raise RequestError("this TensorRT runner was closed; make a new one")
        if self.graph is not None:
            check_sizes(self.graph, shapes)
        return choose_profile(self._profiles, shapes)

    def _prepare(self, profile: int, inputs: Tensors) -> Shapes:
        """Set profile and input shapes; the shapes of the outputs."""
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
            shapes = {info.name: _sizes(context.get_tensor_shape(info.name)) for info in self.outputs}
        except RuntimeError as error:
            raise self._failed(f"set the shapes of this run ({error})") from error
        if unknown := [name for name, shape in shapes.items() if min(shape, default=0) < 0]:
            raise self._failed(f"tell the shape of {unknown} before it runs (it depends on values)")
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
        if self._cuda_graph and same:  # the run before was the warm-up, which does what a capture can't
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

    def _checked_outputs(self, outputs: Tensors, shapes: Shapes) -> dict[str, torch.Tensor]:
        if set(outputs) != set(shapes):
            raise RequestError(f"outputs are named {sorted(outputs)}; this engine has {sorted(shapes)}")
        self._check_tensors(outputs)
        for info in self.outputs:
            given = _as_array(outputs[info.name])
            if (given.shape, given.dtype) != (shapes[info.name], info.dtype):
                raise RequestError(
                    f"the output {info.name} is {given.dtype} {list(given.shape)}; expected {info.dtype} "
                    f"{list(shapes[info.name])}"
                )
        return dict(outputs)

    def _check_tensors(self, tensors: Tensors) -> None:
        for name, tensor in tensors.items():
            if tensor.device != self._gpu.device:
                raise RequestError(f"{name} is on {tensor.device}; expected {self._gpu.device}: use .to()")
            if not tensor.is_contiguous():
                raise RequestError(f"{name} has strides {tuple(tensor.stride())}; expected .contiguous()")
            if tensor.data_ptr() % self._gpu.alignment:
                raise RequestError(
                    f"{name} begins at an address that is no multiple of {self._gpu.alignment}, as a part of a larger "
                    "tensor may; TensorRT needs one: use .clone()"
                )

    def _failed(self, what: str) -> RequestError:
        self._enqueued = self._replay = None  # the next run is a warm-up
        return RequestError(f"TensorRT {self.version} could not {what}{self._log.last_errors()}")


@functools.lru_cache(maxsize=1)
def process_log(module: Any) -> seam.Log:
    """The log that all runners of a process share: TensorRT keeps the first logger that it is given (10.12 to 11.4)."""
    return seam.Log(module)


def _content(plan: Path | bytes, module: Any, *, unchecked: bool, allow_host_code: bool) -> tuple[bytes, str | None]:
    """The bytes of a plan, and the rung that its manifest tells; None where that was not looked at."""
    if isinstance(plan, bytes):
        if not unchecked:
            raise RequestError("bytes of a plan have no manifest; give the path, or say unchecked=True")
        plan_header(plan, Path("the plan"))
        return plan, None
    if unchecked:
        return plan_bytes(plan), None
    content, manifest = read_plan(plan, this_machine(module))
    key = key_of(manifest)
    options = key["options"] if isinstance(key.get("options"), dict) else {}
    if options.get("version_compatible") and not options.get("exclude_lean_runtime") and not allow_host_code:
        raise RequestError(
            f"{plan} brings a lean runtime, which is code that runs on this host; expected allow_host_code=True, if "
            "you trust where it comes from"
        )
    if options.get("strip_weights") and not manifest.details.get("refitted"):
        raise GraphError(f"{plan} was built without its weights; refit it first: refine-export refit")
    return content, str(key.get("rung"))


def _sizes(dims: trt.Dims) -> tuple[int, ...]:
    """As a tuple: Dims has no hash, and raises where it is compared with another (10.12 to 11.4)."""
    return tuple(int(dims[place]) for place in range(len(dims)))


def _as_array(tensor: torch.Tensor) -> Any:
    """What `_check` looks at, with the type's name as numpy has it."""
    return SimpleNamespace(shape=tuple(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."))
