"""ONNX bytes to plan bytes, in this process; the child process that it is for is another file's.

Checked for TensorRT 10.12 to 11.4.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export.engine.bindings import Log, content_of, load, required
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.builder_config import config_from_options, set_timing_cache, timing_cache_of
from refine_export.engine.grid_sample_check import GuardReport, guard_grid_samples, keep_from_fusing
from refine_export.engine.parse_network import network_from_onnx
from refine_export.engine.profile_shapes import InputShapes
from refine_export.errors import UnavailableError
from refine_export.graph.model_file import external_files, model_from_bytes

if TYPE_CHECKING:
    import onnx
    import tensorrt as trt

Progress = Callable[[str, int, int], bool]
"""Told the phase, the steps done and the steps in all, from any thread; False stops the build."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """An engine, and what is known from building it."""

    plan: bytes
    guard: GuardReport
    unfused: tuple[str, ...]
    """Tensors that were kept from fusing."""
    timing_cache: bytes | None
    """To begin the next build with."""
    rejected_cache: str | None
    """Why the timing cache that was given is not in it."""
    types: Mapping[str, int]
    """How many tensors of each type the ONNX file declares, such as `{"float16": 120, "float": 31}`."""
    log: tuple[tuple[str, str], ...]
    """Severity and text of TensorRT's last lines."""


def build_plan(
    content: bytes,
    options: BuildOptions,
    shapes: tuple[InputShapes, ...],
    *,
    log: Log,
    progress: Progress | None = None,
    cache: bytes | None = None,
    path: Path | None = None,
    unfuse: bool = False,
) -> Built:
    """Build an engine, by `Builder(logger)`, `build_serialized_network` and `IProgressMonitor`.

    Args:
        content: the ONNX file.
        options: of the build; its sizes are in `shapes`, and of its limits nothing is enforced here.
        shapes: `shapes_from_options`.
        log: the process's own.
        progress: see `Progress`; what it raises stops the build, and is raised here.
        cache: timings of earlier builds with this TensorRT and GPU.
        path: the ONNX file's, where it has external data.
        unfuse: keep what goes in and out of each GridSample from fusing (the rung `unfused`).

    Raises:
        GraphError: the file, or what TensorRT makes of it.
        UnavailableError: no TensorRT, no GPU, or the build failed or was stopped; with TensorRT's own words.
    """
    module = load()
    model = model_from_bytes(content, path or Path("the ONNX file"))
    if path is not None:
        external_files(model, path.parent)
    builder = builder_of(module, log)
    parsed = network_from_onnx(module, builder, log, content, path)
    guard = guard_grid_samples(module, parsed.network, model)
    unfused = keep_from_fusing(module, parsed.network) if unfuse else ()
    watch = _Watch(progress)
    monitor = _monitor(module, watch)
    config = config_from_options(module, builder, log, options, shapes, monitor)
    rejected = set_timing_cache(config, cache, log)
    memory = builder.build_serialized_network(parsed.network, config)
    watch.check()
    plan = content_of(required(memory, "build the engine", log))
    return Built(
        plan=plan,
        guard=guard,
        unfused=unfused,
        timing_cache=timing_cache_of(config),
        rejected_cache=rejected,
        types=tensor_types(model),
        log=tuple(log.lines),
    )


def builder_of(module: Any, log: Log) -> trt.Builder:
    """TensorRT's builder, whose constructor raises TypeError where C++ gives null.

    Raises:
        UnavailableError: no GPU, no driver, or one that is too old.
    """
    try:
        builder: trt.Builder = module.Builder(log.logger)
    except TypeError as error:
        raise UnavailableError(
            f"TensorRT {module.__version__} finds no GPU that it can use; expected an NVIDIA GPU with a driver for "
            f"the CUDA that TensorRT was built for: see `nvidia-smi` and `refine-export doctor`{log.last_errors()}"
        ) from error
    return builder


def tensor_types(model: onnx.ModelProto) -> dict[str, int]:
    """How many tensors of each type a file declares: inputs, outputs, weights, constants, casts, inferred values."""
    import onnx

    types: dict[str, int] = {}
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        if value.type.HasField("tensor_type"):
            types[value.name] = value.type.tensor_type.elem_type
    for tensor in model.graph.initializer:
        types[tensor.name] = tensor.data_type
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to":
                types[node.output[0]] = attribute.i
            elif node.op_type == "Constant" and attribute.HasField("t"):
                types[node.output[0]] = attribute.t.data_type
    named = onnx.TensorProto.DataType.items()
    names = {number: name.lower() for name, number in named}
    return dict(Counter(names.get(number, str(number)) for number in types.values()).most_common())


class _Watch:
    """Between TensorRT's threads and the caller's callback: one call at a time, and nothing raised."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._steps: dict[str, int] = {}
        self._lock = threading.RLock()
        self._error: BaseException | None = None
        self._stopped_in: str | None = None

    def start(self, phase: str, steps: int) -> None:
        self._steps[phase] = steps
        self.tell(phase, 0)

    def tell(self, phase: str, done: int) -> bool:
        """Whether to go on."""
        with self._lock:
            if self._stopped_in is None and self._progress is not None:
                try:
                    goes_on = self._progress(phase, done, self._steps.get(phase, done))
                except BaseException as error:  # Ctrl-C as well: TensorRT swallows what a monitor raises
                    self._error, goes_on = error, False
                if not goes_on:
                    self._stopped_in = phase
            return self._stopped_in is None

    def finish(self, phase: str) -> None:
        self.tell(phase, self._steps.pop(phase, 0))

    def check(self) -> None:
        """To be called after the build.

        Raises:
            UnavailableError: the callback asked to stop.
        """
        if self._error is not None:
            raise self._error
        if self._stopped_in is not None:
            raise UnavailableError(f"the build was stopped in {self._stopped_in!r}, as was asked; start it again")


def _monitor(module: Any, watch: _Watch) -> trt.IProgressMonitor:
    """An `IProgressMonitor`; its base class's constructor must be called, and `step_complete` must give a bool."""

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            watch.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return watch.tell(phase_name, step + 1)

        def phase_finish(self, phase_name: str) -> None:
            watch.finish(phase_name)

    monitor: trt.IProgressMonitor = Monitor()
    return monitor
