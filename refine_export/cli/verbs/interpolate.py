"""`interpolate`: frames between two pictures, or between those of a video."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import refine_export as rx
from refine_export.cli.exit_codes import show
from refine_export.cli.render.console_progress import make_progress
from refine_export.cli.render.print_files import print_description
from refine_export.cli.stage_options import stage_options_of
from refine_export.cli.verbs.shared_options import ForceOption, JsonOption, QuietOption
from refine_export.errors import RequestError
from refine_export.interpolation import interpolation_options as options_of
from refine_export.jobs.job_options import options_from_keywords, part_of
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.support.text import clean


@stage_options_of(
    options_of.PictureOptions,
    options_of.VideoOptions,
    options_of.EncoderOptions,
    options_of.ComputeOptions,
    ServerOptions,
)
def interpolate(
    inputs: Annotated[list[Path], typer.Argument(help="Two pictures, or one video.", metavar="A B | VIDEO")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A .png for pictures; .mp4, .mov, .mkv or .webm for a video.")
    ],
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="HOST:PORT",
            help="A Triton server with the ensemble `interpolate`.",
            rich_help_panel="What computes: one of three",
        ),
    ] = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Make the frame between two pictures, or put frames between those of a video."""
    connection = part_of(options, ServerOptions)
    if server is None and (connection or "concurrency" in options):
        raise RequestError(
            "--protocol, --timeout, --patience and --concurrency are options of a --server; give it with them",
            code="options-do-not-fit",
        )
    if server is not None:
        options["server"] = options_from_keywords(ServerOptions, {"url": server} | connection)
    result = rx.interpolate(
        inputs,
        output=output,
        force=force,
        progress=make_progress(quiet or as_json),
        on_wait=None if quiet or as_json else _tell,
        **{name: value for name, value in options.items() if name not in connection},
    )
    show(result, as_json, _print)


def _print(result: Any) -> None:
    found = result.to_dict()
    notes = {f"note {number}": note for number, note in enumerate(found.pop("notes"), 1)}
    print_description({name.replace("_", " "): value for name, value in found.items() if value != 0} | notes)


def _tell(line: str) -> None:
    sys.stderr.write(f"{clean(line)}\n")  # what shows the progress on a terminal sets it above
    sys.stderr.flush()
