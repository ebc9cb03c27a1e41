"""Files and engines for the tests that need a GPU, each made once, and how they are compared with torch.

Nothing here or there stands in for anything: TensorRT builds, the GPU runs, FP32 torch on the CPU is the reference.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
from torch import nn

from refine_export.accuracy.limits import LimitsOptions
from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.data.feeds import Feed, feeds_for
from refine_export.data.frame_options import FlowKind
from refine_export.data.frame_source import source_from_options
from refine_export.engine.engine_file import EngineFile
from refine_export.errors import RefineExportError
from refine_export.export.reference_network import reference_network
from refine_export.jobs.build_engine import build
from refine_export.jobs.export_graphs import export_graphs
from refine_export.jobs.load_inputs import job_inputs
from refine_export.jobs.lower_onnx import lower
from refine_export.jobs.recipe import Recipe
from refine_export.jobs.recipe_file import recipe_from_toml, recipe_with, toml_from_recipe
from refine_export.runners.base import Runner
from refine_export.runners.torch import TorchRunner
from refine_export.signature import SIGNATURES, FilePrecision, GraphName
from refine_export.support.manifest import manifest_path
from refine_export.testing import assert_matches

SIZE = (64, 96)
LIMITS = LimitsOptions()
"""The tool's own."""
RECIPE = recipe_from_toml("""
    [checkpoint]
    weights = "seeded"
    [scene]
    height = 64
    width = 96
    motion_px = 4.0
    [export]
    dynamic = false
    size = "64x96"
    [build]
    time_limit_s = 900
    [validate]
    sizes = []
""")


class Workshop:
    """A folder in which every file and every engine is made when it is first asked for.

    All engines share a folder of timing caches, which has no part in what is built.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._engines: dict[str, EngineFile | RefineExportError] = {}
        self._networks: dict[int, nn.Module] = {}
        self._source = source_from_options(RECIPE.frames, RECIPE.scene)

    def recipe(self, graph: GraphName = "contextnet", *, seed: int = 0, **given: Any) -> Recipe:
        """The recipe of a graph with seeded weights, and with options as the command line gives them."""
        architecture = "IFNet_m" if graph == "interpolator" else "IFNet"
        weights = dataclasses.replace(RECIPE.checkpoint, architecture=architecture, seed=seed)
        recipe = dataclasses.replace(RECIPE, checkpoint=weights)
        timing = {} if given.get("target") == "rtx" else {"timing_cache": str(self._folder / "timing")}
        return recipe_with(recipe, {"graphs": [graph]} | timing | given)

    def file(
        self,
        graph: GraphName = "contextnet",
        precision: FilePrecision = "fp16",
        *,
        seed: int = 0,
        gridsample: str = "native",
        **export: Any,
    ) -> Path:
        """The file that `export` or `lower` makes; `dynamic` or `size` are options of the export."""
        folder = self._folder / "-".join(["files", str(seed), *map(str, export.values())])
        recipe = self.recipe(graph, seed=seed, output=str(folder), gridsample=gridsample, **export)
        exported = folder / f"{graph}.onnx"
        lowered = folder / f"{graph}.{precision}.{gridsample}.onnx"
        if not exported.exists():
            export_graphs(job_inputs(recipe, None))
        if precision == "fp32":
            return exported
        if not lowered.exists():
            lower(exported, output=lowered, recipe=recipe)
        return lowered

    def engine(
        self,
        graph: GraphName = "contextnet",
        precision: FilePrecision = "fp16",
        *,
        export: dict[str, Any] | None = None,
        **options: Any,
    ) -> EngineFile:
        """The engine of a file, with options of the build; one that can't be built raises the same error each time."""
        key = json.dumps([graph, precision, export, options])
        if key not in self._engines:
            output = self._folder / f"engine-{len(self._engines)}" / f"{graph}.plan"
            try:
                source = self.file(graph, precision, **(export or {}))
                self._engines[key] = self.build(source, output, graph=graph, **options)
            except RefineExportError as error:
                self._engines[key] = error
        found = self._engines[key]
        if isinstance(found, RefineExportError):
            raise found
        return found

    def build(
        self, source: Path, output: Path, *, graph: GraphName = "contextnet", seed: int = 0, **options: Any
    ) -> EngineFile:
        """An engine of `source`, built now."""
        return build(source, output=output, recipe=self.recipe(graph, seed=seed, **options))

    def network(self, seed: int = 0) -> nn.Module:
        """The reference, of which `contextnet` is a part."""
        if seed not in self._networks:
            self._networks[seed] = reference_network(seeded_checkpoint("IFNet", seed))
        return self._networks[seed]

    def feeds(
        self, *, size: tuple[int, int] = SIZE, batch: int = 1, kinds: tuple[FlowKind, ...] = ("subpixel", "outside")
    ) -> list[Feed]:
        """Inputs of `contextnet`, one per kind of flow."""
        return list(
            feeds_for(self.network(), SIGNATURES["contextnet"], self._source.at(size), kinds=kinds, batch=batch)
        )

    def assert_exact(self, runner: Runner, feeds: list[Feed], precision: FilePrecision, *, seed: int = 0) -> None:
        """That a runner of `contextnet` gives what FP32 torch gives, within the tool's own limits for such a file."""
        with TorchRunner(self.network(seed), "contextnet") as torch:
            verdicts = assert_matches(torch, runner, feeds, LIMITS.of("contextnet", precision))
        assert len(verdicts) == len(feeds)


def operators_of(path: Path) -> list[str]:
    """The operator of each node of a file."""
    return [node.op_type for node in onnx.load(path).graph.node]


def file_of(made: EngineFile, source: Path) -> Path:
    """Return the file that an engine of `source` was built from: its fallback may have one of its own."""
    name = made.manifest.details["onnx"]["file"]
    return next(path for path in (made.path.with_name(name), source.with_name(name)) if path.exists())


def numbers_in_words(made: EngineFile) -> str:
    """Every fallback that was tried: `native passed: largest error 0.0021, 66.8 dB`."""
    return "; ".join(
        f"{tried['fallback']} {tried['status']}: "
        + (f"largest error {worst(tried):.2g}, {least(tried):.1f} dB" if tried["numbers"] else str(tried["reason"]))
        for tried in made.manifest.details["fallbacks"]
    )


def worst(tried: dict[str, Any]) -> float:
    """The largest error of a fallback; JSON has no NaN, None stands for it."""
    found = [one["max_abs"] for one in tried["numbers"]]
    return float("nan") if None in found else max(found)


def least(tried: dict[str, Any]) -> float:
    """The smallest PSNR of a fallback; None stands for that of equal arrays as well."""
    return min(
        (one["psnr_db"] if one["psnr_db"] is not None else float("inf") if one["max_abs"] == 0 else float("nan"))
        for one in tried["numbers"]
    )


def copied(made: EngineFile, folder: Path) -> Path:
    """A plan with its manifest, to be overwritten or damaged."""
    folder.mkdir(exist_ok=True)
    shutil.copy(manifest_path(made.path), folder)
    return Path(shutil.copy(made.path, folder))


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, and every folder in it."""
    return {path.name: path.read_bytes() if path.is_file() else b"" for path in folder.iterdir()}


def saved_recipe(recipe: Recipe, path: Path) -> Path:
    path.write_text(toml_from_recipe(recipe), encoding="utf-8")
    return path


def run_python(*arguments: object, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """This interpreter in a process of its own."""
    words = [sys.executable, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=900, env=environment, check=False)
