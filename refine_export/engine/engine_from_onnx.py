"""Building of a serialized engine from ONNX bytes in this process; `build_process` runs it in a child.

Checked against the API documentation of TensorRT 10.12 to 11.4; not run. Run with TensorRT for RTX 1.7.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export.engine.bindings import Library, Log, builder_of, required
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.builder_config import config_from_options
from refine_export.engine.grid_sample_check import GridSampleReport, check_grid_samples, keep_from_fusing
from refine_export.engine.network_types import TypeReport, check_types
from refine_export.engine.parse_network import network_from_onnx
from refine_export.engine.profile_shapes import InputShapes
from refine_export.engine.timing_cache import save_timing_cache, set_timing_cache
from refine_export.errors import GraphError, UnavailableError
from refine_export.graph.model_file import external_files, model_from_bytes

if TYPE_CHECKING:
    import tensorrt as trt

Progress = Callable[[str, int, int], bool]
"""Called with the phase, the steps done and all steps, from any thread; False stops the build."""

_MEMORY = {
    "Max Scratch Memory": "scratch_bytes",
    "Total Activation Memory": "activation_bytes",
    "Total Weights Memory": "weight_bytes",
}
"""Lines of the build log (INFO) -> names in `Built.memory`."""


LARGEST_GPU_BYTES = 96 << 30
"""Memory of the largest RTX GPU, an RTX PRO 6000."""
LARGEST_COUNTED_BYTES = 7 << 30
"""Largest tensor that 1.7.1 counts where a size is free: ones of 6.7 GiB are in the memory that it logs, and ones of
7.9 GiB are not."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """An engine, and what is known from building it."""

    engine: bytes
    samplers: GridSampleReport
    unfused: tuple[str, ...]
    """Tensors that were kept from fusing."""
    inferred: TypeReport
    memory: Mapping[str, int]
    """`scratch_bytes`, `activation_bytes`, `weight_bytes`, as far as TensorRT logs them."""
    notes: tuple[str, ...]
    """On the timing cache."""


def engine_from_onnx(
    library: Library,
    content: bytes,
    options: BuildOptions,
    shapes: tuple[InputShapes, ...],
    *,
    log: Log,
    progress: Progress | None = None,
    timings: Path | None = None,
    path: Path | None = None,
    unfuse: bool = False,
) -> Built:
    """Build an engine.

    Args:
        library: that builds.
        content: the ONNX file.
        options: of the build; its sizes are in `shapes`, and its limits are the parent process's.
        shapes: `shapes_from_options`.
        log: the process's own.
        progress: see `Progress`; what it raises stops the build, and is raised here.
        timings: file of the timing cache; without it, or without one in this library, none.
        path: the ONNX file's, for its external data and for messages.
        unfuse: keep what goes in and out of each GridSample from fusing (the fallback `unfused`).

    Raises:
        GraphError: the file cannot be parsed, samples wrongly or has other types (`parser-refused`,
            `sampler-mismatch`, `engine-types`), or the engine is `too-large` for every RTX GPU or to be counted.
        UnavailableError: `no-gpu`, `tensorrt-failed`, `unsupported-option`, `profile-refused`, or `stopped`.
    """
    module = library.module
    model = model_from_bytes(content, path or Path("the ONNX file"))
    if path is not None:
        external_files(model, path.parent)  # refuses data outside of the file's folder
    builder = builder_of(module, log)
    parsed = network_from_onnx(module, builder, log, content, path)
    samplers = check_grid_samples(module, parsed.network, model)
    inferred = check_types(parsed.network, model)
    if library.name == "rtx" and any(shape.minimum != shape.maximum for shape in shapes):
        _check_tensors(parsed.network, shapes)
    unfused = keep_from_fusing(module, parsed.network) if unfuse else ()
    watch = _Watch(progress)
    monitor = _monitor(module, watch)
    config = config_from_options(library, builder, log, options, shapes, monitor)
    if "timing_cache" not in library.can:
        timings = None  # and with one, TensorRT for RTX would look for a GPU
    notes = [] if timings is None else [set_timing_cache(config, timings, log)]
    built = builder.build_serialized_network(parsed.network, config)
    watch.check()
    engine = bytes(required(built, "build the engine", log))
    memory = memory_from_log(text for _, text in log.lines)
    needed = memory.get("activation_bytes", 0) + memory.get("weight_bytes", 0)
    if library.name == "rtx" and needed > LARGEST_GPU_BYTES:  # TensorRT itself finds what one GPU here lacks
        raise GraphError(
            f"the engine needs {needed / 2**30:.0f} GiB of GPU memory beside its inputs and outputs, and the largest "
            f"RTX GPU has {LARGEST_GPU_BYTES >> 30}; choose a smaller size or batch",
            code="too-large",
            needed=needed,
        )
    if timings is not None:
        notes.append(save_timing_cache(config, timings))
    return Built(
        engine=engine,
        samplers=samplers,
        unfused=unfused,
        inferred=inferred,
        memory=memory,
        notes=tuple(note for note in notes if note),
    )


def _check_tensors(network: trt.INetworkDefinition, shapes: tuple[InputShapes, ...]) -> None:
    """Refuse a range of sizes whose largest needs more memory than TensorRT can tell; the network stays as it is."""
    inputs: list[Any] = [network.get_input(place) for place in range(network.num_inputs)]
    layers: list[Any] = [network.get_layer(place) for place in range(network.num_layers)]
    free = {tensor.name: tuple(tensor.shape) for tensor in inputs}
    largest = free | {shape.name: shape.maximum for shape in shapes}
    for tensor in inputs:
        tensor.shape = largest[tensor.name]  # TensorRT infers the others' from these
    outputs = [layer.get_output(place) for layer in layers for place in range(layer.num_outputs)]
    needed, name = max((math.prod(one.shape) * one.dtype.itemsize, one.name) for one in outputs)
    for tensor in inputs:
        tensor.shape = free[tensor.name]
    if needed > LARGEST_COUNTED_BYTES:
        raise GraphError(
            f"{name} takes {needed / 2**30:.1f} GiB at the largest size, and TensorRT for RTX does not count tensors "
            f"above {LARGEST_COUNTED_BYTES >> 30} GiB in the memory of an engine for several sizes; choose a smaller "
            "size or batch, or build for one size",
            code="too-large",
            needed=needed,
        )


def memory_from_log(lines: Iterable[str]) -> dict[str, int]:
    """Read the sizes that TensorRT logs at the end of a build, such as `Max Scratch Memory: 20807680 bytes`."""
    found = (re.match(r"(.+): (\d+) bytes$", line) for line in lines)
    return {_MEMORY[match[1]]: int(match[2]) for match in found if match and match[1] in _MEMORY}


class _Watch:
    """Calls the caller's callback from TensorRT's threads, one call at a time, and keeps what it raises.

    TensorRT swallows what a monitor raises, so that it has to be raised again after the build.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._steps: dict[str, int] = {}
        self._lock = threading.RLock()
        self._error: BaseException | None = None
        self._stopped_in: str | None = None

    def start(self, phase: str, steps: int) -> None:
        self._steps[phase] = steps
        self.report(phase, 0)

    def report(self, phase: str, done: int) -> bool:
        """Return whether to go on."""
        with self._lock:
            if self._stopped_in is None and self._progress is not None:
                try:
                    goes_on = self._progress(phase, done, self._steps.get(phase, done))
                except BaseException as error:  # Ctrl-C as well
                    self._error, goes_on = error, False
                if not goes_on:
                    self._stopped_in = phase
            return self._stopped_in is None

    def finish(self, phase: str) -> None:
        self.report(phase, self._steps.pop(phase, 0))

    def check(self) -> None:
        """Raise what the callback raised, or that it stopped the build (`stopped`)."""
        if self._error is not None:
            raise self._error
        if self._stopped_in is not None:
            raise UnavailableError(f"the build was stopped in {self._stopped_in!r}; start it again", code="stopped")


def _monitor(module: Any, watch: _Watch) -> trt.IProgressMonitor:
    """Return an `IProgressMonitor`; its base's constructor must be called, and `step_complete` must give a bool."""

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            watch.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return watch.report(phase_name, step + 1)

        def phase_finish(self, phase_name: str) -> None:
            watch.finish(phase_name)

    monitor: trt.IProgressMonitor = Monitor()
    return monitor
