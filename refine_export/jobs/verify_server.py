"""`deploy verify`: what a running Triton server answers, against the reference; and how fast.

The networks get the feeds of validation and keep the limits of their graph and precision, over every channel; the
ensemble is judged in grey levels (see `verify_frames`). What cannot be compared is "not compared", never passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from refine_export.deploy.triton.names import ENSEMBLE
from refine_export.deploy.verify.channels import Channel, channels_of
from refine_export.deploy.verify.load_test import Load, measure_load
from refine_export.deploy.verify.server_models import Served, find_models
from refine_export.deploy.verify.verify_frames import compare_frames
from refine_export.deploy.verify.verify_networks import compare_network
from refine_export.deploy.verify.verify_result import Compared, Verified, status_of_load
from refine_export.errors import RequestError, UnavailableError
from refine_export.jobs.load_inputs import AnyPath, JobInputs, job_inputs
from refine_export.jobs.option_table import made_from, takes_options_of
from refine_export.jobs.recipe_file import AnyRecipe
from refine_export.jobs.verify_options import VerifyOptions
from refine_export.report.data import Shortfall
from refine_export.runners.triton.client import TritonClient
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.support.progress import Progress
from refine_export.validate.comparison import Status, overall


@takes_options_of(VerifyOptions)
def verify_server(
    *,
    checkpoint: AnyPath | None = None,
    frames: tuple[AnyPath, AnyPath] | None = None,
    sizes: Sequence[str] | None = None,
    warm_up_sizes: bool | None = None,
    recipe: AnyRecipe = None,
    progress: Progress | None = None,
    **options: Any,
) -> Verified:
    """Compare what a server answers with FP32 torch, and measure its latency.

    Args:
        checkpoint: the weights of the reference.
        frames: two pictures to ask with; without, a procedural scene.
        sizes: HEIGHTxWIDTH to compare at beside the size of the frames.
        warm_up_sizes: compare at the sizes that each model is warmed up at instead; the default where neither sizes nor
            a recipe are given.
        recipe: a recipe, or its file, with flows, timesteps and limits; other options win over it.
        progress: receives each step.
        options: fields of `VerifyOptions`.

    Raises:
        RequestError: weights, frames or options cannot be used, or the server has none of our models.
        UnavailableError: no server answers, or a package is missing.
    """
    asked = made_from(VerifyOptions, options)
    if warm_up_sizes is None:
        warm_up_sizes = recipe is None and sizes is None
    inputs = job_inputs(recipe, progress, checkpoint, frames, sizes=sizes)
    template = ServerOptions(url=asked.urls[0], timeout_s=asked.timeout_s, patience_s=asked.patience_s)
    _ = inputs.checkpoint  # loaded, or refused, before a server is asked
    with inputs.progress.step("look at the server") as say:
        channels, missing = channels_of(asked.urls, asked.protocols, template, shared_memory=asked.shared_memory)
        if not channels:
            raise UnavailableError("; ".join(one.reason for one in missing), code="server-unavailable")
        found = find_models(channels[0].options, asked.models, asked.version)
        with TritonClient(channels[0].options) as client:
            server = client.server()
        say(f"{server}: {', '.join(channel.name for channel in channels)}")
    shortfalls = [*missing, *found.missing]
    compared: dict[str, Compared] = {}
    chosen = inputs.recipe.validate
    for served in found.networks:
        if (wrong := _other_weights(served.name, served, inputs)) is not None:
            shortfalls.append(wrong)
            continue
        if warm_up_sizes:
            chosen = replace(chosen, sizes=tuple(f"{height}x{width}" for height, width in served.sizes))
        compared[served.name] = compare_network(
            served, channels, inputs.network, inputs.sources, chosen, inputs.progress
        )
    if found.behind is not None:
        if (wrong := _other_weights(ENSEMBLE, found.behind, inputs)) is not None:
            shortfalls.append(wrong)
        else:
            compared[ENSEMBLE] = compare_frames(
                channels,
                found.behind,
                inputs.network,
                inputs.sources.first.pair,
                inputs.recipe.validate,
                inputs.progress,
            )
    versions = {served.name: served.version for served in found.networks}
    behind = [found.behind] if found.behind is not None and found.behind.name not in versions else []
    described = [*found.networks, *behind]
    notes = [note for served in described for note in served.notes]
    loads = tuple(_loads(compared, versions, channels, asked, inputs.progress, notes))
    answers = tuple(answer for one in compared.values() for answer in one.answers)
    statuses = [*(one.status for one in answers), *map(status_of_load, loads), *(one.status for one in shortfalls)]
    return Verified(
        status=overall(statuses),
        server=server,
        channels={channel.name: channel.options.url for channel in channels},
        models={served.name: _described(served) for served in described},
        answers=answers,
        loads=loads,
        shortfalls=tuple(shortfalls),
        notes=tuple(notes),
    )


def _other_weights(what: str, served: Served, inputs: JobInputs) -> Shortfall | None:
    """Return why a model cannot have the answers of these weights; None where it can."""
    try:
        inputs.check_weights(Path(served.name), served.artifact)
    except RequestError as error:
        status: Status = "failed" if error.code == "other-weights" else "not compared"
        return Shortfall(what=what, status=status, reason=str(error))
    return None


def _loads(
    compared: dict[str, Compared],
    versions: dict[str, str],
    channels: Sequence[Channel],
    options: VerifyOptions,
    progress: Progress,
    notes: list[str],
) -> Iterator[Load]:
    """Of the ensemble, which is what people ask; of the networks where there is none. What failed is not measured."""
    for name in [ENSEMBLE] if ENSEMBLE in compared else compared:
        one = compared[name]
        if not options.requests or not one.questions:
            continue
        if any(answer.status != "passed" for answer in one.answers):
            notes.append(f"the speed of {name} was not measured, because not all of its answers passed")
            continue
        for channel in channels:
            for concurrency in options.concurrencies:
                with progress.step(f"measure {name} over {channel.name}, {concurrency} at once") as say:
                    load = measure_load(
                        channel.options,
                        channel.name,
                        name,
                        versions.get(name, ""),
                        one.questions,
                        one.size,
                        concurrency=concurrency,
                        requests=options.requests,
                    )
                    say(f"{load.per_second:.1f} a second, {load.errors} errors")
                yield load


def _described(served: Served) -> dict[str, Any]:
    artifact = served.artifact
    return {
        "graph": artifact.graph,
        "version": served.version,
        "precision": artifact.precision,
        "sizes": artifact.sizes,
        "sha256": artifact.sha256,
        "checkpoint_sha256": artifact.checkpoint_sha256,
    }
