"""`bench`: latency, throughput and memory of files and of torch."""

from pathlib import Path
from typing import Annotated, Any

import typer

import refine_export as rx
from refine_export.bench.bench_options import BenchOptions
from refine_export.cli.exit_codes import show
from refine_export.cli.render.console_progress import make_progress
from refine_export.cli.render.print_figures import print_benchmarks
from refine_export.cli.stage_options import stage_options
from refine_export.cli.verbs.shared_options import JsonOption, QuietOption, RecipeOption


@stage_options("checkpoint.path", "checkpoint.refine", "frames.pair", BenchOptions)
def bench(
    files: Annotated[list[Path], typer.Argument(help="ONNX files of any tool, and engines.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for bench.json and bench.html.")] = None,
    recipe: RecipeOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Measure speed and memory, and print the figures."""
    progress = make_progress(quiet or as_json)
    result = rx.bench(files, output=output, recipe=recipe, progress=progress, **options)
    show(result, as_json, print_benchmarks)
