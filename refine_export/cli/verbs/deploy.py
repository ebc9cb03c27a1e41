"""`deploy`: model repositories for inference servers, each step a command of its own."""

import typer

from refine_export.cli.verbs.deploy_check import check
from refine_export.cli.verbs.deploy_kserve import kserve
from refine_export.cli.verbs.deploy_triton import triton
from refine_export.cli.verbs.deploy_verify import verify

app = typer.Typer(
    name="deploy",
    help="Put artifacts on an inference server, and prove what it answers.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.command("triton")(triton)
app.command("check")(check)
app.command("kserve")(kserve)
app.command("verify")(verify)
