"""`score`: quality against the true middle frames of a data set."""

from pathlib import Path
from typing import Annotated, Any

import typer

import refine_export as rx
from refine_export.cli.exit_codes import show
from refine_export.cli.render.console_progress import make_progress
from refine_export.cli.render.print_figures import print_scores
from refine_export.cli.stage_options import stage_options
from refine_export.cli.verbs.shared_options import JsonOption, QuietOption, RecipeOption
from refine_export.score.score_options import ScoreOptions


@stage_options("checkpoint.path", "checkpoint.refine", ScoreOptions)
def score(
    data_set: Annotated[
        Path, typer.Argument(help="Folder of Vimeo90K, UCF101, SNU-FILM, Middlebury, or of folders of three pictures.")
    ],
    files: Annotated[
        list[Path] | None, typer.Argument(help="Interpolators to score beside torch: ONNX files and engines.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for score.json, score.html and a log to continue from."),
    ] = None,
    recipe: RecipeOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Score torch and files on a data set, and print the figures."""
    progress = make_progress(quiet or as_json)
    result = rx.score(data_set, files or (), output=output, recipe=recipe, progress=progress, **options)
    show(result, as_json, print_scores)
