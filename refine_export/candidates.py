"""ONNX files to candidates and feeds: which runtimes can run a file here, and which sizes it is fed with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from refine_export.errors import GraphError, UnavailableError
from refine_export.frames import FramePair, padded
from refine_export.onnx_file import Artifact, model_source
from refine_export.runners.ort import OrtRunner, Provider
from refine_export.signature import parse_size
from refine_export.source import Source
from refine_export.validate import Candidate, Runtime, ValidateOptions

SMALL = (96, 160)  # where a batch of two is tried

_PROVIDERS: dict[Runtime, Provider] = {"onnxruntime-cpu": "cpu", "onnxruntime-cuda": "cuda"}


@contextmanager
def candidates_for(path: Path, artifact: Artifact, runtimes: Sequence[Runtime]) -> Iterator[list[Candidate]]:
    """Open a file once in each runtime; a runtime that is missing becomes a candidate that says so.

    Raises:
        GraphError: the file is no longer the one that `artifact` is the hash of.
    """
    source = model_source(path, artifact)
    with ExitStack() as stack:
        candidates = []
        for runtime in runtimes:
            try:
                runner = stack.enter_context(OrtRunner(source, provider=_PROVIDERS[runtime]))
            except UnavailableError as error:
                candidates.append(Candidate(runtime=runtime, runner=None, missing=str(error)))
            except GraphError as error:
                candidates.append(Candidate(runtime=runtime, runner=None, refused=str(error)))
            else:
                candidates.append(Candidate(runtime=runtime, runner=runner))
        yield candidates


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
