"""`gate`: a report to an exit code, and the files that CI systems read."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

import refine_export as rx
from refine_export.cli.exit_codes import show
from refine_export.cli.render.console_progress import make_progress
from refine_export.cli.render.print_verdicts import print_gate, print_self_test
from refine_export.cli.stage_options import stage_options
from refine_export.cli.verbs.shared_options import JsonOption, QuietOption
from refine_export.errors import RequestError


@stage_options("run.require", "checkpoint.path")
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
    speed: Annotated[
        bool, typer.Option("--speed", help="Hold latency ratios in the baseline too; off, as shared runners are noisy.")
    ] = False,
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
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    checkpoint: str | None = None,
    require: list[str] | None = None,
) -> None:
    """Decide on a report, or try the limits on known-bad files, and print the verdict."""
    if self_test is not None:
        of_reports = {
            "a report": report,
            "--baseline": baseline,
            "--accept": accept or None,
            "--speed": speed or None,
            "--require": require,
        }
        given = [name for name, value in (of_reports | {"--junit": junit, "--markdown": markdown}).items() if value]
        if given:
            message = f"--self-test was given with {', '.join(given)}; it takes --checkpoint and --recipe only"
            raise RequestError(message, code="options-do-not-fit", options=tuple(given))
        from refine_export.jobs.self_test_file import self_test_file  # needs onnx, which --help does not

        progress = make_progress(quiet or as_json)
        tested = self_test_file(self_test, checkpoint=checkpoint, recipe=recipe, progress=progress)
        show(tested, as_json, print_self_test)
        return
    if checkpoint is not None:
        message = "--checkpoint is for --self-test; a report has been compared with its own already"
        raise RequestError(message, code="options-do-not-fit", options=("--checkpoint",))
    if report is None:
        raise RequestError(
            "no report was given; give the report.json of a run, or --self-test FILE.onnx", code="missing-argument"
        )
    options: dict[str, Any] = {} if require is None else {"require": require}
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    result = rx.gate(
        report,
        baseline=baseline,
        accept=accept,
        speed=speed,
        junit=junit,
        markdown=markdown,
        summary=summary,
        recipe=recipe,
        **options,
    )
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in result.annotations:
            typer.echo(line, err=as_json)
    show(result, as_json, print_gate)
