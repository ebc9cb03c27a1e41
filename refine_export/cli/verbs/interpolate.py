"""`interpolate`: frames between two pictures, or between those of a video."""

import sys
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

import refine_export as rx
from refine_export.cli.exit_codes import show
from refine_export.cli.render.console_progress import make_progress
from refine_export.cli.render.print_files import print_description
from refine_export.cli.verbs.shared_options import ForceOption, JsonOption, QuietOption
from refine_export.errors import RequestError
from refine_export.runners.runtime_names import Runtime
from refine_export.support.text import clean


def _video(flag: str, explanation: str, metavar: str | None = None) -> Any:
    return typer.Option(flag, metavar=metavar, help=explanation, rich_help_panel="Video")


def _compute(flag: str, explanation: str, metavar: str | None = None) -> Any:
    return typer.Option(flag, metavar=metavar, help=explanation, rich_help_panel="What computes: one of three")


def _server(flag: str, explanation: str, metavar: str | None = None) -> Any:
    return typer.Option(flag, metavar=metavar, help=explanation, rich_help_panel="Server")


def interpolate(
    inputs: Annotated[list[Path], typer.Argument(help="Two pictures, or one video.", metavar="A B | VIDEO")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A .png for pictures; .mp4, .mov, .mkv or .webm for a video.")
    ],
    timestep: Annotated[
        float | None, typer.Option("--timestep", help="Time of the frame between two pictures, 0 to 1. Default: 0.5.")
    ] = None,
    times: Annotated[int | None, _video("--times", "Frames for one of the video, 2 to 64. Default: 2.")] = None,
    scene_cut: Annotated[
        float | None,
        _video("--scene-cut", "Under this similarity the earlier frame is repeated. Default: 0.2.", "0-1"),
    ] = None,
    scene_cuts: Annotated[
        bool | None, _video("--scene-cuts/--no-scene-cuts", "Look for scene cuts. Default: yes.")
    ] = None,
    audio: Annotated[bool | None, _video("--audio/--no-audio", "Copy the sound. Default: yes.")] = None,
    codec: Annotated[
        str | None,
        _video("--codec", "libx264, libx265, libvpx-vp9 or ffv1. Default: libx264, for .webm libvpx-vp9."),
    ] = None,
    crf: Annotated[int | None, _video("--crf", "Quality, lower is better. Default: 18 for libx264.")] = None,
    checkpoint: Annotated[
        Path | None,
        _compute("--checkpoint", "A weights file for torch, or rife-4.0 or hdv3. Default: the demo weights."),
    ] = None,
    device: Annotated[
        str | None, _compute("--device", "Device that torch computes on, such as cuda:0. Default: cpu.")
    ] = None,
    file: Annotated[Path | None, _compute("--file", "An ONNX file or an engine that makes frames.")] = None,
    runtime: Annotated[
        str | None,
        _compute("--runtime", f"For an ONNX file: {', '.join(get_args(Runtime))}. Default: by the file's types."),
    ] = None,
    allow_host_code: Annotated[
        bool, _compute("--allow-host-code", "Run an engine that brings code for this host; trust it first.")
    ] = False,
    server: Annotated[
        str | None, _compute("--server", "A Triton server with the ensemble `interpolate`.", "HOST:PORT")
    ] = None,
    protocol: Annotated[str | None, _server("--protocol", "grpc or http. Default: grpc.")] = None,
    timeout: Annotated[float | None, _server("--timeout", "Seconds for one request. Default: 30.")] = None,
    patience: Annotated[
        float | None, _server("--patience", "Seconds to wait for a server that is away. Default: 60.")
    ] = None,
    concurrency: Annotated[int | None, _server("--concurrency", "Most requests at a time. Default: 4.")] = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make the frame between two pictures, or put frames between those of a video."""
    of_servers = {"protocol": protocol, "timeout_s": timeout, "patience_s": patience}
    asked: dict[str, Any] = {name: value for name, value in of_servers.items() if value is not None}
    if server is None and (asked or concurrency is not None):
        raise RequestError(
            "--protocol, --timeout, --patience and --concurrency are options of a --server; give it with them",
            code="options-do-not-fit",
        )
    try:
        served = None if server is None else rx.ServerOptions(url=server, **asked)
    except ValueError as error:
        raise RequestError(str(error), code="wrong-option") from error
    result = rx.interpolate(
        inputs,
        output=output,
        checkpoint=checkpoint,
        file=file,
        server=served,
        runtime=runtime,
        device=device,
        allow_host_code=allow_host_code,
        concurrency=concurrency,
        timestep=timestep,
        times=times,
        scene_cut=scene_cut,
        scene_cuts=scene_cuts,
        audio=audio,
        codec=codec,
        crf=crf,
        force=force,
        progress=make_progress(quiet or as_json),
        on_wait=None if quiet or as_json else _tell,
    )
    show(result, as_json, _print)


def _print(result: Any) -> None:
    found = result.to_dict()
    notes = {f"note {number}": note for number, note in enumerate(found.pop("notes"), 1)}
    print_description({name.replace("_", " "): value for name, value in found.items() if value != 0} | notes)


def _tell(line: str) -> None:
    sys.stderr.write(f"{clean(line)}\n")  # what shows the progress on a terminal sets it above
    sys.stderr.flush()
