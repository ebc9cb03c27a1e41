"""Runtimes of a file on this machine: a candidate for each, opened or with the reason why it cannot be."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from refine_export.artifacts import Artifact, model_source
from refine_export.engine.engine_runner import TrtRunner
from refine_export.errors import RequestError, UnavailableError
from refine_export.runners.base import Runner
from refine_export.runners.open_onnx_runner import default_runtime, open_checked_runner
from refine_export.runners.pair_runner import pair_runner
from refine_export.validate.comparison import Candidate
from refine_export.validate.validate_options import ValidateOptions


@contextmanager
def candidates_for(path: Path, artifact: Artifact, options: ValidateOptions) -> Iterator[list[Candidate]]:
    """Open a file once in each of its runtimes; a runtime that is missing becomes a candidate with the reason.

    Raises:
        GraphError: the file has changed since `artifact` was read.
    """
    candidate = functools.partial(
        Candidate,
        file=artifact.file,
        limits=options.limits.of(artifact.graph, artifact.precision),
        precision=artifact.precision,
        with_ssim=options.ssim,
    )
    with ExitStack() as stack:
        # The openers end here: they hold the content of the file, together 48 MiB for the interpolator of RIFE 4.0.
        yield [_opened(candidate, runtime, opener, stack) for runtime, opener in _openers(path, artifact, options)]


def _opened(
    candidate: Callable[..., Candidate], runtime: str, opener: Callable[[], Runner], stack: ExitStack
) -> Candidate:
    try:
        runner = stack.enter_context(pair_runner(opener()))
    except UnavailableError as error:
        return candidate(runtime=runtime, runner=None, missing=str(error))
    except RequestError as error:
        return candidate(runtime=runtime, runner=None, refused=str(error))
    return candidate(runtime=runtime, runner=runner)


def _openers(path: Path, artifact: Artifact, options: ValidateOptions) -> Iterator[tuple[str, Callable[[], Runner]]]:
    """Yield the name of each runtime, and a function that opens the file in it."""
    if artifact.engine is not None:
        yield "tensorrt", lambda: TrtRunner(path, options=options)
        return
    model = model_source(path, artifact)
    for runtime in options.runtimes or (default_runtime(artifact),):
        yield runtime, functools.partial(open_checked_runner, model, runtime)
