"""`lint`: what makes an ONNX file wrong."""

from pathlib import Path
from typing import Annotated

import typer

from refine_export.cli.render.console import print_findings
from refine_export.cli.verbs.finish import print_json
from refine_export.cli.verbs.shared_options import JsonOption


def lint(
    files: Annotated[list[Path], typer.Argument(help="ONNX files, from any tool.")], as_json: JsonOption = False
) -> None:
    """Find what makes an ONNX file wrong on TensorRT: nearest sampling, FP16 coordinates, baked-in sizes."""
    import dataclasses

    from refine_export.graph.linter import lint_file

    found = {str(file): lint_file(file) for file in files}
    if as_json:
        print_json({file: [dataclasses.asdict(finding) for finding in findings] for file, findings in found.items()})
    else:
        print_findings(found)
    if any(finding.severity == "error" for findings in found.values() for finding in findings):
        raise typer.Exit(1)
