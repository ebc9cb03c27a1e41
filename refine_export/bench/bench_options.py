"""Options of measuring speed and memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from refine_export.engine.engine_run_options import EngineRunOptions
from refine_export.runners.runtime_names import RequiredRuntime, Runtime
from refine_export.signature import LARGEST_BATCH, check_sizes_option
from refine_export.validate.validate_options import FEWEST_ROUNDS

TorchMode = Literal["eager", "compile", "none"]


@dataclass(frozen=True, kw_only=True)
class BenchOptions(EngineRunOptions):
    """Options of measuring speed and memory."""

    sizes: tuple[str, ...] = field(default=(), metadata={"flag": "--size", "metavar": "HxW"})
    """HEIGHTxWIDTH of the frames; every file has to take each. Default: the size of static files, else that of the
    frames, padded."""
    batches: tuple[int, ...] = field(default=(), metadata={"flag": "--batch", "metavar": "N"})
    """Frame pairs of a run; every file has to take each. Default: the batch of static files, else 1."""
    torch: tuple[TorchMode, ...] = field(default=("eager",), metadata={"flag": "--torch"})
    """Measure the same graph in torch too: eager, compile (torch.compile), or none."""
    device: str = field(default="cpu", metadata={"flag": "--device"})
    """Device of torch, such as cuda:0."""
    runtimes: tuple[Runtime, ...] = field(default=(), metadata={"flag": "--runtime"})
    """Runtimes of each ONNX file; default: onnxruntime-cpu. half emulates FP16, and its speed is not that of FP16."""
    require: tuple[RequiredRuntime, ...] = field(default=(), metadata={"flag": "--require"})
    """Runtimes in which something has to be measured, else the exit code is 3; trt and rtx by an engine, on a GPU."""
    rounds: int = field(default=20, metadata={"flag": "--rounds"})
    """Times that each is measured, after the warm-up; 5 or more."""
    memory: bool = field(default=True, metadata={"flag": "--memory/--no-memory"})
    """Measure memory, each file and size in a process of its own."""

    def __post_init__(self) -> None:
        check_sizes_option("sizes", self.sizes)
        for name in ("sizes", "batches", "torch", "runtimes"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name} has the same value twice; expected each once")
        for batch in self.batches:
            if not 1 <= batch <= LARGEST_BATCH:
                raise ValueError(f"batches has {batch}; expected 1 to {LARGEST_BATCH}")
        if not self.torch or ("none" in self.torch and len(self.torch) > 1):
            raise ValueError(f"torch is {', '.join(self.torch) or 'empty'}; expected eager, compile, both, or none")
        if self.rounds < FEWEST_ROUNDS:
            raise ValueError(f"rounds is {self.rounds}; expected {FEWEST_ROUNDS} or more")
