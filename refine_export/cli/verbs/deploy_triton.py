"""`deploy triton`: artifacts to a model repository."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from refine_export.cli.render.console import clean, escape
from refine_export.cli.verbs.finish import print_json
from refine_export.cli.verbs.shared_options import JsonOption


def triton(
    artifacts: Annotated[
        list[Path],
        typer.Argument(help="ONNX files and engines of the graphs; several of one graph are its versions."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The model repository to write.")],
    backend: Annotated[
        str, typer.Option("--backend", help="auto: plans by TensorRT, ONNX by ONNX Runtime; or python, for ONNX.")
    ] = "auto",
    device: Annotated[
        str, typer.Option("--device", help="gpu, cpu, or auto: a GPU where the server has one.")
    ] = "auto",
    accelerator: Annotated[
        str | None,
        typer.Option("--accelerator", help="Of ONNX Runtime on a GPU: none, cuda or tensorrt. Default: cuda."),
    ] = None,
    instances: Annotated[int, typer.Option("--instances", help="Copies of each model on each device.")] = 1,
    max_batch: Annotated[
        int | None,
        typer.Option("--max-batch", help="Pairs that the server may join. Default: the profile's largest, 8 for ONNX."),
    ] = None,
    preferred: Annotated[
        list[int] | None,
        typer.Option(
            "--preferred", help="A batch that is sent off at once; repeat. Default: what a plan is tuned for."
        ),
    ] = None,
    delay_us: Annotated[int, typer.Option("--delay-us", help="How long a request may wait for others.")] = 1000,
    size: Annotated[
        list[str] | None,
        typer.Option("--size", metavar="HxW", help="What ships and is warmed up; repeat. Default: 256x448, 1088x1920."),
    ] = None,
    version_policy: Annotated[
        str, typer.Option("--version-policy", help="Which versions are served: latest, all, or the number of one.")
    ] = "latest",
    graph_level: Annotated[
        int, typer.Option("--graph-level", help="Of ONNX Runtime: 0 all optimizations, 1 extended, -1 basic, 2 none.")
    ] = 0,
    threads: Annotated[int, typer.Option("--threads", help="Of ONNX Runtime on a CPU; 0: one a core.")] = 0,
    io: Annotated[
        str | None, typer.Option("--io", help="fp32 or fp16: images of a plan whose manifest does not say it.")
    ] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble/--no-ensemble", help="Add `interpolate`: pictures in, a picture out.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace a repository that is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a model repository for Triton Inference Server from ONNX files and engines."""
    from refine_export.deploy.triton.deploy_options import TritonOptions
    from refine_export.deploy.triton.repository import deploy_triton
    from refine_export.errors import RequestError

    values: dict[str, Any] = {
        "backend": backend,
        "device": device,
        "accelerator": accelerator,
        "instances": instances,
        "max_batch": max_batch,
        "preferred": tuple(preferred or ()),
        "delay_us": delay_us,
        "sizes": tuple(size or ()),
        "version_policy": version_policy,
        "graph_level": graph_level,
        "threads": threads,
        "io": io,
        "ensemble": ensemble,
    }
    try:
        options = TritonOptions(**values)
    except ValueError as error:
        raise RequestError(str(error), code="wrong-option") from error
    made = deploy_triton(artifacts, output, options, force=force)
    if as_json:
        print_json(made.to_dict())
        return
    _print(made.path, made.deployment, made.notes)


def _print(path: Path, deployment: Mapping[str, Any], notes: tuple[str, ...]) -> None:
    """A line for each model, and what to do next."""
    console = Console(highlight=False)

    def say(text: str) -> None:
        console.print(escape(text), soft_wrap=True)

    for model in deployment["models"]:
        versions = ", ".join(map(str, model["versions"]))
        said = [f"{model['backend']}, version {versions}"]
        if model.get("max_batch_size"):
            said.append(f"batches up to {model['max_batch_size']}")
        if sizes := model.get("warmed_up_at"):
            said.append(f"warmed up at {', '.join(sizes)}")
        say(f"{model['name']}: {'; '.join(said)}")
        for artifact in model.get("artifacts", ()):
            engine = artifact["engine"]
            for_what = f"TensorRT {engine['tensorrt']} on {engine['gpu']}" if engine else "ONNX"
            file = f"{model['name']}/{artifact['version']}/{artifact['file']}"
            say(f"  {file}: {for_what}, {artifact['precision']}, {artifact['sizes']}")
    for note in notes:
        say(f"note: {note}")
    size = sum(file["size_bytes"] for file in deployment["files"].values()) / 2**20
    say(f"{path}: {len(deployment['files']) + 1} files, {size:.1f} MiB")
    say(f"next: refine-export deploy check {clean(str(path))}; {path / 'README.md'} says how to start the server")
