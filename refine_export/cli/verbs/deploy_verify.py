"""`deploy verify`: what a running server answers, against the reference."""

from __future__ import annotations

from typing import Annotated

import typer

from refine_export.cli.render.console import make_progress
from refine_export.cli.verbs.finish import print_json, recipe_with_options
from refine_export.cli.verbs.shared_options import CheckpointOption, FramesOption, JsonOption, QuietOption, RecipeOption


def verify(
    url: Annotated[
        list[str],
        typer.Option("--url", metavar="HOST:PORT", help="The server's gRPC or HTTP port; repeat to give both."),
    ],
    protocol: Annotated[
        list[str] | None, typer.Option("--protocol", help="grpc, http; repeat for both. Default: both.")
    ] = None,
    shared_memory: Annotated[
        bool, typer.Option("--shared-memory", help="Also through shared memory, of a server on this machine.")
    ] = False,
    model: Annotated[
        list[str] | None, typer.Option("--model", metavar="NAME", help="Only this; repeat. Default: all of ours.")
    ] = None,
    version: Annotated[str, typer.Option("--version", metavar="N", help="Of the networks. Default: the newest.")] = "",
    checkpoint: CheckpointOption = None,
    frames: FramesOption = None,
    recipe: RecipeOption = None,
    size: Annotated[
        list[str] | None,
        typer.Option("--size", metavar="HxW", help="Also at this size; repeat. Default: what a model is warmed up at."),
    ] = None,
    concurrency: Annotated[
        list[int] | None, typer.Option("--concurrency", help="Clients at once; repeat. Default: 1 and 4.")
    ] = None,
    requests: Annotated[int, typer.Option("--requests", help="Of each measurement of speed; 0 for none.")] = 32,
    timeout: Annotated[float, typer.Option("--timeout", metavar="S", help="Seconds for one answer.")] = 60.0,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare what a running Triton server answers with the torch reference, and measure how fast it is."""
    from refine_export.cli.render.render_verify import print_verified
    from refine_export.jobs.verify_server import VerifyOptions, verify_server

    options = VerifyOptions(
        urls=tuple(url),
        protocols=tuple(dict.fromkeys(protocol or ("grpc", "http"))),  # type: ignore[arg-type]  # checked by the options
        shared_memory=shared_memory,
        models=tuple(model or ()),
        version=version,
        warm_up_sizes=size is None and recipe is None,
        concurrencies=tuple(concurrency or (1, 4)),
        requests=requests,
        timeout_s=timeout,
    )
    chosen = recipe_with_options(recipe, checkpoint=checkpoint, frames=frames, sizes=size)
    result = verify_server(chosen, options, make_progress(quiet or as_json))
    if as_json:
        print_json(result.as_json())
    else:
        print_verified(result)
    raise typer.Exit({"passed": 0, "failed": 1, "not compared": 3}[result.status])
