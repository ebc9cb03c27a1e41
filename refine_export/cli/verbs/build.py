"""`build`: ONNX to a TensorRT engine, proven."""

from pathlib import Path
from typing import Annotated, Any

import typer

from refine_export.cli.render.console import make_progress
from refine_export.cli.render.render_engine import print_engine
from refine_export.cli.verbs.finish import print_json, recipe_with_options
from refine_export.cli.verbs.shared_options import (
    CheckpointOption,
    ForceOption,
    FramesOption,
    JsonOption,
    QuietOption,
    RecipeOption,
)


def _sizes(flag: str, explanation: str, metavar: str | None = None) -> Any:
    return typer.Option(flag, metavar=metavar, help=explanation, rich_help_panel="Sizes of a dynamic file")


def _engine(flag: str, explanation: str, metavar: str | None = None) -> Any:
    return typer.Option(flag, metavar=metavar, help=explanation, rich_help_panel="Engine")


def _job(flag: str, explanation: str, metavar: str | None = None) -> Any:
    return typer.Option(flag, metavar=metavar, help=explanation, rich_help_panel="The build itself")


def build(
    file: Annotated[Path, typer.Argument(help="An ONNX file of one of the graphs, FP32 or lowered.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The plan to write.")],
    checkpoint: CheckpointOption = None,
    frames: FramesOption = None,
    recipe: RecipeOption = None,
    rung: Annotated[
        str | None,
        typer.Option("--rung", help="native, unfused, gather or fp32. Default: auto, the first that is exact enough."),
    ] = None,
    fp32: Annotated[
        Path | None,
        typer.Option("--fp32", help="What FILE was lowered from, for the last rung. Default: as its manifest says."),
    ] = None,
    min_size: Annotated[str | None, _sizes("--min-size", "Smallest size. Default: the best one.", "HxW")] = None,
    opt_size: Annotated[str | None, _sizes("--opt-size", "Size to tune for. Default: 1088x1920.", "HxW")] = None,
    max_size: Annotated[str | None, _sizes("--max-size", "Largest size. Default: the best one.", "HxW")] = None,
    min_batch: Annotated[int | None, _sizes("--min-batch", "Smallest batch. Default: 1.")] = None,
    opt_batch: Annotated[int | None, _sizes("--opt-batch", "Batch to tune for. Default: 1.")] = None,
    max_batch: Annotated[int | None, _sizes("--max-batch", "Largest batch. Default: 1.")] = None,
    workspace_mib: Annotated[
        int | None, _engine("--workspace", "Scratch memory of a layer. Default: all.", "MIB")
    ] = None,
    optimization_level: Annotated[
        int | None, _engine("--optimization-level", "How long to look for fast kernels. Default: 3.", "0-5")
    ] = None,
    tf32: Annotated[bool | None, _engine("--tf32/--no-tf32", "Let FP32 layers round to TF32. Default: no.")] = None,
    hardware_compatibility: Annotated[
        str | None, _engine("--hardware-compatibility", "none, ampere_plus or same_compute_capability.")
    ] = None,
    version_compatible: Annotated[
        bool | None, _engine("--version-compatible/--this-version", "Runs on newer TensorRT too.")
    ] = None,
    exclude_lean_runtime: Annotated[
        bool | None, _engine("--exclude-lean-runtime/--with-lean-runtime", "The host has its own lean runtime.")
    ] = None,
    strip_weights: Annotated[
        bool | None, _engine("--strip-weights/--with-weights", "Leave the weights out, for a later refit.")
    ] = None,
    refittable: Annotated[
        bool | None, _engine("--refittable/--not-refittable", "Takes the weights of other checkpoints.")
    ] = None,
    verbosity: Annotated[
        str | None, _engine("--profiling-verbosity", "detailed (proves the types) or layer_names_only.")
    ] = None,
    tiling_level: Annotated[str | None, _engine("--tiling-level", "none, fast, moderate or full.")] = None,
    aux_streams: Annotated[
        int | None, _engine("--aux-streams", "Streams beside the main one. Default: TensorRT's choice.")
    ] = None,
    timing_cache: Annotated[
        str | None, _job("--timing-cache", "Of timing caches. Default: beside the plan.", "FOLDER")
    ] = None,
    time_limit_s: Annotated[
        int | None, _job("--time-limit", "Stop the build after so many seconds. Default: 3600.", "S")
    ] = None,
    memory_limit_mib: Annotated[
        int | None, _job("--memory-limit", "Stop it above so much host memory. Default: none.", "MIB")
    ] = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compile ONNX into a TensorRT engine, compared with torch on the way; needs TensorRT and a GPU."""
    from refine_export.jobs import engines as engine_jobs

    chosen = recipe_with_options(
        recipe,
        checkpoint=checkpoint,
        frames=frames,
        rung=rung,
        min_size=min_size,
        opt_size=opt_size,
        max_size=max_size,
        min_batch=min_batch,
        opt_batch=opt_batch,
        max_batch=max_batch,
        workspace_mib=workspace_mib,
        optimization_level=optimization_level,
        tf32=tf32,
        hardware_compatibility=hardware_compatibility,
        version_compatible=version_compatible,
        exclude_lean_runtime=exclude_lean_runtime,
        strip_weights=strip_weights,
        refittable=refittable,
        verbosity=verbosity,
        tiling_level=tiling_level,
        aux_streams=aux_streams,
        timing_cache=timing_cache,
        time_limit_s=time_limit_s,
        memory_limit_mib=memory_limit_mib,
    )
    made = engine_jobs.build(file, output, chosen, fp32=fp32, force=force, progress=make_progress(quiet or as_json))
    if as_json:
        print_json(made.as_json())
    else:
        print_engine(made)
