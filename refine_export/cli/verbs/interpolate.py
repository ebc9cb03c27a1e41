"""`interpolate`: frames between two pictures, or between those of a video."""

import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import refine_export as rx
from refine_export.cli.exit_codes import print_json, show
from refine_export.cli.render.console_progress import JsonProgress, make_progress
from refine_export.cli.render.print_files import print_description
from refine_export.cli.render.screen import Screen
from refine_export.cli.stage_options import stage_options
from refine_export.cli.verbs.shared_options import ForceOption, JsonOption, QuietOption
from refine_export.errors import RequestError
from refine_export.interpolation.interpolation_options import (
    ComputeOptions,
    EncoderOptions,
    PictureOptions,
    VideoOptions,
)
from refine_export.jobs.job_options import options_from_keywords, part_of
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.support.text import clean

PIPE = Path("-")


@stage_options(PictureOptions, VideoOptions, EncoderOptions, ComputeOptions, ServerOptions)
def interpolate(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Two pictures; or one video: a file, an animation, a folder of frames, frame_%05d.png, or - for "
            "YUV4MPEG from standard input.",
            metavar="A B | VIDEO",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="A .png for two pictures; for a video .mp4, .mov, .mkv or .webm, frame_%05d.png, .apng or .gif, or - "
            "for YUV4MPEG on standard output; a folder for a folder of videos.",
        ),
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
    progress: Annotated[
        str,
        typer.Option(
            "--progress", metavar="text|json", help="How progress is shown on standard error; json: an object a line."
        ),
    ] = "text",
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Make the frame between two pictures, or put frames between those of a video."""
    connection = part_of(options, ServerOptions)
    if server is None and connection:
        raise RequestError(
            "--protocol, --timeout and --patience are options of a --server; give it with them",
            code="options-do-not-fit",
        )
    if server is not None:
        options["server"] = options_from_keywords(ServerOptions, {"url": server} | connection)
    if progress not in ("text", "json"):
        raise RequestError(f"progress is {progress!r}; expected text or json", code="wrong-option", option="progress")
    if output == PIPE and hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # the end of who reads the pipe becomes an error with its code
    common: dict[str, Any] = {
        "force": force,
        "progress": JsonProgress() if progress == "json" else make_progress(quiet or as_json),
        "on_wait": None if quiet or as_json else _tell,
        **{name: value for name, value in options.items() if name not in connection},
    }
    try:
        if len(inputs) == 1 and inputs[0].is_dir() and not output.suffix and output != PIPE:
            results = rx.interpolate_folder(inputs[0], output=output, **common)
            if as_json:
                print_json([result.to_dict() for result in results])
            else:
                for result in results:
                    _print(result)
            return
        result = rx.interpolate(inputs, output=output, **common)
    except KeyboardInterrupt as error:
        _tell(str(error))  # what there is, and how to go on
        raise
    if output != PIPE:
        show(result, as_json, _print)
    elif not (quiet or as_json):  # standard output has the frames
        for note in result.notes:
            _tell(f"note: {note}")


def _print(result: Any) -> None:
    found = result.to_dict()
    notes = {f"note {number}": note for number, note in enumerate(found.pop("notes"), 1)}
    description = {name.replace("_", " "): value for name, value in found.items() if value != 0} | notes
    print_description(Screen(), description)


def _tell(line: str) -> None:
    sys.stderr.write(f"{clean(line)}\n" if line else "")  # what shows the progress on a terminal sets it above
    sys.stderr.flush()
