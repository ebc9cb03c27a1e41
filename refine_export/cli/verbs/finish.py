"""What several verbs do: options into the recipe, results out, exit codes."""

import json
from pathlib import Path
from typing import Any

import typer

from refine_export.cli.render.console import print_report


def recipe_with_options(path: Path | None, **given: Any) -> Any:
    """The recipe with what the command line gave in its place."""
    from refine_export.jobs.recipe_file import chosen_recipe

    return chosen_recipe(path, **{_KEYWORDS.get(name, name): value for name, value in given.items()})


_KEYWORDS = {"target_psnr": "target_psnr_db"}


def require_from(given: list[str] | None) -> list[str] | None:
    """`--require ort,trt` and `--require ort --require trt` are the same."""
    return None if given is None else [name.strip() for text in given for name in text.split(",")]


def finish(report: dict[str, Any], folder: Path | None, as_json: bool) -> None:
    """Print a report and exit with its verdict's code."""
    if as_json:
        print_json(report)
    else:
        print_report(report, folder)
    codes = {"passed": 0, "failed": 1, "not compared": 3}
    raise typer.Exit(codes[report["status"]])


def print_json(content: Any) -> None:
    """Strict JSON on standard output."""
    typer.echo(json.dumps(content, indent=2, allow_nan=False))
