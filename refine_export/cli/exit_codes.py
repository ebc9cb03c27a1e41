"""Verdicts to exit codes: print a result, and exit with the code of its verdict; for errors see `cli.main`."""

import json
from collections.abc import Callable
from typing import Any

import typer

CODES = {"passed": 0, "failed": 1, "not compared": 3}


def show(result: Any, as_json: bool, render: Callable[[Any], None]) -> None:
    """Print a result, as JSON or by its renderer, and exit with the code of its verdict."""
    if as_json:
        print_json(result.to_dict())
    else:
        render(result)
    verdict = {None: "passed", True: "passed", False: "failed"}[getattr(result, "passed", None)]
    if code := CODES[getattr(result, "status", verdict)]:
        raise typer.Exit(code)


def print_json(content: Any) -> None:
    """Print strict JSON."""
    typer.echo(json.dumps(content, indent=2, allow_nan=False))
