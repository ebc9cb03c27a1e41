"""`run`: the main job."""

from typing import Any

import refine_export as rx
from refine_export.cli.exit_codes import show
from refine_export.cli.render.console_progress import make_progress
from refine_export.cli.render.print_verdicts import print_report
from refine_export.cli.stage_options import stage_options
from refine_export.cli.verbs.shared_options import JsonOption, OwnForceOption, QuietOption, RecipeOption


@stage_options(
    *("frames.pair", "frames.sample", "checkpoint.path", "checkpoint.refine", "run.graphs"),
    *("export.dynamic", "export.scale", "run.output", "run.require"),
)
def run(
    recipe: RecipeOption = None,
    force: OwnForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Run the main job and print its report."""
    show(rx.run(recipe=recipe, force=force, progress=make_progress(quiet or as_json), **options), as_json, print_report)
