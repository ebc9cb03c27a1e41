"""The gate for people who use pytest: one assertion that says what is wrong, and where.

from refine_export.testing import assert_matches

def test_the_engine_that_ships():
    assert_matches("flownet.pkl", "interpolator.plan", ("frame_0.png", "frame_1.png"))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from refine_export.accuracy.limits import Limits, LimitsOptions
from refine_export.artifacts import Artifact
from refine_export.checkpoint.checkpoint import Checkpoint, checkpoint_from_file
from refine_export.data.feeds import PROBE_SIZE, Feed, feeds_for, probe_for
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.data.frame_source import source_from_options
from refine_export.data.images import padded_size
from refine_export.errors import RequestError, UnavailableError
from refine_export.export.reference_network import reference_network
from refine_export.runners.base import Runner
from refine_export.runners.torch import TorchRunner
from refine_export.signature import SIGNATURES, GraphName, Signature, graph_from_names
from refine_export.validate.comparison import Candidate, Verdict, compare_candidates
from refine_export.validate.runtimes import artifact_of, candidates_for
from refine_export.validate.test_plan import closest_sizes, first_pair_at, sizes_for
from refine_export.validate.validate_options import Runtime, ValidateOptions

if TYPE_CHECKING:
    from torch import nn

SHOWN = 12
"""Outputs that a failure lists, in the order of the feeds."""


def assert_matches(
    reference: str | Path | Checkpoint | Runner,
    candidate: str | Path | Runner,
    feeds: tuple[str | Path, str | Path] | Iterable[Feed] | None = None,
    thresholds: Limits | None = None,
    *,
    runtime: Runtime | None = None,
) -> tuple[Verdict, ...]:
    """Assert that a file, an engine or a runner computes what the reference does.

    Args:
        reference: a checkpoint, or its file; or any runner.
        candidate: an ONNX file or an engine of one of the five graphs; or a runner.
        feeds: two pictures, or feeds (`feeds.Feed`); without, a procedural scene. Feeds are needed between two runners.
        thresholds: what has to be kept; without, the defaults of the file's graph and precision, for a runner those of
            FP32.
        runtime: of an ONNX file; without, ONNX Runtime on the CPU for FP32 and strict FP16 for lowered files.

    Returns:
        A verdict per feed, all of them passed.

    Raises:
        AssertionError: an output misses a threshold; the message has the first ones, with numbers and place.
        UnavailableError: the runtime is missing: not compared is never passed.
        RequestError: a file can't be used.
    """
    with ExitStack() as stack:
        artifact = None if isinstance(candidate, Runner) else artifact_of(Path(candidate))
        signature = _signature(candidate) if artifact is None else SIGNATURES[artifact.graph]
        network = None if isinstance(reference, Runner) else _network(reference)
        limits = thresholds or LimitsOptions().of(signature.graph, artifact.precision if artifact else "fp32")
        if isinstance(candidate, Runner):
            tested = [Candidate(file=candidate.backend, limits=limits, runtime=candidate.backend, runner=candidate)]
        else:
            assert artifact is not None
            options = ValidateOptions(runtimes=() if runtime is None else (runtime,))
            opened = stack.enter_context(candidates_for(Path(candidate), artifact, options))
            tested = [dataclasses.replace(one, limits=limits) for one in opened]
        if isinstance(reference, Runner):
            runner = reference
        else:
            assert network is not None
            runner = stack.enter_context(TorchRunner(network, signature.graph))
        fed = _feeds(feeds, network, signature.graph, artifact)
        verdicts = tuple(compared.verdict for compared in compare_candidates(signature, runner, tested, fed))
    _check(verdicts, str(candidate) if not isinstance(candidate, Runner) else candidate.backend)
    return verdicts


def _network(reference: str | Path | Checkpoint) -> nn.Module:
    known = reference if isinstance(reference, Checkpoint) else checkpoint_from_file(Path(reference))
    return reference_network(known)


def _signature(runner: str | Path | Runner) -> Signature:
    assert isinstance(runner, Runner)
    names = ({info.name for info in runner.inputs}, {info.name for info in runner.outputs})
    if (graph := graph_from_names(*names)) is not None:
        return SIGNATURES[graph]
    raise RequestError(f"the runner has inputs {sorted(names[0])}, outputs {sorted(names[1])}: none of the five graphs")


def _feeds(
    feeds: tuple[str | Path, str | Path] | Iterable[Feed] | None,
    network: nn.Module | None,
    graph: GraphName,
    artifact: Artifact | None,
) -> Iterable[Feed]:
    pictures = _pictures(feeds)
    if feeds is not None and pictures is None:
        yield from feeds  # type: ignore[misc]  # told apart by `_pictures`
        return
    if network is None:
        raise RequestError("between two runners, feeds are needed; give feeds.Feed objects")
    source = source_from_options(FramesOptions(pair=pictures or ()), SceneOptions())
    options = ValidateOptions()
    own = padded_size(*source.pair.size)
    probe = (1, *PROBE_SIZE) if artifact is None else closest_sizes(artifact, PROBE_SIZE)
    yield from probe_for(network, graph, probe[1:], batch=probe[0])
    for sizes in [(1, *own)] if artifact is None else sizes_for(artifact, own, options):
        pair, batch = first_pair_at(source, sizes), sizes[0]
        yield from feeds_for(network, graph, pair, kinds=options.flows, timesteps=options.timesteps, batch=batch)


def _pictures(feeds: object) -> tuple[str, ...] | None:
    if isinstance(feeds, Sequence) and len(feeds) == 2 and all(isinstance(one, str | Path) for one in feeds):
        return tuple(str(one) for one in feeds)
    return None


def _check(verdicts: Sequence[Verdict], name: str) -> None:
    missing = [verdict for verdict in verdicts if verdict.status == "not compared"]
    failed = [verdict for verdict in verdicts if verdict.status == "failed"]
    if failed:
        lines = [line for verdict in failed for line in _lines(verdict)]
        more = f"\n  and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        listed = "".join(f"\n  {line}" for line in lines[:SHOWN])
        raise AssertionError(
            f"{name} is not the reference: {len(failed)} of {len(verdicts)} feeds failed{listed}{more}"
        )
    if missing:
        raise UnavailableError(f"{name} was not compared: {missing[0].reasons[0]}")
    if not verdicts:
        raise RequestError(f"{name} was not compared: there were no feeds; expected one or more")


def _lines(verdict: Verdict) -> list[str]:
    lines = []
    for output in verdict.outputs:
        if output.reasons:
            worst = output.metrics.worst
            where = f" (worst at x {worst.x}, y {worst.y}, channel {worst.channel})" if worst else ""
            lines.append(f"{verdict.feed}, {output.output}: {'; '.join(output.reasons)}{where}")
    return lines or [f"{verdict.feed}: {reason}" for reason in verdict.reasons]
