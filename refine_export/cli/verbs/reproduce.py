"""`reproduce`: the commands that make a file again."""

from pathlib import Path
from typing import Annotated

import typer

import refine_export as rx
from refine_export.cli.exit_codes import show
from refine_export.cli.render.console_progress import make_progress
from refine_export.cli.render.print_commands import print_reproduced
from refine_export.cli.verbs.shared_options import JsonOption, QuietOption


def reproduce(
    file: Annotated[Path, typer.Argument(help="An ONNX file or an engine, with its manifest beside it.")],
    run: Annotated[
        Path | None,
        typer.Option("--run", metavar="FOLDER", help="Run the commands in a new folder, and compare the files."),
    ] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print the commands as a shell script, or run them and print what came out the same."""
    show(rx.reproduce(file, run=run, progress=make_progress(quiet or as_json)), as_json, print_reproduced)
