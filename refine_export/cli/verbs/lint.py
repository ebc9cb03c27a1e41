"""`lint`: find faults of ONNX files."""

from pathlib import Path
from typing import Annotated

import typer

import refine_export as rx
from refine_export.cli.exit_codes import show
from refine_export.cli.render.print_files import print_lint
from refine_export.cli.verbs.shared_options import JsonOption


def lint(
    files: Annotated[list[Path], typer.Argument(help="ONNX files, from any tool.")], as_json: JsonOption = False
) -> None:
    """Lint files and print the findings."""
    show(rx.lint(files), as_json, print_lint)
