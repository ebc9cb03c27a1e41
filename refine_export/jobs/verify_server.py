"""What a running Triton server answers, against the reference; and how fast.

    result = verify_server(Recipe(), VerifyOptions(urls=("localhost:8001",)))
    print(result.status)

The networks get the feeds of validation and keep the limits of their graph and precision, over every channel; the
ensemble is judged in grey levels (see `served_frames`). What can't be compared is "not compared", never passed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from refine_export.checkpoint.checkpoint import Checkpoint
from refine_export.deploy.triton.names import ENSEMBLE
from refine_export.deploy.verify.channels import Channel, channels_of
from refine_export.deploy.verify.load_test import Load, measure_load
from refine_export.deploy.verify.server_models import Served, find_models
from refine_export.deploy.verify.verify_frames import compare_frames
from refine_export.deploy.verify.verify_networks import compare_network
from refine_export.deploy.verify.verify_result import Compared, Verified, status_of_load
from refine_export.errors import RequestError, UnavailableError
from refine_export.export.reference_network import reference_network
from refine_export.jobs.load_inputs import check_same_weights, check_weights, load_checkpoint, load_sources
from refine_export.jobs.recipe import Recipe
from refine_export.report.data import Shortfall
from refine_export.runners.triton.client import TritonClient
from refine_export.runners.triton.connection_options import Protocol, ServerOptions
from refine_export.support.progress import Progress, Silent
from refine_export.validate.comparison import overall


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """Which server, what of it, and how hard it is asked."""

    urls: tuple[str, ...]
    """HOST:PORT, one or several of one server."""
    protocols: tuple[Protocol, ...] = ("grpc", "http")
    shared_memory: bool = False
    """Also through shared memory."""
    models: tuple[str, ...] = ()
    """Names; without, all of ours that the server has."""
    version: str = ""
    """Of the networks; without, the newest."""
    warm_up_sizes: bool = True
    """Beside the size of the frames, compare at those that each model is warmed up at; else at the recipe's."""
    concurrencies: tuple[int, ...] = (1, 4)
    """How many clients ask at once."""
    requests: int = 32
    """Of each measurement; 0 for none."""
    timeout_s: float = 60.0
    patience_s: float = 5.0

    def __post_init__(self) -> None:
        if not self.urls:
            raise RequestError("no server is given; expected HOST:PORT, such as localhost:8001")
        try:
            for url in self.urls:
                ServerOptions(url=url, timeout_s=self.timeout_s, patience_s=self.patience_s)
        except ValueError as error:
            raise RequestError(str(error), code="wrong-option") from error
        if not self.protocols or set(self.protocols) - {"grpc", "http"}:
            raise RequestError(f"protocols are {', '.join(self.protocols) or 'none'}; expected grpc, http or both")
        if not all(1 <= one <= 256 for one in self.concurrencies):
            raise RequestError(f"concurrency is {list(self.concurrencies)}; expected numbers from 1 to 256")
        if not 0 <= self.requests <= 100_000:
            raise RequestError(f"requests are {self.requests}; expected 0 to 100000")
        if self.version and not self.version.isdecimal():
            raise RequestError(f"version is {self.version!r}; expected a number")


def verify_server(recipe: Recipe, options: VerifyOptions, progress: Progress | None = None) -> Verified:
    """Compare what a server answers with FP32 torch, and measure its latency.

    Args:
        recipe: weights, frames, flows, timesteps and limits.
        options: of this job.
        progress: told of each step.

    Raises:
        RequestError: weights, frames or options can't be used, or the server has none of our models.
        UnavailableError: no server answers, or a package is missing.
    """
    progress = progress or Silent()
    template = ServerOptions(url=options.urls[0], timeout_s=options.timeout_s, patience_s=options.patience_s)
    checkpoint = load_checkpoint(recipe, progress)
    with progress.step("look at the server") as say:
        channels, missing = channels_of(options.urls, options.protocols, template, shared_memory=options.shared_memory)
        if not channels:
            raise UnavailableError("; ".join(one.reason for one in missing))
        found = find_models(channels[0].options, options.models, options.version)
        with TritonClient(channels[0].options) as client:
            server = client.server()
        say(f"{server}: {', '.join(channel.name for channel in channels)}")
    sources = load_sources(recipe, progress)
    network = functools.cache(lambda: reference_network(checkpoint))
    shortfalls = [*missing, *found.missing]
    compared: dict[str, Compared] = {}
    for served in found.networks:
        if (wrong := _other_weights(served.name, served, checkpoint)) is not None:
            shortfalls.append(wrong)
            continue
        chosen = recipe.validate
        if options.warm_up_sizes:
            chosen = replace(chosen, sizes=tuple(f"{height}x{width}" for height, width in served.sizes))
        compared[served.name] = compare_network(served, channels, network(), sources, chosen, progress)
    if found.behind is not None:
        if (wrong := _other_weights(ENSEMBLE, found.behind, checkpoint)) is not None:
            shortfalls.append(wrong)
        else:
            pair = sources.first.pair
            compared[ENSEMBLE] = compare_frames(channels, found.behind, network(), pair, recipe.validate, progress)
    versions = {served.name: served.version for served in found.networks}
    behind = [found.behind] if found.behind is not None and found.behind.name not in versions else []
    described = [*found.networks, *behind]
    notes = [note for served in described for note in served.notes]
    loads = tuple(_loads(compared, versions, channels, options, progress, notes))
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


def _other_weights(what: str, served: Served, checkpoint: Checkpoint) -> Shortfall | None:
    """Why a model can't have the answers of these weights; None where it can."""
    path = Path(served.name)
    try:
        check_weights(path, served.artifact, checkpoint)
    except RequestError as error:
        return Shortfall(what=what, status="not compared", reason=str(error))
    try:
        check_same_weights(path, served.artifact, checkpoint)
    except RequestError as error:
        return Shortfall(what=what, status="failed", reason=str(error))
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
