"""`deploy verify`: compare the answers of a running server with the reference."""

from typing import Any

from refine_export.cli.exit_codes import show
from refine_export.cli.render.console_progress import make_progress
from refine_export.cli.render.print_verdicts import print_verified
from refine_export.cli.stage_options import stage_options
from refine_export.cli.verbs.shared_options import JsonOption, QuietOption, RecipeOption
from refine_export.deploy.verify.verify_options import VerifyOptions


@stage_options("checkpoint.path", "frames.pair", "validate.sizes", VerifyOptions)
def deploy_verify(
    recipe: RecipeOption = None, quiet: QuietOption = False, as_json: JsonOption = False, **options: Any
) -> None:
    """Verify a server and print what it answered."""
    from refine_export.jobs.verify_server import verify_server  # needs onnx, which --help does not

    show(verify_server(recipe=recipe, progress=make_progress(quiet or as_json), **options), as_json, print_verified)
