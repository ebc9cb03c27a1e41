"""`build`: an ONNX file to a TensorRT engine, kept after a comparison with FP32 torch, or type-checked."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from refine_export.artifacts import Artifact, artifact_from_file
from refine_export.engine.bindings import MODULES
from refine_export.engine.build_options import BuildOptions, Target
from refine_export.engine.engine_file import EngineFile, EngineTarget, engine_file, engine_target
from refine_export.engine.engine_manifest import artifact_from_engine
from refine_export.engine.fallbacks import Judge
from refine_export.engine.machine import driver_status
from refine_export.engine.onnx_source import read_source
from refine_export.engine.output_files import check_engine_output
from refine_export.engine.profile_shapes import InputShapes
from refine_export.errors import RecipeError, RequestError, UnavailableError
from refine_export.graph.model_file import external_files, model_from_bytes, read_file, sha256_of_model
from refine_export.jobs.commands import commands_of
from refine_export.jobs.engine_judge import judge_of
from refine_export.jobs.job_options import takes_options
from refine_export.jobs.load_inputs import AnyPath, JobInputs, job_inputs, path_of
from refine_export.jobs.recipe import Recipe
from refine_export.jobs.recipe_file import AnyRecipe
from refine_export.report.report_data import Shortfall
from refine_export.runners.runtime_names import REQUIRED_NAMES
from refine_export.signature import padded_size
from refine_export.support.imports import pip_install
from refine_export.support.manifest import manifest_path, read_manifest
from refine_export.support.progress import Progress
from refine_export.support.text import size_text


@takes_options("build", "validate.limits", "checkpoint.refine")
def build(
    onnx: AnyPath,
    *,
    output: str | os.PathLike[str],
    checkpoint: AnyPath | None = None,
    frames: tuple[AnyPath, AnyPath] | None = None,
    fp32: AnyPath | None = None,
    recipe: AnyRecipe = None,
    force: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> EngineFile:
    """Build the engine of one ONNX file of the graphs, or reuse the one that is there.

    Args:
        onnx: the file, of any precision, or the result of `export` or `lower`.
        output: the engine to write.
        checkpoint: the weights that the file was made from; the engine is compared with them.
        frames: two pictures to compare on. Defaults to the sample.
        fp32: the file that `onnx` was lowered from, for the last fallback. Defaults to the one named in its manifest.
        recipe: Recipe object or path; explicit options override it.
        force: overwrite files at `output` that do not belong to an engine.
        progress: receives each step.
        options: fields of `BuildOptions`, and `limits`.

    Raises:
        RequestError: the file, the weights or the options cannot be used, or no fallback is exact enough.
        UnavailableError: TensorRT, a GPU or another package is missing, or the build failed.
    """
    inputs = job_inputs(recipe, progress, checkpoint, frames, **options)
    source, target = path_of(onnx), path_of(output)
    artifact = artifact_from_file(source)
    lowered_from = _fp32_of(source, artifact) if fp32 is None else path_of(fp32)
    read = files_read(inputs, source, *([lowered_from] if lowered_from else []))
    check_engine_output(target, force=force, sources=read)
    shapes = read_source(source, inputs.recipe.build).shapes  # sizes that do not fit are refused without TensorRT
    if lowered_from is not None:
        _check_fp32(lowered_from, source, artifact, shapes, inputs.recipe)
    built_for = engine_target(inputs.recipe.build)
    judge = None
    if built_for.executes:  # else nothing is compared, and neither weights nor torch are needed
        judge = judge_of(inputs.check_weights(source, artifact), shapes, inputs)
    return _engine_file(source, target, inputs.recipe.build, judge, inputs, lowered_from, built_for)


def engine_targets(recipe: Recipe) -> tuple[list[EngineTarget], list[Shortfall]]:
    """Return what the main job builds engines for, and the libraries that are missing.

    Raises:
        RequestError: `engine-cannot-run` or `unsupported-option`; the options do not fit.
    """
    if recipe.build.strip_weights:
        raise RecipeError(
            "build.strip_weights is true, and such an engine cannot be run; use the verb build instead",
            code="engine-cannot-run",
        )
    found, shortfalls = [], []
    for name in _libraries(recipe):
        try:
            found.append(engine_target(dataclasses.replace(recipe.build, target=name)))
        except UnavailableError as error:
            absent = find_spec(MODULES[name]) is None
            reason = _not_installed(name) if absent else str(error)
            counts = name in recipe.run.require
            shortfalls.append(
                Shortfall(what=REQUIRED_NAMES[name], status="not compared", reason=reason, counts=counts, runtime=name)
            )
    return found, shortfalls


def _not_installed(name: Target) -> str:
    missing = f"{MODULES[name]} is not installed"
    if name == "rtx" or driver_status() == 0:
        return f"{missing}: {pip_install(name)}"
    without = (
        "" if find_spec(MODULES["rtx"]) else f"; TensorRT for RTX builds engines without one: {pip_install('rtx')}"
    )
    return f"{missing}, and needs an NVIDIA GPU, which is not found{without}"


def build_engines(
    files: Sequence[tuple[Path, Artifact]], targets: Sequence[EngineTarget], inputs: JobInputs
) -> tuple[list[tuple[Path, Artifact]], list[Shortfall]]:
    """Build the engine of each graph's last file for each target, for the main job.

    An engine is built from the lowered file where there is one, with the FP32 file for the last fallback.

    Returns:
        The engines, and what could not be built.

    Raises:
        RequestError: a file that is not an engine's is in the way, or the sizes do not fit.
    """
    last = {artifact.graph: (path, artifact) for path, artifact in files}
    fp32 = {artifact.graph: path for path, artifact in files if artifact.precision == "fp32"}
    engines: list[tuple[Path, Artifact]] = []
    shortfalls = []
    for target in targets:
        name = target.library.name
        required = name in inputs.recipe.run.require
        for graph, (path, artifact) in last.items():
            output = path.with_suffix(".plan" if name == "trt" else ".rtx")
            check_engine_output(output, sources=[path], force=False)
            options = _for_compared_sizes(artifact, inputs)
            shapes = read_source(path, options).shapes
            judge = judge_of(artifact, shapes, inputs) if target.executes else None
            try:
                made = _engine_file(path, output, options, judge, inputs, fp32.get(graph), target)
            except (UnavailableError, RequestError) as error:  # the ONNX files are whole, and are compared
                lacking = isinstance(error, UnavailableError)
                shortfall = Shortfall(
                    what=output.name,
                    status="not compared" if lacking and name == "trt" else "failed",
                    reason=str(error),
                    # That TensorRT for RTX compiles a file is asked for by name; that a file is right is always.
                    counts=required or name == "trt" or not (lacking or error.code == "no-engine"),
                    runtime=name,
                )
                shortfalls.append(shortfall)
                continue
            seconds = None if made.reused else made.manifest.seconds
            built = artifact_from_engine(output)
            engines.append((output, dataclasses.replace(built, file=output.name, reused=made.reused, seconds=seconds)))
    return engines, shortfalls


def _engine_file(
    source: Path,
    output: Path,
    options: BuildOptions,
    judge: Judge | None,
    inputs: JobInputs,
    fp32: Path | None,
    target: EngineTarget,
) -> EngineFile:
    reference = inputs.recipe if judge else Recipe()  # what is not compared depends on neither weights nor frames
    used = dataclasses.replace(reference, build=dataclasses.replace(options, target=target.library.name))
    files = {"onnx": source, "fp32": None if fp32 == source else fp32}
    commands = commands_of("build", used, files)
    return engine_file(source, output, options, judge, inputs.progress, fp32=fp32, target=target, commands=commands)


def _libraries(recipe: Recipe) -> list[Target]:
    """Return the libraries that the main job builds with, or names as missing: the recipe's, and those required."""
    chosen = recipe.build.target
    found: list[Target] = [chosen] if chosen != "auto" else ["trt"] if find_spec("tensorrt") else ["trt", "rtx"]
    required: Sequence[Target] = ("trt", "rtx")
    return list(dict.fromkeys([*found, *(name for name in required if name in recipe.run.require)]))


def _for_compared_sizes(artifact: Artifact, inputs: JobInputs) -> BuildOptions:
    """Return the options of a build, with a profile of all sizes that are compared where the recipe states none."""
    options = inputs.recipe.build
    stated = options.min_size or options.max_size or options.opt_size != BuildOptions.opt_size
    if stated or any(artifact.fixed[1:]):
        return options
    unit = artifact.multiple_of
    sizes = [padded_size(*inputs.sources.first.pair.size, unit), *inputs.recipe.validate.sizes_at(unit)]
    heights, widths = zip(*sizes, strict=True)
    largest = size_text((max(heights), max(widths)))
    return dataclasses.replace(
        options, min_size=size_text((min(heights), min(widths))), opt_size=largest, max_size=largest
    )


def files_read(inputs: JobInputs, *files: Path) -> list[Path]:
    """Return all files that a job on ONNX files reads, which its output must not replace."""
    found = inputs.files
    for file in files:
        found += [file, manifest_path(file), *external_files(model_from_bytes(read_file(file), file), file.parent)]
    return found


def _check_fp32(fp32: Path, source: Path, artifact: Artifact, shapes: Sequence[InputShapes], recipe: Recipe) -> None:
    """Refuse a file that `source` was not lowered from, before the last fallback needs it.

    Raises:
        RequestError: `not-the-fp32-file`; another graph, precision, weights or sizes.
    """
    found = artifact_from_file(fp32)
    given = (found.graph, found.precision, found.checkpoint_sha256)
    expected = (artifact.graph, "fp32", artifact.checkpoint_sha256)
    for name, one, other in zip(("graph", "precision", "weights (sha256)"), given, expected, strict=True):
        if one != other and other is not None:
            message = f"{fp32}: its {name} is {one}; expected {other}, as in the file that {source} is made from"
            raise RequestError(message, code="not-the-fp32-file", path=fp32)
    if read_source(fp32, recipe.build).shapes != tuple(shapes):
        problem = f"takes {found.sizes}, {source} takes {artifact.sizes}; expected one for the same sizes"
        raise RequestError.about(fp32, "not-the-fp32-file", problem)


def _fp32_of(source: Path, artifact: Artifact) -> Path | None:
    """Return the file that `source` was lowered from, if its manifest names one that is there and unchanged."""
    if artifact.precision == "fp32":
        return source
    try:
        inputs = read_manifest(source).inputs
        path = source.parent / Path(str(inputs["source"])).name
        content = read_file(path)
        sha256 = sha256_of_model(content, external_files(model_from_bytes(content, path), path.parent))
        return path if sha256 == inputs["source_sha256"] else None
    except (KeyError, RequestError):  # no manifest, another tool's, or no such file
        return None
