"""Options of scoring on a data set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from refine_export.engine.engine_run_options import EngineRunOptions
from refine_export.runners.runtime_names import Runtime

Layout = Literal["vimeo-triplet", "vimeo-septuplet", "ucf101", "snu-film", "middlebury", "triplets"]


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(EngineRunOptions):
    """Options of scoring on a data set."""

    layout: Layout | None = field(default=None, metadata={"flag": "--layout"})
    """Layout of the folder; default: by the files in it."""
    limit: int | None = field(default=None, metadata={"flag": "--limit"})
    """Upper bound of the triplets of each split, from its start; default: all."""
    runtimes: tuple[Runtime, ...] = field(default=(), metadata={"flag": "--runtime"})
    """Runtimes of each ONNX file; default: onnxruntime-cpu for FP32 files and half for others, as `validate` has it."""
    device: str = field(default="cpu", metadata={"flag": "--device"})
    """Device of the torch reference, such as cuda:0."""
    max_loss_db: float | None = field(default=None, metadata={"flag": "--max-loss", "metavar": "DB"})
    """Fail a file whose PSNR on a split is further below torch's, in dB; default: no limit."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is {self.limit}; expected 1 or more, or nothing for all triplets")
        if self.max_loss_db is not None and not 0 <= self.max_loss_db < float("inf"):
            raise ValueError(f"max_loss_db is {self.max_loss_db}; expected a number of 0 or more")
        if len(set(self.runtimes)) != len(self.runtimes):
            raise ValueError("runtimes has the same value twice; expected each once")
