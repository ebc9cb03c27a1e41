"""`gate`: a report to an exit code, and the files that CI systems read."""

import os
from pathlib import Path
from typing import Annotated

import typer

from refine_export.cli.render.console import make_progress
from refine_export.cli.verbs.finish import print_json, recipe_with_options, require_from
from refine_export.cli.verbs.shared_options import CheckpointOption, JsonOption, QuietOption, RequireOption
from refine_export.errors import RequestError

CODES = {"passed": 0, "failed": 1, "not compared": 3}


def gate(
    report: Annotated[
        Path | None, typer.Argument(help="report.json of `run` or `validate --report`.", show_default=False)
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="Its limits hold, in place of those that the report was made with.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", metavar="FILE", help="Fail where accuracy is worse than in this file.")
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Write what is new or better to the baseline, if the gate passes.")
    ] = False,
    require: RequireOption = None,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML.")] = None,
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", metavar="FILE", help="Write a summary; also to $GITHUB_STEP_SUMMARY, where set."),
    ] = None,
    self_test: Annotated[
        Path | None,
        typer.Option(
            "--self-test", metavar="ONNX", help="Prove that the limits fail known-bad versions of this file instead."
        ),
    ] = None,
    checkpoint: CheckpointOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Decide on a report by limits and a baseline: exit code, JUnit XML, Markdown; or prove that it can fail."""
    if self_test is not None:
        others = {"a report": report, "--baseline": baseline, "--accept": accept or None, "--require": require} | {
            "--junit": junit,
            "--markdown": markdown,
        }
        if given := [name for name, value in others.items() if value is not None]:
            raise RequestError(
                f"--self-test was given with {', '.join(given)}; it takes --checkpoint and --recipe only"
            )
        _prove(self_test, recipe, checkpoint, quiet=quiet, as_json=as_json)
        return
    if checkpoint is not None:
        raise RequestError("--checkpoint is for --self-test; a report has been compared with its own already")
    if report is None:
        raise RequestError("no report was given; give the report.json of a run, or --self-test FILE.onnx")
    _decide(report, recipe, baseline, require, junit, markdown, accept=accept, as_json=as_json)


def _decide(
    report: Path,
    recipe: Path | None,
    baseline: Path | None,
    require: list[str] | None,
    junit: Path | None,
    markdown: Path | None,
    *,
    accept: bool,
    as_json: bool,
) -> None:
    from refine_export.cli.render.render_gate import print_gate
    from refine_export.jobs.gate_report import gate as decided

    chosen = recipe_with_options(recipe, require=require_from(require))
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    result = decided(
        report,
        options=None if recipe is None else chosen.validate,
        require=chosen.run.require,
        baseline=baseline,
        accept=accept,
        junit=junit,
        markdown=markdown,
        summary=Path(summary) if summary is not None else None,
    )
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in result.annotations:
            typer.echo(line, err=as_json)
    if as_json:
        print_json(result.to_dict())
    else:
        print_gate(result)
    raise typer.Exit(CODES[result.status])


def _prove(file: Path, recipe: Path | None, checkpoint: Path | None, *, quiet: bool, as_json: bool) -> None:
    from refine_export.cli.render.render_gate import print_self_test
    from refine_export.jobs.prove_gate import prove

    chosen = recipe_with_options(recipe, checkpoint=checkpoint)
    tested = prove(file, chosen, make_progress(quiet or as_json))
    if as_json:
        print_json(tested.to_dict())
    else:
        print_self_test(tested)
    raise typer.Exit(CODES[tested.status])
