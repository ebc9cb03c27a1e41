"""ONNX files to candidates and feeds: which runtimes can run a file here, and which sizes it is fed with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from refine_export.errors import GraphError, UnavailableError
from refine_export.frames import FramePair, padded
from refine_export.onnx_file import Artifact
from refine_export.runners.ort import OrtRunner, Provider
from refine_export.signature import parse_size
from refine_export.source import Source
from refine_export.validate import Candidate, Runtime, ValidateOptions

_PROVIDERS: dict[Runtime, Provider] = {"onnxruntime-cpu": "cpu", "onnxruntime-cuda": "cuda"}


@contextmanager
def candidates_for(path: Path, runtimes: Sequence[Runtime]) -> Iterator[list[Candidate]]:
    """Open a file once in each runtime; a runtime that is missing becomes a candidate that says so."""
    with ExitStack() as stack:
        candidates = []
        for runtime in runtimes:
            try:
                runner = stack.enter_context(OrtRunner(path, provider=_PROVIDERS[runtime]))
            except UnavailableError as error:
                candidates.append(Candidate(runtime=runtime, runner=None, missing=str(error)))
            except GraphError as error:
                candidates.append(Candidate(runtime=runtime, runner=None, refused=str(error)))
            else:
                candidates.append(Candidate(runtime=runtime, runner=runner))
        yield candidates


def pairs_for(artifact: Artifact, source: Source, options: ValidateOptions) -> Iterator[FramePair]:
    """The frames at each size that a file is fed with: its own for a static file, else the frames' and the options'."""
    own = padded(source.pair)
    sizes = [parse_size(text) for text in options.sizes]
    for size in dict.fromkeys([artifact.fixed_size[1:]] if artifact.fixed_size else [own.size, *sizes]):
        yield own if size == own.size else source.at(size)
