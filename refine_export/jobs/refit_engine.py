"""`refit`: new weights into an engine without a rebuild, compared with FP32 torch before the engine is kept."""

from __future__ import annotations

import os
from typing import Any

from refine_export.artifacts import artifact_from_file
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.engine_file import EngineFile, engine_target
from refine_export.engine.engine_manifest import artifact_from_engine, engine_bytes, engine_header
from refine_export.engine.output_files import check_engine_output
from refine_export.engine.refit_file import refit_file
from refine_export.errors import RequestError
from refine_export.jobs.build_engine import files_read
from refine_export.jobs.commands import commands_of
from refine_export.jobs.engine_judge import judge_of
from refine_export.jobs.job_options import takes_options
from refine_export.jobs.load_inputs import AnyPath, job_inputs, path_of
from refine_export.jobs.recipe_file import AnyRecipe
from refine_export.support.files import same_file
from refine_export.support.manifest import manifest_path
from refine_export.support.progress import Progress


@takes_options("validate.limits")
def refit(
    engine: AnyPath,
    onnx: AnyPath,
    *,
    output: str | os.PathLike[str],
    checkpoint: AnyPath | None = None,
    frames: tuple[AnyPath, AnyPath] | None = None,
    recipe: AnyRecipe = None,
    force: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> EngineFile:
    """Give an engine the weights of another ONNX file of the same architecture.

    Args:
        engine: built with `refittable`, or with `strip_weights`; in that case it accepts only its original weights.
        onnx: the file with the weights, lowered as the engine's own was.
        output: the engine to write; it may be `engine` itself.
        checkpoint: the weights that `onnx` was made from.
        frames: two pictures to compare on. Defaults to the sample.
        recipe: Recipe object or path; explicit options override it.
        force: overwrite files at `output` that do not belong to an engine.
        progress: receives each step.
        options: `limits`.

    Raises:
        RequestError: the engine does not take the weights, or the new one is not exact enough.
        UnavailableError: TensorRT, a GPU or another package is missing.
    """
    inputs = job_inputs(recipe, progress, checkpoint, frames, **options)
    engine, source, target = path_of(engine), path_of(onnx), path_of(output)
    artifact = artifact_from_file(source)
    own = [] if same_file(target, engine) else [engine, manifest_path(engine)]
    check_engine_output(target, force=force, sources=[*files_read(inputs, source), *own])
    built = artifact_from_engine(engine)
    if (built.graph, built.precision) != (artifact.graph, artifact.precision):
        raise RequestError(
            f"{engine} is {built.graph} in {built.precision}, {source} is {artifact.graph} in {artifact.precision}; "
            "expected a file that was lowered as the engine's own",
            code="not-the-engines-file",
            path=source,
        )
    if engine_header(engine_bytes(engine), engine).library == "rtx":
        problem = (
            "is an engine of TensorRT for RTX, which takes no new weights; build one from the new file: "
            f"refine-export build {source} -o {target} --target rtx"
        )
        raise RequestError.about(engine, "not-refittable", problem)
    built_for = engine_target(BuildOptions(target="trt"))
    inputs.check_weights(source, artifact)
    return refit_file(
        engine,
        source,
        target,
        built_for,
        lambda read: judge_of(artifact, read.shapes, inputs),
        inputs.progress,
        commands=commands_of("refit", inputs.recipe, {"engine": engine, "onnx": source}),
    )
