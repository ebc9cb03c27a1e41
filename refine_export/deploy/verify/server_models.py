"""What a server has of our models: which graph, precision and weights each one says it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from refine_export.artifacts import Artifact, Sizes
from refine_export.deploy.triton.names import (
    ARTIFACT_PARAMETER,
    CHECKPOINT_PARAMETER,
    ENSEMBLE,
    GRAPH_PARAMETER,
    PRECISION_PARAMETER,
)
from refine_export.errors import RequestError
from refine_export.report.data import Shortfall
from refine_export.runners.triton.client import ServerOptions, TritonClient
from refine_export.runners.triton.triton_runner import TritonRunner
from refine_export.signature import MULTIPLE_OF, SIGNATURES, FilePrecision, Signature, parse_size
from refine_export.support.text import size_text

MOST_PIXELS = 2176 * 3840
"""Of a size that a server names: the memory that it takes is this machine's."""
MOST_PAIRS = 64
"""Of a batch that a server names."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """A network's model."""

    name: str
    version: str
    artifact: Artifact
    """What it says it is; what a server does not say is empty."""
    sizes: tuple[tuple[int, int], ...]
    """Height and width that it is warmed up at."""
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Found:
    """All that is to be verified."""

    networks: tuple[Served, ...]
    behind: Served | None
    """The network that `interpolate` is made over; None where that model is not there, or not asked for."""
    missing: tuple[Shortfall, ...]
    """What was asked for, or lies in the repository, and is not ready."""


def find_models(options: ServerOptions, wanted: Sequence[str], version: str) -> Found:
    """Look at a server.

    Args:
        options: any one channel.
        wanted: names of models; empty for all of ours.
        version: of the networks; empty for the newest.

    Raises:
        RequestError: none of the server's models is one of ours.
        UnavailableError: the server stays away.
    """
    with TritonClient(options) as client:
        ready, unready = client.models(), client.unready()
        ours = [name for name in ready if name in wanted or (not wanted and _is_ours(client, name))]
        over = _behind(client.config(ENSEMBLE)) if ENSEMBLE in ours else None
    missing = [
        Shortfall(what=name, status="not compared", reason=f"it is not ready: {unready.get(name, 'not there')}")
        for name in (wanted or [name for name in unready if name == ENSEMBLE or name in SIGNATURES])
        if name not in ready
    ]
    if ENSEMBLE in ours and over is None:
        missing.append(Shortfall(what=ENSEMBLE, status="not compared", reason="it is made over none of our graphs"))

    def served(name: str, of_version: str) -> Served | None:
        try:
            with TritonRunner(options, name, of_version) as runner:
                return served_from_runner(runner)
        except RequestError as error:
            missing.append(Shortfall(what=name, status="not compared", reason=str(error)))
            return None

    networks = [found for name in ours if name != ENSEMBLE and (found := served(name, version)) is not None]
    behind = None if over is None else served(over, "")
    if not networks and behind is None and not missing:
        raise RequestError(
            f"the server at {options.url} has none of {', '.join(SIGNATURES)} and {ENSEMBLE}; ready are: "
            f"{', '.join(ready) or 'no models'}"
        )
    return Found(networks=tuple(networks), behind=behind, missing=tuple(missing))


def served_from_runner(runner: TritonRunner) -> Served:
    """What a network's model says of itself.

    Raises:
        RequestError: its inputs and outputs are those of none of the five graphs, or for one size that can't be fed.
    """
    if runner.graph is None:
        names = [info.name for info in (*runner.inputs, *runner.outputs)]
        raise RequestError(f"{runner.model} has the tensors {', '.join(names)}: those of none of the five graphs")
    _check_tensors(runner, SIGNATURES[runner.graph])
    said = _parameters(runner.config)
    notes = []
    precision = said.get(PRECISION_PARAMETER, "")
    if precision not in get_args(FilePrecision):
        notes.append(f"{runner.model} does not say its precision: it is judged as FP32.")
        precision = "fp32"
    if CHECKPOINT_PARAMETER not in said:
        notes.append(f"{runner.model} does not say which weights it was made from.")
    if said.get(GRAPH_PARAMETER, runner.graph) != runner.graph:
        notes.append(f"{runner.model} says it is {said[GRAPH_PARAMETER]!r}; by its tensors it is {runner.graph}.")
    named = dict.fromkeys(_warm_up_sizes(runner.config))
    sizes = tuple(size for size in named if _wrong_size(*size) is None)
    notes += [
        f"{runner.model} is warmed up at {height}x{width}, which is left out: {wrong}."
        for height, width in named
        if (wrong := _wrong_size(height, width)) is not None
    ]
    batch, _, height, width = (size if isinstance(size, int) else None for size in runner.inputs[0].shape)
    if (wrong := _wrong_size(*(MULTIPLE_OF if side is None else side for side in (height, width)))) is not None:
        raise RequestError(f"{runner.model} takes {list(runner.inputs[0].shape)}: {wrong}")
    if batch is not None and not 1 <= batch <= MOST_PAIRS:
        raise RequestError(f"{runner.model} takes {batch} pairs at once; expected 1 to {MOST_PAIRS}")
    one_pair = int(runner.config.get("max_batch_size", 0)) == 1
    fixed = (1 if one_pair else batch, height, width)
    engine = runner.provider if runner.provider.startswith("tensorrt_plan") else None
    artifact = Artifact(
        graph=runner.graph,
        file=runner.model,
        sha256=said.get(ARTIFACT_PARAMETER, ""),
        size_bytes=0,
        sizes=size_text(runner.inputs[0].shape),
        opset=0,
        precision=precision,  # type: ignore[arg-type]  # checked above
        nodes=0,
        reused=False,
        seconds=None,
        checkpoint_sha256=said.get(CHECKPOINT_PARAMETER),
        checkpoint="other weights" if CHECKPOINT_PARAMETER in said else None,
        fixed=fixed,
        engine=engine,
        profile=_profile(sizes, fixed) if engine else None,
    )
    return Served(name=runner.model, version=runner.model_version, artifact=artifact, sizes=sizes, notes=tuple(notes))


def _is_ours(client: TritonClient, name: str) -> bool:
    return name == ENSEMBLE or name in SIGNATURES or GRAPH_PARAMETER in _parameters(client.config(name))


def _behind(config: Mapping[str, Any]) -> str | None:
    steps = config.get("ensemble_scheduling", {}).get("step", [])
    return next((str(step["model_name"]) for step in steps if step["model_name"] in SIGNATURES), None)


def _check_tensors(runner: TritonRunner, signature: Signature) -> None:
    ranks = {spec.name: len(spec.shape) for spec in (*signature.inputs, *signature.outputs)}
    for info in (*runner.inputs, *runner.outputs):
        if len(info.shape) != ranks[info.name]:
            raise RequestError(
                f"{runner.model} has {info.name} of shape {list(info.shape)}; {signature.graph} has "
                f"{ranks[info.name]} dimensions there"
            )
        if info.dtype not in ("float32", "float16"):
            raise RequestError(f"{runner.model} has {info.name} of {info.dtype}; expected float32 or float16")


def _parameters(config: Mapping[str, Any]) -> dict[str, str]:
    """Those of a served config that `deploy triton` writes, by name."""
    given = config.get("parameters", {})
    wanted = (GRAPH_PARAMETER, PRECISION_PARAMETER, CHECKPOINT_PARAMETER, ARTIFACT_PARAMETER)
    return {name: str(given[name].get("string_value", "")) for name in wanted if name in given}


def _wrong_size(height: int, width: int) -> str | None:
    """Why frames of a size can't be fed."""
    try:
        parse_size(f"{height}x{width}")
    except ValueError as error:
        return str(error)
    if height * width > MOST_PIXELS:
        return f"{height}x{width} has {height * width} pixels; expected at most {MOST_PIXELS}"
    return None


def _warm_up_sizes(config: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Height and width of the largest input of each sample."""
    found = []
    for sample in config.get("model_warmup", []):
        dims = [list(map(int, one.get("dims", []))) for one in sample.get("inputs", {}).values()]
        pictures = [one for one in dims if len(one) >= 3]
        if pictures:
            largest = max(pictures, key=math.prod)
            found.append((largest[-2], largest[-1]))
    return found


def _profile(
    sizes: Sequence[tuple[int, int]], fixed: tuple[int | None, int | None, int | None]
) -> tuple[Sizes, Sizes, Sizes] | None:
    """Of an engine, as far as a server shows it: it was warmed up at sizes that its profile has."""
    if not sizes:
        return None
    batch, ordered = fixed[0] or 1, sorted(sizes)
    low, middle, high = ordered[0], ordered[len(ordered) // 2], ordered[-1]
    return (batch, *low), (batch, *middle), (batch, *high)
