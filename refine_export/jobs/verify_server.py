"""`deploy verify`: compare a running Triton server with the reference, and measure its speed.

The networks get the feeds of validation and keep the limits of their graph and precision, over every channel; the
ensemble is judged in grey levels (see `verify_frames`). What cannot be compared is "not compared", never passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from refine_export.deploy.triton.names import ENSEMBLE
from refine_export.deploy.verify.channels import channels_of
from refine_export.deploy.verify.load_test import Load, measure_load
from refine_export.deploy.verify.server_models import ServerModel, find_models
from refine_export.deploy.verify.verify_frames import compare_frames
from refine_export.deploy.verify.verify_networks import compare_network
from refine_export.deploy.verify.verify_options import VerifyOptions
from refine_export.deploy.verify.verify_result import ModelComparison, Verified
from refine_export.errors import RequestError, UnavailableError
from refine_export.jobs.job_options import options_from_keywords, takes_options
from refine_export.jobs.load_inputs import AnyPath, JobInputs, job_inputs
from refine_export.jobs.recipe_file import AnyRecipe
from refine_export.report.report_data import Shortfall
from refine_export.runners.triton.client import TritonClient
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.support.progress import Progress
from refine_export.support.text import counted, size_text
from refine_export.validate.comparison import Status, overall


@takes_options(VerifyOptions)
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
        frames: two pictures to send. Defaults to the sample.
        sizes: HEIGHTxWIDTH to compare at beside the size of the frames.
        warm_up_sizes: compare at the sizes that each model is warmed up at instead; the default where neither sizes nor
            a recipe are given.
        recipe: Recipe object or path, with flows, timesteps and limits; explicit options override it.
        progress: receives each step.
        options: fields of `VerifyOptions`.

    Raises:
        RequestError: weights, frames or options cannot be used, or the server has none of our models.
        UnavailableError: no server answers, or a package is missing.
    """
    chosen = options_from_keywords(VerifyOptions, options)
    if warm_up_sizes is None:
        warm_up_sizes = recipe is None and sizes is None
    inputs = job_inputs(recipe, progress, checkpoint, frames, sizes=sizes)
    connection = ServerOptions(url=chosen.urls[0], timeout_s=chosen.timeout_s, patience_s=chosen.patience_s)
    _ = inputs.checkpoint  # loaded, or refused, before a server is asked
    with inputs.progress.step("look at the server") as say:
        channels, missing = channels_of(chosen.urls, chosen.protocols, connection, shared_memory=chosen.shared_memory)
        if not channels:
            raise UnavailableError("; ".join(one.reason for one in missing), code="no-server")
        models = find_models(channels[0], chosen.models, chosen.version)
        with TritonClient(channels[0]) as client:
            server = client.server()
        say(f"{server}: {', '.join(one.channel for one in channels)}")
    shortfalls = [*missing, *models.missing]
    compared: dict[str, ModelComparison] = {}
    for model in models.networks:
        if isinstance(checked := _checked(model.name, model, inputs), Shortfall):
            shortfalls.append(checked)
            continue
        validate = inputs.recipe.validate
        if warm_up_sizes:
            validate = replace(validate, sizes=tuple(map(size_text, model.sizes)))
        compared[model.name] = compare_network(
            checked, channels, inputs.network(model.artifact.scale), inputs.sources, validate, inputs.progress
        )
    described = {model.name: model for model in models.networks}
    if (network := models.ensemble_network) is not None:
        described.setdefault(network.name, network)
        if isinstance(checked := _checked(ENSEMBLE, network, inputs), Shortfall):
            shortfalls.append(checked)
        else:
            pair, reference = inputs.sources.first.pair, inputs.network(network.artifact.scale)
            compared[ENSEMBLE] = compare_frames(
                channels, checked, reference, pair, inputs.recipe.validate, inputs.progress
            )
    notes = [note for model in described.values() for note in model.notes]
    # The ensemble is what clients use; the networks are measured where there is none.
    measured = [ENSEMBLE] if ENSEMBLE in compared else list(compared)
    loads: list[Load] = []
    for name in measured if chosen.requests else ():
        version = "" if name == ENSEMBLE else described[name].version
        if any(answer.status != "passed" for answer in compared[name].answers):
            notes.append(f"the speed of {name} was not measured, because not all of its answers passed")
        elif compared[name].load_requests:
            loads += _loads(name, version, compared[name], channels, chosen, inputs.progress)
    answers = tuple(answer for comparison in compared.values() for answer in comparison.answers)
    statuses: list[Status] = [*(one.status for one in answers), *(one.status for one in shortfalls)]
    statuses += ["failed" if load.errors else "passed" for load in loads]
    return Verified(
        status=overall(statuses),
        server=server,
        channels={one.channel: one.url for one in channels},
        models={name: _description(model) for name, model in described.items()},
        answers=answers,
        loads=tuple(loads),
        shortfalls=tuple(shortfalls),
        notes=tuple(notes),
    )


def _checked(what: str, model: ServerModel, inputs: JobInputs) -> ServerModel | Shortfall:
    """Return a model with the padding of the reference, or why it cannot have the answers of these weights."""
    try:
        return replace(model, artifact=inputs.check_weights(Path(model.name), model.artifact))
    except RequestError as error:
        status: Status = "failed" if error.code == "other-weights" else "not compared"
        return Shortfall(what=what, status=status, reason=str(error))


def _loads(
    name: str,
    version: str,
    comparison: ModelComparison,
    channels: Sequence[ServerOptions],
    options: VerifyOptions,
    progress: Progress,
) -> Iterator[Load]:
    for channel in channels:
        for concurrency in options.concurrencies:
            with progress.step(f"measure {name} over {channel.channel}, {concurrency} at once") as say:
                load = measure_load(
                    channel,
                    name,
                    version,
                    comparison.load_requests,
                    comparison.size,
                    concurrency=concurrency,
                    requests=options.requests,
                )
                say(f"{load.per_second:.1f} a second, {counted(load.errors, 'error')}")
            yield load


def _description(model: ServerModel) -> dict[str, Any]:
    artifact = model.artifact
    return {
        "graph": artifact.graph,
        "version": model.version,
        "precision": artifact.precision,
        "sizes": artifact.sizes,
        "sha256": artifact.sha256,
        "checkpoint_sha256": artifact.checkpoint_sha256,
    }
