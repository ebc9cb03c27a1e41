"""ONNX files to candidates and feeds: which runtimes can run a file here, and which sizes it is fed with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from refine_export.artifacts import Artifact, artifact_from_file, model_source
from refine_export.data.frame_source import Source
from refine_export.data.images import FramePair, padded
from refine_export.engine.engine_runner import TrtRunner
from refine_export.engine.plan import artifact_from_plan, meant_as_plan
from refine_export.errors import RequestError, UnavailableError
from refine_export.runners.base import Runner
from refine_export.runners.onnxruntime import OrtRunner, Provider
from refine_export.runners.strict_fp16 import HalfRunner
from refine_export.signature import parse_size
from refine_export.validate.comparison import Candidate
from refine_export.validate.validate_options import Runtime, ValidateOptions

SMALL = (96, 160)  # where a batch of two is tried

_PROVIDERS: dict[Runtime, Provider] = {
    "onnxruntime-cpu": "cpu",
    "onnxruntime-cuda": "cuda",
    "onnxruntime-tensorrt": "tensorrt",
}


def artifact_of(path: Path) -> Artifact:
    """What an ONNX file or an engine is.

    Raises:
        GraphError: it is neither, or none of the five graphs.
    """
    return artifact_from_plan(path) if meant_as_plan(path) else artifact_from_file(path)


@contextmanager
def candidates_for(path: Path, artifact: Artifact, options: ValidateOptions) -> Iterator[list[Candidate]]:
    """Open a file once in each of its runtimes; a runtime that is missing becomes a candidate that says so.

    Raises:
        GraphError: the file is no longer the one that `artifact` is the hash of.
    """
    limits = options.limits.of(artifact.graph, artifact.precision)
    made_of = functools.partial(Candidate, file=artifact.file, limits=limits)
    with ExitStack() as stack:
        candidates = []
        for runtime, opened in _runners(path, artifact, options):
            try:
                runner = stack.enter_context(opened())
            except UnavailableError as error:
                candidates.append(made_of(runtime=runtime, runner=None, missing=str(error)))
            except RequestError as error:
                candidates.append(made_of(runtime=runtime, runner=None, refused=str(error)))
            else:
                candidates.append(made_of(runtime=runtime, runner=runner))
        yield candidates


def runtimes_for(artifact: Artifact) -> tuple[Runtime, ...]:
    """Where a file is run if nobody says: what it computes has to be what its types say."""
    return ("onnxruntime-cpu",) if artifact.precision == "fp32" else ("half",)


def _runners(path: Path, artifact: Artifact, options: ValidateOptions) -> Iterator[tuple[str, Callable[[], Runner]]]:
    """The name of each runtime, and what opens the file in it."""
    if artifact.engine is not None:
        yield "tensorrt", lambda: TrtRunner(path, allow_host_code=options.allow_host_code)
        return
    source = model_source(path, artifact)
    for runtime in options.runtimes or runtimes_for(artifact):
        yield runtime, functools.partial(_runner, source, runtime)


def _runner(source: Path | bytes, runtime: Runtime) -> Runner:
    if runtime == "half":
        return HalfRunner(source)
    return OrtRunner(source, provider=_PROVIDERS[runtime])


def pairs_for(artifact: Artifact, source: Source, options: ValidateOptions) -> Iterator[tuple[FramePair, int]]:
    """The frames at each size that a file is fed with, and the batch.

    A file of one size gets that size, an engine those of its profile. A file that takes any gets the frames' own and
    the options' sizes, and a small one in a batch of two, because a graph can be right for one sample alone.
    """
    own = padded(source.pair)
    if artifact.profile is not None:
        for pairs, *sides in dict.fromkeys(artifact.profile):
            yield source.at((sides[0], sides[1])), pairs
        return
    batch, height, width = artifact.fixed
    sizes = [own.size] if height and width else [own.size, *map(parse_size, options.sizes)]
    for size in dict.fromkeys((height or size[0], width or size[1]) for size in sizes):
        yield (own if size == own.size else source.at(size)), batch or 1
    if batch is None:
        yield source.at((height or SMALL[0], width or SMALL[1])), 2


def nearest(artifact: Artifact, size: tuple[int, int]) -> tuple[tuple[int, int], int]:
    """The frames' own size and a batch of one, or what a file takes in their place."""
    if artifact.profile is not None and not takes(artifact, 1, size):
        batch, height, width = artifact.profile[1]
        return (height, width), batch
    fixed_batch, fixed_height, fixed_width = artifact.fixed
    return (fixed_height or size[0], fixed_width or size[1]), fixed_batch or 1


def takes(artifact: Artifact, batch: int, size: tuple[int, int]) -> bool:
    """Whether a file can be fed with so many pairs of a height and width."""
    wanted = (batch, *size)
    if artifact.profile is not None:
        low, _, high = artifact.profile
        return all(a <= b <= c for a, b, c in zip(low, wanted, high, strict=True))
    return all(fixed in (None, one) for fixed, one in zip(artifact.fixed, wanted, strict=True))
