"""`inspect`: describe a file."""

from pathlib import Path
from typing import Annotated

import typer

import refine_export as rx
from refine_export.cli.exit_codes import show
from refine_export.cli.render.print_files import print_inspection
from refine_export.cli.verbs.shared_options import JsonOption


def inspect(
    file: Annotated[
        Path,
        typer.Argument(help="A checkpoint, the name of released weights (rife-4.0, hdv3), an ONNX file or an engine."),
    ],
    as_json: JsonOption = False,
) -> None:
    """Inspect a file, print its description, and refuse an engine that the library here cannot run."""
    found = rx.inspect(file)
    show(found, as_json, print_inspection)
    found.check()
