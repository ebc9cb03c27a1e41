"""`export`: checkpoint to ONNX."""

from typing import Annotated, Any

import typer

from refine_export.cli.exit_codes import print_json
from refine_export.cli.render.console_progress import make_progress
from refine_export.cli.render.print_files import print_exported
from refine_export.cli.stage_options import stage_options
from refine_export.cli.verbs.shared_options import JsonOption, OwnForceOption, QuietOption, RecipeOption


@stage_options("checkpoint.path", "checkpoint.refine", "run.graphs", "export")
def export(
    recipe: RecipeOption = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="Folder for the ONNX files.")] = None,
    force: OwnForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Export each graph and print the files."""
    from refine_export.jobs.export_graphs import export_graphs  # needs onnx, which --help does not
    from refine_export.jobs.load_inputs import job_inputs

    inputs = job_inputs(recipe, make_progress(quiet or as_json), output=output, **options)
    files = export_graphs(inputs, force=force)
    if as_json:
        print_json([file.to_dict() for file in files])
    else:
        print_exported(files)
