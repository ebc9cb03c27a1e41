"""Find our models on a server: the graph, precision and weights of each, as its config gives them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from refine_export.artifacts import Artifact, Sizes
from refine_export.deploy.triton.names import (
    ARTIFACT_PARAMETER,
    CHECKPOINT_PARAMETER,
    ENSEMBLE,
    GRAPH_PARAMETER,
    NETWORK_PARAMETER,
    PRECISION_PARAMETER,
)
from refine_export.errors import RequestError
from refine_export.report.report_data import Shortfall
from refine_export.runners.triton.client import TritonClient
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.runners.triton.triton_runner import TritonRunner
from refine_export.signature import OLD_NAMES, SIGNATURES, FilePrecision, as_stated, fitting_size
from refine_export.support.text import size_text


@dataclass(frozen=True, kw_only=True)
class ServerModel:
    """A network's model on a server."""

    name: str
    version: str
    artifact: Artifact
    """Its artifact, as far as the config describes it."""
    sizes: tuple[tuple[int, int], ...]
    """Heights and widths that it is warmed up at."""
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ServerModels:
    """The models that are to be verified."""

    networks: tuple[ServerModel, ...]
    ensemble_network: ServerModel | None
    """The network that `interpolate` is made over; None where that model is absent or not asked for."""
    missing: tuple[Shortfall, ...]
    """Models that were asked for, or are in the repository, and cannot be compared."""


_NAMES = {*SIGNATURES, *OLD_NAMES}
"""Names of the models of our networks; the old ones are in repositories of earlier versions."""


def find_models(options: ServerOptions, names: Sequence[str], version: str) -> ServerModels:
    """Find our models on a server.

    Args:
        options: any one channel.
        names: names of models; empty for every refine-export model.
        version: version of the networks; empty for the newest.

    Raises:
        RequestError: `no-models`.
        UnavailableError: the server does not answer.
    """
    with TritonClient(options) as client:
        ready, unready = client.models(), client.unready()
        names = [name if name in ready else OLD_NAMES.get(name, name) for name in names]
        ours = [name for name in ready if name in names or (not names and _is_ours(client, name))]
        ensemble_over = _network_of_ensemble(client.config(ENSEMBLE)) if ENSEMBLE in ours else None
    reasons = {
        name: f"it is not ready: {unready.get(name, 'not there')}"
        for name in (names or [name for name in unready if name == ENSEMBLE or name in _NAMES])
        if name not in ready
    }
    if ENSEMBLE in ours and ensemble_over is None:
        reasons[ENSEMBLE] = "it is not made over one of our graphs"

    def read(name: str, of_version: str) -> ServerModel | None:
        try:
            with TritonRunner(options, name, of_version) as runner:
                return model_from_runner(runner)
        except RequestError as error:
            reasons[name] = str(error)
            return None

    networks = [model for name in ours if name != ENSEMBLE and (model := read(name, version)) is not None]
    ensemble_network = None if ensemble_over is None else read(ensemble_over, "")
    if not networks and ensemble_network is None and not reasons:
        raise RequestError(
            f"the server at {options.url} has none of {', '.join(SIGNATURES)} and {ENSEMBLE}; ready are: "
            f"{', '.join(ready) or 'no models'}",
            code="no-models",
            ready=tuple(ready),
        )
    missing = (Shortfall(what=name, status="not compared", reason=reason) for name, reason in reasons.items())
    return ServerModels(networks=tuple(networks), ensemble_network=ensemble_network, missing=tuple(missing))


def model_from_runner(runner: TritonRunner) -> ServerModel:
    """Read what a network's model is from its config and metadata.

    Raises:
        RequestError: `unknown-graph`, `unsupported-tensor` or `unsupported-size`.
    """
    _check_tensors(runner)
    assert runner.signature is not None  # checked above
    given = _parameters(runner.config)
    signature = as_stated(runner.signature, given)
    graph, unit = signature.graph, signature.multiple_of
    notes = []
    precision = given.get(PRECISION_PARAMETER, "")
    if precision not in get_args(FilePrecision):
        notes.append(f"{runner.model} has no {PRECISION_PARAMETER}: it is compared with the limits of FP32")
        precision = "fp32"
    if CHECKPOINT_PARAMETER not in given:
        notes.append(f"{runner.model} has no {CHECKPOINT_PARAMETER}: its weights are not known")
    stated = given.get(GRAPH_PARAMETER, graph)
    if OLD_NAMES.get(stated, stated) != graph:
        notes.append(f"{runner.model} has {GRAPH_PARAMETER} {stated!r}; its tensors are {graph}'s")
    sizes = []
    for size in dict.fromkeys(_warm_up_sizes(runner.config)):
        try:
            sizes.append(fitting_size(size_text(size), unit))
        except (ValueError, RequestError) as error:
            notes.append(f"{runner.model} is warmed up at a size that is left out: {error}")
    batch, _, height, width = (size if isinstance(size, int) else None for size in runner.inputs[0].shape)
    try:
        fitting_size(f"{height or unit}x{width or unit}", unit)
    except (ValueError, RequestError) as error:
        raise RequestError(f"{runner.model}: {error}", code="unsupported-size", model=runner.model) from error
    # With max_batch_size 1 the metadata has -1 for the batch, and still no other than 1 is taken.
    fixed = (1 if int(runner.config.get("max_batch_size", 0)) == 1 else batch, height, width)
    is_engine = runner.provider.startswith("tensorrt_plan")
    artifact = Artifact(
        graph=graph,
        file=runner.model,
        sha256=given.get(ARTIFACT_PARAMETER, ""),
        size_bytes=0,
        sizes=size_text(runner.inputs[0].shape),
        opset=0,
        precision=cast("FilePrecision", precision),
        nodes=0,
        reused=False,
        seconds=None,
        checkpoint_sha256=given.get(CHECKPOINT_PARAMETER),
        checkpoint="other weights" if CHECKPOINT_PARAMETER in given else None,
        fixed=fixed,
        takes_timestep=signature.takes_timestep,
        multiple_of=unit,
        scale=signature.scale,
        network=given.get(NETWORK_PARAMETER),
        engine=runner.provider if is_engine else None,
        profile=_profile(sizes, fixed[0] or 1) if is_engine and sizes else None,
    )
    return ServerModel(
        name=runner.model, version=runner.model_version, artifact=artifact, sizes=tuple(sizes), notes=tuple(notes)
    )


def _is_ours(client: TritonClient, name: str) -> bool:
    return name == ENSEMBLE or name in _NAMES or GRAPH_PARAMETER in _parameters(client.config(name))


def _network_of_ensemble(config: Mapping[str, Any]) -> str | None:
    steps = config.get("ensemble_scheduling", {}).get("step", [])
    return next((step["model_name"] for step in steps if step["model_name"] in _NAMES), None)


def _check_tensors(runner: TritonRunner) -> None:
    """Refuse a model whose tensors cannot be fed, so that it is not compared rather than failed."""
    infos = (*runner.inputs, *runner.outputs)
    signature = runner.signature
    if signature is None:
        raise RequestError(
            f"{runner.model} has the tensors {', '.join(info.name for info in infos)}; expected those of one of "
            f"{', '.join(SIGNATURES)}",
            code="unknown-graph",
            model=runner.model,
        )
    ranks = {spec.name: len(spec.shape) for spec in (*signature.inputs, *signature.outputs)}
    for info in infos:
        if len(info.shape) != ranks[info.name] or info.dtype not in ("float32", "float16"):
            raise RequestError(
                f"{runner.model} has {info.name} of {info.dtype} {list(info.shape)}; expected float32 or float16 of "
                f"{ranks[info.name]} dimensions",
                code="unsupported-tensor",
                model=runner.model,
            )


def _parameters(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters of a config, by name."""
    return {name: value.get("string_value", "") for name, value in config.get("parameters", {}).items()}


def _warm_up_sizes(config: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Return the height and width of the largest input of each sample."""
    sizes = []
    for sample in config.get("model_warmup", []):
        dims = [list(map(int, value.get("dims", []))) for value in sample.get("inputs", {}).values()]
        planes = [one for one in dims if len(one) >= 3]
        if planes:
            largest = max(planes, key=math.prod)
            sizes.append((largest[-2], largest[-1]))
    return sizes


def _profile(sizes: Sequence[tuple[int, int]], batch: int) -> tuple[Sizes, Sizes, Sizes]:
    """Return as much of an engine's profile as a server shows: it covers the sizes of the warm-up."""
    ordered = sorted(sizes)
    low, middle, high = ordered[0], ordered[len(ordered) // 2], ordered[-1]
    return (batch, *low), (batch, *middle), (batch, *high)
