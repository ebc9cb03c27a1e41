"""The options of all stages in one object; each option is a field of its stage's dataclass, and defined only there."""

from __future__ import annotations

from dataclasses import dataclass, field

from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.engine.build_options import BuildOptions
from refine_export.export.export_options import ExportOptions
from refine_export.lower.lower_options import LowerOptions
from refine_export.runners.runtime_names import RequiredRuntime
from refine_export.signature import GraphName
from refine_export.validate.validate_options import ValidateOptions


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Files that the main job makes, and runtimes that it needs."""

    graphs: tuple[GraphName, ...] = field(default=(), metadata={"flag": "--graph"})
    """Graphs to export; default: `refine` and `interpolator`, as far as the weights make them."""
    output: str = field(default="refine-export-output", metadata={"flag": "--output", "short": "-o"})
    """Output folder."""
    require: tuple[RequiredRuntime, ...] = field(default=(), metadata={"flag": "--require"})
    """Runtimes without which the verdict is not compared (exit code 3); trt has to run an engine, rtx to build and
    type-check one, without a GPU (a build that fails is exit code 1)."""

    def __post_init__(self) -> None:
        if not self.output or self.output.endswith(".onnx"):
            raise ValueError(f"output is {self.output!r}; expected a folder: the file of a graph in it is GRAPH.onnx")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The options of all stages; the defaults are the embedded recipe."""

    run: RunOptions = field(default_factory=RunOptions)
    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)
    frames: FramesOptions = field(default_factory=FramesOptions)
    scene: SceneOptions = field(default_factory=SceneOptions)
    export: ExportOptions = field(default_factory=ExportOptions)
    lower: LowerOptions = field(default_factory=LowerOptions)
    build: BuildOptions = field(default_factory=BuildOptions)
    validate: ValidateOptions = field(default_factory=ValidateOptions)
