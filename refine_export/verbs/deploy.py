"""`deploy`: model repositories for inference servers, each step a command of its own."""

import typer

app = typer.Typer(
    name="deploy",
    help="Put artifacts on an inference server, and prove what it answers.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
