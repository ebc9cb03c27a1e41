"""The comparison with the reference as one assertion, for projects that use pytest.

from refine_export.testing import assert_matches

def test_the_engine_that_ships():
    assert_matches("flownet.pkl", "interpolator.plan", ("frame_0.png", "frame_1.png"))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from refine_export.accuracy.limits import Limits, LimitsOptions
from refine_export.artifacts import Artifact
from refine_export.checkpoint.checkpoint import Checkpoint, checkpoint_from_file
from refine_export.data.feeds import PROBE_SIZE, Feed, feeds_for, probe_for
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.data.frame_source import source_from_options
from refine_export.engine.engine_manifest import artifact_from_path
from refine_export.errors import RequestError, UnavailableError
from refine_export.export.reference_network import reference_network
from refine_export.runners.base import Runner
from refine_export.runners.runtime_names import Runtime
from refine_export.signature import SIGNATURES, Signature, padded_size, signature_from_names
from refine_export.support.text import listed
from refine_export.validate.comparison import Candidate, Verdict, compare_candidates
from refine_export.validate.feed_plan import first_pair_at, sizes_for
from refine_export.validate.reference import Reference
from refine_export.validate.runtimes import candidates_for
from refine_export.validate.validate_options import ValidateOptions

if TYPE_CHECKING:  # torch is optional
    from torch import nn

SHOWN = 12
"""Upper bound of the outputs that a failure lists, in the order of the feeds."""

Pictures = tuple[str | Path, str | Path]


def assert_matches(
    reference: str | Path | Checkpoint | Runner,
    candidate: str | Path | Runner,
    feeds: Pictures | Iterable[Feed] | None = None,
    thresholds: Limits | None = None,
    *,
    runtime: Runtime | None = None,
) -> tuple[Verdict, ...]:
    """Assert that a file, an engine or a runner computes the same as the reference.

    Args:
        reference: a checkpoint, or its file; or any runner.
        candidate: an ONNX file or an engine of one of the graphs; or a runner.
        feeds: two pictures, or feeds (`data.feeds.Feed`), which two runners need. Defaults to a procedural scene.
        thresholds: limits of accuracy. Defaults to those of the file's graph and precision, for a runner those of
            FP32.
        runtime: runs an ONNX file. Defaults to ONNX Runtime on the CPU for FP32, strict FP16 for lowered files.

    Returns:
        A verdict per feed, all of them passed.

    Raises:
        AssertionError: an output misses a threshold; the message lists the first ones, with numbers and place.
        UnavailableError: `not-compared`; the runtime is missing, which never counts as passed.
        RequestError: a file cannot be used, or there are no feeds.
    """
    artifact = None
    with ExitStack() as stack:
        if isinstance(candidate, Runner):
            name, signature = candidate.backend, _signature_of(candidate)
            limits = thresholds or LimitsOptions().of(signature.graph, "fp32")
            tested = [Candidate(file=name, limits=limits, runtime=name, runner=candidate)]
        else:
            artifact = artifact_from_path(Path(candidate))
            name, signature = str(candidate), artifact.signature
            limits = thresholds or LimitsOptions().of(artifact.graph, artifact.precision)
            options = ValidateOptions(runtimes=() if runtime is None else (runtime,))
            found = stack.enter_context(candidates_for(Path(candidate), artifact, options))
            tested = [dataclasses.replace(one, limits=limits) for one in found]
        network = None
        if isinstance(reference, Runner):
            runner = reference
        else:
            network = _network(reference, signature.scale)
            runner = stack.enter_context(own := Reference(network, signature.graph))
            # Files of other tools do not state their padding.
            unit = max(signature.multiple_of, own.signature.multiple_of)
            signature = dataclasses.replace(signature, multiple_of=unit)
            artifact = artifact and dataclasses.replace(artifact, multiple_of=unit)
        fed = _feeds(feeds, network, signature, artifact)
        compared = compare_candidates(signature, runner, tested, fed)
        verdicts = tuple(one.verdict for one in compared)
    _check(verdicts, name)
    return verdicts


def _network(reference: str | Path | Checkpoint, scale: float) -> nn.Module:
    known = reference if isinstance(reference, Checkpoint) else checkpoint_from_file(Path(reference))
    return reference_network(known, scale)


def _signature_of(runner: Runner) -> Signature:
    inputs, outputs = ([info.name for info in infos] for infos in (runner.inputs, runner.outputs))
    if (signature := signature_from_names(inputs, outputs)) is not None:
        return signature
    raise RequestError(
        f"the runner has the inputs {listed(inputs)} and the outputs {listed(outputs)}; expected those of one of the "
        f"graphs {', '.join(SIGNATURES)}",
        code="unknown-graph",
    )


def _feeds(
    feeds: Pictures | Iterable[Feed] | None, network: nn.Module | None, signature: Signature, artifact: Artifact | None
) -> Iterator[Feed]:
    """Yield the given feeds, or those of the validation for the pictures or the procedural scene."""
    pictures: list[str] = []
    if isinstance(feeds, Sequence) and all(isinstance(one, str | Path) for one in feeds):
        pictures = [str(one) for one in feeds]
    if feeds is not None and not pictures:
        yield from (one for one in feeds if isinstance(one, Feed))
        return
    if network is None:
        raise RequestError("two runners need feeds; give data.feeds.Feed objects", code="no-feeds")
    source = source_from_options(FramesOptions(pair=tuple(pictures), sample="scene"), SceneOptions())
    options = ValidateOptions()
    own, unit = source.pair.size, signature.multiple_of
    probe = (1, *padded_size(*PROBE_SIZE, unit)) if artifact is None else artifact.closest_sizes(PROBE_SIZE)
    yield from probe_for(network, signature, probe[1:], batch=probe[0])
    for sizes in [(1, *padded_size(*own, unit))] if artifact is None else sizes_for(artifact, own, options):
        pair, batch = first_pair_at(source, sizes, unit), sizes[0]
        yield from feeds_for(network, signature, pair, kinds=options.flows, timesteps=options.timesteps, batch=batch)


def _check(verdicts: Sequence[Verdict], name: str) -> None:
    failed = [verdict for verdict in verdicts if verdict.status == "failed"]
    missing = [verdict for verdict in verdicts if verdict.status == "not compared"]
    if failed:
        lines = [line for verdict in failed for line in _lines(verdict)]
        lines[SHOWN:] = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        shown = "".join(f"\n  {line}" for line in lines)
        raise AssertionError(f"{name} is not the reference: {len(failed)} of {len(verdicts)} feeds failed{shown}")
    if missing:
        raise UnavailableError(f"{name} was not compared: {missing[0].reasons[0]}", code="not-compared", name=name)
    if not verdicts:
        raise RequestError(f"{name} was not compared: there were no feeds; expected one or more", code="no-feeds")


def _lines(verdict: Verdict) -> list[str]:
    """Return each output that failed with its reasons and the place of its largest error."""
    lines = []
    for output in verdict.outputs:
        if output.reasons:
            worst = output.metrics.worst
            where = f" (worst at x {worst.x}, y {worst.y}, channel {worst.channel})" if worst else ""
            lines.append(f"{verdict.feed}, {output.output}: {'; '.join(output.reasons)}{where}")
    return lines or [f"{verdict.feed}: {reason}" for reason in verdict.reasons]
