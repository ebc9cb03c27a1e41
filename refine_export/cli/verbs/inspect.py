"""`inspect`: what a file is."""

from pathlib import Path
from typing import Annotated

import typer

import refine_export as rx
from refine_export.cli.output import show
from refine_export.cli.render.console import print_description
from refine_export.cli.render.render_engine import print_plan
from refine_export.cli.verbs.shared_options import JsonOption


def inspect(
    file: Annotated[Path, typer.Argument(help="A checkpoint, an ONNX file or an engine.")], as_json: JsonOption = False
) -> None:
    """Inspect a file and print its description."""
    found = rx.inspect(file)
    show(
        found,
        as_json,
        lambda found: (print_plan if found.kind == "engine" else print_description)(found.description),
    )
