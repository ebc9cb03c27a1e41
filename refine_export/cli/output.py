"""Results to standard output, verdicts to exit codes, and texts of others that cannot steer the terminal."""

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


def clean(text: str) -> str:
    """Return a text without control characters, which could steer the terminal.

    Lines after the first are indented, so that none of them looks like one of this tool's own.
    """
    cleaned = "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)
    return cleaned.replace("\n", "\n    ")


def print_json(content: Any) -> None:
    """Print strict JSON."""
    typer.echo(json.dumps(content, indent=2, allow_nan=False))
