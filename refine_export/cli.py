"""The command line: parse, one call into the library, print. Nothing else prints or exits.

Exit codes: 0 passed, 1 the verdict is failed, 2 the request was wrong, 3 this machine lacks something that was
required, 70 a bug of this tool.
"""

import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from refine_export import __version__
from refine_export.cli_options import (
    CalibrateOption,
    CalibrationSizeOption,
    CheckpointOption,
    DynamicOption,
    ExplainOption,
    ForceOption,
    FramesOption,
    GraphOption,
    GridSampleOption,
    IoOption,
    JsonOption,
    MaxErrorOption,
    PrecisionOption,
    QuietOption,
    RecipeOption,
    SizeOption,
    TargetPsnrOption,
    WithoutWarpOption,
)
from refine_export.console import (
    clean,
    make_progress,
    print_artifacts,
    print_checks,
    print_description,
    print_findings,
    print_lowered,
    print_report,
)
from refine_export.errors import InternalError, RecipeError, RefineExportError, RequestError, UnavailableError
from refine_export.validate import Runtime

INTERRUPTED = 130

app = typer.Typer(
    name="refine-export",
    help="RIFE frame interpolation from a PyTorch checkpoint to ONNX, proven equal to the reference.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"refine-export {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    recipe: RecipeOption = None,
    frames: FramesOption = None,
    checkpoint: CheckpointOption = None,
    graph: GraphOption = None,
    dynamic: DynamicOption = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for all that is made.")] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Export, validate and report: the main job. Without arguments, on sample frames and default weights."""
    from refine_export import pipeline

    chosen = _recipe(recipe, checkpoint=checkpoint, frames=frames, graphs=graph, dynamic=dynamic, output=output)
    result = pipeline.run(chosen, make_progress(quiet or as_json))
    _finish(result.report, result.folder, as_json)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The recipe to write.")] = Path("refine-export.toml"),
    force: ForceOption = False,
) -> None:
    """Write a recipe to edit: every option with its explanation and its default."""
    from refine_export.atomic import user_path, write_text
    from refine_export.recipe import Recipe, toml_from_recipe

    path = user_path(str(path))
    if os.path.lexists(path) and not force:
        raise RecipeError(f"{path} is there already; choose another name, or overwrite it with --force")
    write_text(path, toml_from_recipe(Recipe()))
    typer.echo(f"wrote {path}; edit it, then: refine-export run --recipe {path}")


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A checkpoint or an ONNX file.")], as_json: JsonOption = False
) -> None:
    """Show what a checkpoint or an ONNX file is: architecture, parameters, types, hash, ranges."""
    from refine_export.graph.load import seems_onnx

    if seems_onnx(file):
        from refine_export import onnx_file

        description = onnx_file.describe(file)
    else:
        from refine_export import checkpoint

        description = checkpoint.describe(checkpoint.checkpoint_from_file(file))
    if as_json:
        _print_json(description)
    else:
        print_description(description)


@app.command()
def export(
    checkpoint: CheckpointOption = None,
    graph: GraphOption = None,
    dynamic: DynamicOption = None,
    size: SizeOption = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Frame pairs per call of a static file.")] = None,
    recipe: RecipeOption = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the ONNX files.")] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write ONNX files (opset 18) with a manifest beside each, without validation."""
    from refine_export import pipeline

    chosen = _recipe(
        recipe, checkpoint=checkpoint, graphs=graph, dynamic=dynamic, size=size, batch=batch, output=output
    )
    artifacts = pipeline.export(chosen, make_progress(quiet or as_json))
    if as_json:
        import dataclasses

        _print_json([dataclasses.asdict(artifact) for artifact in artifacts])
    else:
        print_artifacts(Path(chosen.run.output), artifacts)


@app.command()
def lower(
    file: Annotated[Path, typer.Argument(help="An FP32 ONNX file, from any tool.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")],
    precision: PrecisionOption = None,
    io: IoOption = None,
    gridsample: GridSampleOption = None,
    target_psnr: TargetPsnrOption = None,
    max_error: MaxErrorOption = None,
    calibrate: CalibrateOption = None,
    size: CalibrationSizeOption = None,
    frames: FramesOption = None,
    checkpoint: CheckpointOption = None,
    recipe: RecipeOption = None,
    without_warp: WithoutWarpOption = False,
    explain: ExplainOption = False,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn FP32 ONNX into strongly typed FP16 whose warp coordinates stay FP32."""
    from refine_export import pipeline

    chosen = _recipe(
        recipe,
        checkpoint=checkpoint,
        frames=frames,
        precision=precision,
        io=io,
        gridsample=gridsample,
        target_psnr=target_psnr,
        max_error=max_error,
    )
    result = pipeline.lower(
        file,
        output,
        chosen,
        feeds=calibrate or (),
        size=size,
        without_warp=without_warp,
        force=force,
        progress=make_progress(quiet or as_json),
    )
    if as_json:
        _print_json(result.as_json())
    else:
        print_lowered(result, explain=explain)
    if result.search is not None and not result.search["reached"]:
        raise typer.Exit(1)


@app.command()
def lint(
    files: Annotated[list[Path], typer.Argument(help="ONNX files, from any tool.")], as_json: JsonOption = False
) -> None:
    """Find what makes an ONNX file wrong on TensorRT: nearest sampling, FP16 coordinates, baked-in sizes."""
    import dataclasses

    from refine_export.graph.lint import lint_file

    found = {str(file): lint_file(file) for file in files}
    if as_json:
        _print_json({file: [dataclasses.asdict(finding) for finding in findings] for file, findings in found.items()})
    else:
        print_findings(found)
    if any(finding.severity == "error" for findings in found.values() for finding in findings):
        raise typer.Exit(1)


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="ONNX files of the graphs, from any tool.")],
    checkpoint: CheckpointOption = None,
    frames: FramesOption = None,
    recipe: RecipeOption = None,
    size: Annotated[
        list[str] | None,
        typer.Option("--size", metavar="HxW", help="Also at this size (dynamic files); repeat for several."),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            "--runtime",
            help=f"{', '.join(get_args(Runtime))}; repeat for several. Default: by the file's types.",
            autocompletion=lambda: list(get_args(Runtime)),
        ),
    ] = None,
    float64: Annotated[bool, typer.Option("--float64", help="Compute the reference in float64.")] = False,
    report: Annotated[Path | None, typer.Option("--report", help="Folder for report.html and report.json.")] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare ONNX files with the torch reference on the checkpoint's weights."""
    from refine_export import pipeline

    chosen = _recipe(
        recipe,
        checkpoint=checkpoint,
        frames=frames,
        sizes=size,
        runtimes=runtime,
        reference="float64" if float64 else None,
    )
    result = pipeline.validate_files(files, chosen, report, make_progress(quiet or as_json))
    _finish(result.report, result.folder, as_json)


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Show what this machine can do, and the command that adds what is missing."""
    import dataclasses

    from refine_export.doctor import diagnose

    checks = diagnose()
    if as_json:
        _print_json([dataclasses.asdict(check) for check in checks])
    else:
        print_checks(checks)


def _recipe(path: Path | None, **given: Any) -> Any:
    """The recipe with what the command line gave in its place; a size or a batch asks for a static file."""
    from refine_export.recipe import Recipe, recipe_from_file, recipe_with

    recipe = Recipe() if path is None else recipe_from_file(path)
    if given.get("dynamic") is None and not (given.get("size") is None and given.get("batch") is None):
        given["dynamic"] = False
    return recipe_with(recipe, {name: value for name, value in given.items() if value is not None})


def _finish(report: dict[str, Any], folder: Path | None, as_json: bool) -> None:
    if as_json:
        _print_json(report)
    else:
        print_report(report, folder)
    codes = {"passed": 0, "failed": 1, "not compared": 3}
    raise typer.Exit(codes[report["status"]])


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=2, allow_nan=False))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; the one place where errors become exit codes."""
    logging.getLogger("onnx_ir").addHandler(logging.NullHandler())
    logging.getLogger("onnx_ir").propagate = False  # it prints names of files as they are
    try:
        app(arguments)
    except SystemExit as exit_:
        if exit_.code == INTERRUPTED:
            typer.echo("interrupted: what is finished is kept, the same command makes the rest", err=True)
        raise
    except RefineExportError as error:
        kind = {2: "error", 3: "missing"}.get(error.exit_code, "bug in refine-export")
        typer.echo(f"{kind}: {clean(str(error))}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        typer.echo(f"error: {clean(named)}{error.strerror or error}; check the path and its permissions", err=True)
        sys.exit(RequestError.exit_code)
    except MemoryError:
        typer.echo("missing: there is not enough memory; use a smaller size or batch", err=True)
        sys.exit(UnavailableError.exit_code)
    except Exception:
        traceback.print_exc()
        typer.echo("bug in refine-export: please report it with the lines above", err=True)
        sys.exit(InternalError.exit_code)


def program() -> None:
    """The console script: as `main`, but a reader that went away ends it as it ends any other program."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main()


if __name__ == "__main__":
    program()
