"""`inspect`: what a file is."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from refine_export.cli.render.console import print_description
from refine_export.cli.render.render_engine import print_plan
from refine_export.cli.verbs.finish import print_json
from refine_export.cli.verbs.shared_options import JsonOption


def inspect(
    file: Annotated[Path, typer.Argument(help="A checkpoint, an ONNX file or an engine.")], as_json: JsonOption = False
) -> None:
    """Show what a checkpoint, an ONNX file or an engine is: architecture, parameters, types, hash, ranges, machine."""
    from refine_export.engine.plan import meant_as_plan
    from refine_export.graph.model_file import seems_onnx

    show: Callable[[Mapping[str, Any]], None] = print_description
    if meant_as_plan(file):
        from refine_export.engine import plan

        description, show = plan.describe(file), print_plan
    elif seems_onnx(file):
        from refine_export import artifacts as onnx_file

        description = onnx_file.describe(file)
    else:
        from refine_export.checkpoint import checkpoint

        description = checkpoint.describe(checkpoint.checkpoint_from_file(file))
    if as_json:
        print_json(description)
    else:
        show(description)
