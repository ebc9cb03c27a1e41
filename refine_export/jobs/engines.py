"""The jobs that make engines: build one from an ONNX file, or give one new weights; both are proven against torch."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from refine_export.artifacts import Artifact, artifact_from_file
from refine_export.checkpoint.checkpoint import Checkpoint
from refine_export.data.frame_source import Source
from refine_export.engine import bindings as seam
from refine_export.engine.engine_file import EngineFile, engine_file
from refine_export.engine.fallbacks import Judge
from refine_export.engine.identity import this_machine
from refine_export.engine.onnx_source import EngineSource, read_source
from refine_export.engine.output_files import check_engine_output, same_file
from refine_export.engine.plan import artifact_from_plan
from refine_export.engine.profile_shapes import InputShapes
from refine_export.engine.refit_file import refit_file
from refine_export.errors import GraphError, RecipeError, RequestError, UnavailableError
from refine_export.export.reference_network import reference_network
from refine_export.graph.model_file import external_files, model_from_bytes, read_file, sha256_of_model
from refine_export.jobs.load_inputs import check_same_weights, load_checkpoint, load_sources
from refine_export.jobs.recipe import Recipe
from refine_export.report.data import Shortfall
from refine_export.support.files import user_path
from refine_export.support.manifest import manifest_path
from refine_export.support.progress import Progress, Silent
from refine_export.validate.engine_judge import judge_of

if TYPE_CHECKING:
    from torch import nn


def build(
    source: Path,
    output: Path,
    recipe: Recipe,
    *,
    fp32: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> EngineFile:
    """Build the engine of one ONNX file of the five graphs, or reuse the one that is there.

    Args:
        source: the file, of any precision.
        output: the plan.
        recipe: its `build` section is used; `checkpoint`, `frames`, `scene` and `validate` to prove the engine.
        fp32: what `source` was lowered from, for the rung `fp32`; without, the file that its manifest names.
        force: overwrite files at `output` that are no engine's.
        progress: told of each step.

    Raises:
        RequestError: the file, the weights or the options can't be used, or no rung is exact enough.
        UnavailableError: TensorRT, a GPU or another package is missing, or the build failed.
    """
    progress = progress or Silent()
    artifact = artifact_from_file(source)
    fp32 = fp32 or _fp32_of(source, artifact)
    check_engine_output(output, force=force, sources=_read(recipe, source, *([fp32] if fp32 else [])))
    shapes = read_source(source, recipe.build).shapes  # refused, where they do not fit, before TensorRT is asked
    if fp32 is not None:
        _check_fp32(fp32, source, artifact, shapes, recipe)
    this_machine(seam.load())
    checkpoint = load_checkpoint(recipe, progress)
    check_same_weights(source, artifact, checkpoint)
    network = functools.cache(lambda: reference_network(checkpoint))
    frames = load_sources(recipe, progress).first
    judge = judge_of(artifact, shapes, network, checkpoint, frames, recipe.validate)
    return engine_file(source, output, recipe.build, judge, progress, fp32=fp32)


def refit(
    plan: Path,
    source: Path,
    output: Path,
    recipe: Recipe,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> EngineFile:
    """Give an engine the weights of another ONNX file of the same architecture, without a rebuild, and prove it.

    Args:
        plan: of an engine that was built with `refittable`, or with `strip_weights`: then from this very file.
        source: the file, lowered as the engine's own was.
        output: the new plan; it may be `plan` itself.
        recipe: its `checkpoint`, `frames`, `scene` and `validate` sections are used.
        force: overwrite files at `output` that are no engine's.
        progress: told of each step.

    Raises:
        RequestError: the engine takes no such weights, or the new one is not exact enough.
        UnavailableError: TensorRT, a GPU or another package is missing.
    """
    progress = progress or Silent()
    artifact = artifact_from_file(source)
    own = [] if same_file(output, plan) else [plan, manifest_path(plan)]
    check_engine_output(output, force=force, sources=[*_read(recipe, source), *own])
    of_plan = artifact_from_plan(plan)
    if (of_plan.graph, of_plan.precision) != (artifact.graph, artifact.precision):
        raise RequestError(
            f"{plan} is {of_plan.graph} in {of_plan.precision}, {source} is {artifact.graph} in {artifact.precision}; "
            "expected a file that was lowered as the engine's own"
        )
    machine = this_machine(seam.load())
    checkpoint = load_checkpoint(recipe, progress)
    check_same_weights(source, artifact, checkpoint)
    frames = load_sources(recipe, progress).first
    network = functools.cache(lambda: reference_network(checkpoint))

    def judge(read: EngineSource) -> Judge:
        return judge_of(artifact, read.shapes, network, checkpoint, frames, recipe.validate)

    return refit_file(plan, source, output, machine, judge, progress)


def engines_of(
    files: Sequence[tuple[Path, Artifact]],
    network: Callable[[], nn.Module],
    checkpoint: Checkpoint,
    source: Source,
    recipe: Recipe,
    progress: Progress,
) -> tuple[list[tuple[Path, Artifact]], list[Shortfall]]:
    """For the main job: the engine of each graph's last file, and what could not be built.

    An engine is built from the lowered file where there is one, with the FP32 file for the last rung.

    Raises:
        RequestError: a file that is no engine's is in the way, or the sizes in the options do not fit.
    """
    if recipe.build.strip_weights:
        raise RecipeError("build.strip_weights is true, and such an engine can't be run; use the verb build instead")
    last = {artifact.graph: (path, artifact) for path, artifact in files}
    fp32 = {artifact.graph: path for path, artifact in files if artifact.precision == "fp32"}
    engines: list[tuple[Path, Artifact]] = []
    shortfalls = []
    for graph, (path, artifact) in last.items():
        output = path.with_suffix(".plan")
        check_engine_output(output, sources=[path], force=False)
        judge = judge_of(artifact, read_source(path, recipe.build).shapes, network, checkpoint, source, recipe.validate)
        try:
            made = engine_file(path, output, recipe.build, judge, progress, fp32=fp32.get(graph))
        except UnavailableError as error:  # the ONNX files are whole, and are compared
            shortfalls.append(Shortfall(what=output.name, status="not compared", reason=str(error)))
            continue
        except RequestError as error:
            shortfalls.append(Shortfall(what=output.name, status="failed", reason=str(error)))
            continue
        found = dataclasses.replace(
            artifact_from_plan(output),
            file=output.name,
            reused=made.reused,
            seconds=None if made.reused else made.manifest.seconds,
        )
        engines.append((output, found))
    return engines, shortfalls


def missing_tensorrt() -> str | None:
    """Why this machine builds and runs no engine, in a phrase; None where it does."""
    if find_spec("tensorrt") is None:
        return "tensorrt is not installed"
    try:
        this_machine(seam.load())
    except UnavailableError as error:
        return str(error)
    return None


def _read(recipe: Recipe, *files: Path) -> list[Path]:
    """All that a job on ONNX files reads, which its output must not replace."""
    found = []
    for file in files:
        found += [file, manifest_path(file), *external_files(model_from_bytes(read_file(file), file), file.parent)]
    given = [recipe.checkpoint.path, *recipe.frames.pair, *recipe.frames.inputs]
    return [*found, *(user_path(path) for path in given if path)]


def _check_fp32(fp32: Path, source: Path, artifact: Artifact, shapes: Sequence[InputShapes], recipe: Recipe) -> None:
    """Refuse a file that `source` was not lowered from, before the ladder comes to it.

    Raises:
        RequestError: another graph, precision, weights or sizes.
    """
    found = artifact_from_file(fp32)
    given = (found.graph, found.precision, found.checkpoint_sha256)
    expected = (artifact.graph, "fp32", artifact.checkpoint_sha256)
    for name, one, other in zip(("graph", "precision", "weights (sha256)"), given, expected, strict=True):
        if one != other and other is not None:
            raise RequestError(f"{fp32}: its {name} is {one}; expected {other}, of the file that {source} is made from")
    if read_source(fp32, recipe.build).shapes != tuple(shapes):
        raise RequestError(
            f"{fp32} takes {found.sizes}, {source} takes {artifact.sizes}; expected one for the same sizes"
        )


def _fp32_of(source: Path, artifact: Artifact) -> Path | None:
    """The file that `source` was lowered from, if its manifest names one that is there and unchanged."""
    if artifact.precision == "fp32":
        return source
    manifest = manifest_path(source)
    if not manifest.is_file():
        return None
    try:
        inputs = json.loads(manifest.read_text(encoding="utf-8"))["inputs"]
        path = source.parent / Path(str(inputs["source"])).name
        content = read_file(path)
        sha256 = sha256_of_model(content, external_files(model_from_bytes(content, path), path.parent))
        return path if sha256 == inputs["source_sha256"] else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError, GraphError):
        return None
