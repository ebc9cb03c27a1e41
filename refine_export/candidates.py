"""ONNX files to candidates and feeds: which runtimes can run a file here, and which sizes it is fed with."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from refine_export.errors import GraphError, UnavailableError
from refine_export.frames import FramePair, padded
from refine_export.onnx_file import Artifact, model_source
from refine_export.runners.base import Runner
from refine_export.runners.half import HalfRunner
from refine_export.runners.ort import OrtRunner, Provider
from refine_export.signature import parse_size
from refine_export.source import Source
from refine_export.validate import Candidate, Runtime, ValidateOptions

SMALL = (96, 160)  # where a batch of two is tried

_PROVIDERS: dict[Runtime, Provider] = {"onnxruntime-cpu": "cpu", "onnxruntime-cuda": "cuda"}


@contextmanager
def candidates_for(path: Path, artifact: Artifact, options: ValidateOptions) -> Iterator[list[Candidate]]:
    """Open a file once in each runtime of the options; a runtime that is missing becomes a candidate that says so.

    Raises:
        GraphError: the file is no longer the one that `artifact` is the hash of.
    """
    source = model_source(path, artifact)
    made_of = functools.partial(Candidate, file=artifact.file, limits=options.limits(artifact.precision))
    with ExitStack() as stack:
        candidates = []
        for runtime in options.runtimes or runtimes_for(artifact):
            try:
                runner = stack.enter_context(_runner(source, runtime))
            except UnavailableError as error:
                candidates.append(made_of(runtime=runtime, runner=None, missing=str(error)))
            except GraphError as error:
                candidates.append(made_of(runtime=runtime, runner=None, refused=str(error)))
            else:
                candidates.append(made_of(runtime=runtime, runner=runner))
        yield candidates


def runtimes_for(artifact: Artifact) -> tuple[Runtime, ...]:
    """Where a file is run if nobody says: what it computes has to be what its types say."""
    return ("onnxruntime-cpu",) if artifact.precision == "fp32" else ("half",)


def _runner(source: Path | bytes, runtime: Runtime) -> Runner:
    if runtime == "half":
        return HalfRunner(source)
    return OrtRunner(source, provider=_PROVIDERS[runtime])


def pairs_for(artifact: Artifact, source: Source, options: ValidateOptions) -> Iterator[tuple[FramePair, int]]:
    """The frames at each size that a file is fed with, and the batch.

    A file of one size gets that size. One that takes any gets the frames' own and the options' sizes, and a small one
    in a batch of two, because a graph can be right for one sample alone.
    """
    own = padded(source.pair)
    batch, height, width = artifact.fixed
    sizes = [own.size] if height and width else [own.size, *map(parse_size, options.sizes)]
    for size in dict.fromkeys((height or size[0], width or size[1]) for size in sizes):
        yield (own if size == own.size else source.at(size)), batch or 1
    if batch is None:
        yield source.at((height or SMALL[0], width or SMALL[1])), 2
