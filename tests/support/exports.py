"""ONNX files that many tests share: each is made once in a test session, by whichever worker needs it first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from filelock import FileLock

from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.checkpoint.recognition import expected_shapes
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.data.frame_source import source_from_options
from refine_export.export.export_file import export_file
from refine_export.export.export_options import ExportOptions
from refine_export.export.reference_network import reference_network
from refine_export.jobs.export_graphs import export
from refine_export.lower.calibration_feeds import Calibration
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowered_file import lower_file
from refine_export.support.progress import Silent
from tests.support.formula_weights import formula_weights
from tests.support.paths import TESTS

if TYPE_CHECKING:
    from refine_export.checkpoint.checkpoint_options import Architecture
    from refine_export.signature import GraphName


class Exports:
    """Exported and lowered files of seeded weights, in a folder that all workers of a session share.

    Tests must not modify the files; copy one first (`shutil.copy`, with its manifest where that matters).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fp32(
        self,
        graph: GraphName,
        *,
        architecture: Architecture = "IFNet",
        size: str | None = None,
        batch: int = 1,
    ) -> Path:
        """Return the FP32 file of a graph: dynamic, or static where `size` (HEIGHTxWIDTH) is given."""
        options = ExportOptions() if size is None else ExportOptions(dynamic=False, size=size, batch=batch)
        path = self._folder / f"{architecture}-{size or 'dynamic'}-{batch}" / f"{graph}.onnx"
        with FileLock(self._folder / f"{path.parent.name}-{graph}.lock"):
            if not path.exists():
                checkpoint = seeded_checkpoint(architecture)
                path.parent.mkdir(parents=True, exist_ok=True)
                export_file(lambda: reference_network(checkpoint), checkpoint, graph, options, path)
        return path

    def network(self, name: str, scale: float = 1.0) -> tuple[Path, Path]:
        """Return weights by formula of a network of `golden/networks/keys.json`, and its dynamic interpolator.

        `rife4_0_refined` is 4.0 with a refinement, as the released weights are.
        """
        folder = self._folder / f"{name}-{scale}"
        weights, onnx = folder / f"{name}.pkl", folder / "interpolator.onnx"
        with FileLock(self._folder / f"{folder.name}.lock"):
            if not onnx.exists():
                folder.mkdir(exist_ok=True)
                shapes = json.loads((TESTS / "golden" / "networks" / "keys.json").read_text())
                shapes["rife4_0_refined"] = shapes["rife4_0"] | expected_shapes("refinement")
                torch.save(formula_weights(shapes[name]), weights)
                export(weights, "interpolator", output=onnx, scale=scale)
        return weights, onnx

    def lowered(
        self, graph: GraphName, options: LowerOptions | None = None, *, architecture: Architecture = "IFNet"
    ) -> Path:
        """Return the lowered file of a dynamic graph, calibrated on a small scene (64x96)."""
        source = self.fp32(graph, architecture=architecture)
        options = options or LowerOptions()
        name = f"{graph}.{options.precision}-{options.io}-{options.gridsample}-{options.fp32_tail}.onnx"
        path = source.parent / name
        with FileLock(source.parent / f"{name}.lock"):
            if not path.exists():
                scene = SceneOptions(height=64, width=96, motion_px=8.0)
                frames = source_from_options(FramesOptions(), scene)
                checkpoint = seeded_checkpoint(architecture)
                calibration = Calibration(source=lambda: frames, checkpoint=lambda: checkpoint)
                lower_file(source, path, options, calibration, Silent())
        return path
