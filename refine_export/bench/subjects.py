"""A subject of a measurement: a file in a runtime, or a graph in torch; opened, called and fed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from refine_export.bench.bench_files import BenchFile
from refine_export.checkpoint.checkpoint import checkpoint_from_options
from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.data.feeds import feeds_for, flow_kinds_of
from refine_export.data.frame_source import Source
from refine_export.engine.engine_run_options import EngineRunOptions
from refine_export.engine.engine_runner import TrtRunner
from refine_export.errors import RequestError
from refine_export.export.reference_network import reference_network
from refine_export.graph.stacked_input import stack_of, stack_signature
from refine_export.lower.calibration_feeds import feeds_for_inputs
from refine_export.runners.base import Arrays, Runner
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.open_onnx_runner import open_onnx_runner
from refine_export.runners.runtime_names import Runtime
from refine_export.runners.torch import TorchRunner
from refine_export.signature import FilePrecision, GraphName
from refine_export.support.environment import gpu_name
from refine_export.support.progress import Silent

if TYPE_CHECKING:  # torch is optional
    from torch import nn

Mode = Runtime | Literal["eager", "compile", "tensorrt"]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A file in a runtime, or a graph in torch: all that a process needs to open it, as JSON types."""

    file: str
    """Name of the file; `torch`."""
    mode: Mode
    """A runtime; of torch, eager or compile."""
    graph: str
    precision: FilePrecision | None
    path: str | None = None
    scale: float = 1.0
    device: str = "cpu"
    """Device of torch."""
    checkpoint: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Options of torch's weights."""
    engine: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Options of running an engine."""

    @property
    def for_gpu(self) -> bool:
        """True where a GPU computes, if there is one."""
        return self.mode not in ("eager", "compile", "onnxruntime-cpu", "half") or self.device.startswith("cuda")

    @property
    def name(self) -> str:
        """The subject in messages."""
        return f"{self.graph} in torch ({self.mode})" if self.path is None else f"{self.file} in {self.mode}"


def open_subject(subject: Subject, network: Callable[[float], nn.Module] | None = None) -> Runner:
    """Open a subject.

    Args:
        subject: what is to be opened.
        network: returns the reference at a scale. Defaults to loading it.

    Raises:
        RequestError: the runtime refuses the file.
        UnavailableError: the runtime is missing.
    """
    if subject.mode in ("eager", "compile"):
        if network is None:
            checkpoint = checkpoint_from_options(CheckpointOptions(**subject.checkpoint), Silent())
            network = partial(reference_network, checkpoint)
        graph = cast("GraphName", subject.graph)
        compiled = subject.mode == "compile"
        return TorchRunner(network(subject.scale), graph, device=subject.device, compiled=compiled)
    path = Path(str(subject.path))
    if subject.mode == "tensorrt":
        return TrtRunner(path, options=EngineRunOptions(**subject.engine))
    return open_onnx_runner(path, cast("Runtime", subject.mode))


def call_of(runner: Runner, feeds: Arrays) -> Callable[[], object]:
    """Return a call of one run; on a GPU that torch finds, inputs and outputs stay in its memory."""
    if "img0" in feeds and stack_signature(runner.inputs, runner.outputs) is not None:
        [stack] = runner.inputs  # made once, so that its copy is not in the time
        feeds = {stack.name: stack_of(feeds["img0"], feeds["img1"], feeds["timestep"], int(stack.shape[1]))}
    typed = {info.name: feeds[info.name].astype(info.dtype, copy=False) for info in runner.inputs}
    if not on_gpu(runner):
        return partial(runner.run, typed)
    import torch

    assert isinstance(runner, TorchRunner | OrtRunner | TrtRunner)
    device = runner.device.partition(" ")[0]
    tensors = {name: torch.from_numpy(array).to(device) for name, array in typed.items()}
    outputs = runner.run_torch(tensors)

    def run() -> None:
        runner.run_torch(tensors, outputs)
        torch.cuda.synchronize(device)

    return run


def on_gpu(runner: Runner) -> bool:
    """Return whether a runner computes on a GPU that torch finds, so that the tensors can stay there."""
    return runner.device.startswith("cuda") and gpu_name() is not None


def feeds_at(file: BenchFile, sizes: tuple[int, int, int], source: Source, network: nn.Module | None) -> Arrays:
    """Make the feeds of a file from frames: PReLU, for one, takes twice the time on noise that it takes on pictures.

    Args:
        file: what is fed.
        sizes: batch, height and width.
        source: the frames.
        network: estimates the flow and extracts the features that a refinement takes; without it, they are made up.

    Raises:
        RequestError: `needs-feeds`; nothing can be made for an input of another tool's file.
    """
    if file.artifact is not None and network is not None:
        pair = source.at(sizes[1:])
        kinds = flow_kinds_of(network, ("network", "large"))[:1]
        return next(feeds_for(network, file.artifact.signature, pair, kinds=kinds, batch=sizes[0])).inputs
    try:
        return next(feeds_for_inputs(file.inputs_at(sizes), source, None))[1]
    except RequestError as error:
        raise RequestError.about(
            file.path,
            "needs-feeds",
            f"takes inputs that no feed can be made for ({str(error).partition(';')[0]}); bench makes frames, flows, "
            "timesteps and noise, in FP32 and FP16",
        ) from error
