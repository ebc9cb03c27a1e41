"""Runtimes of a file on this machine: a candidate for each, opened or with the reason why it cannot be."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from refine_export.artifacts import Artifact, artifact_from_file, model_source
from refine_export.engine.engine_runner import TrtRunner
from refine_export.engine.plan import artifact_from_plan, meant_as_plan
from refine_export.errors import GraphError, RequestError, UnavailableError
from refine_export.graph.model_file import model_from_bytes
from refine_export.runners.base import Runner
from refine_export.runners.onnxruntime import OrtRunner, Provider
from refine_export.runners.sampler_probe import probe_model, sampler_problems
from refine_export.runners.strict_fp16 import HalfRunner
from refine_export.validate.comparison import Candidate
from refine_export.validate.validate_options import Runtime, ValidateOptions

_PROVIDERS: Final[dict[Runtime, Provider]] = {
    "onnxruntime-cpu": "cpu",
    "onnxruntime-cuda": "cuda",
    "onnxruntime-tensorrt": "tensorrt",
}


def artifact_of(path: Path) -> Artifact:
    """Recognise an ONNX file or an engine.

    Raises:
        GraphError: it is neither, or none of the five graphs.
    """
    return artifact_from_plan(path) if meant_as_plan(path) else artifact_from_file(path)


def default_runtime(artifact: Artifact) -> Runtime:
    """Return the default runtime of an ONNX file: one that computes in the types of the file."""
    return "onnxruntime-cpu" if artifact.precision == "fp32" else "half"


def open_runner(model: Path | bytes, runtime: Runtime) -> Runner:
    """Open an ONNX model in a runtime.

    Raises:
        GraphError: the runtime refuses the model.
        UnavailableError: the runtime is missing.
    """
    return HalfRunner(model) if runtime == "half" else OrtRunner(model, provider=_PROVIDERS[runtime])


@functools.cache
def sampling_problems(runtime: Runtime) -> tuple[str, ...]:
    """Return what is wrong with how a runtime samples on this machine, such as `nearest`; see `sampler_probe`.

    Raises:
        UnavailableError: the runtime is missing.
    """
    try:
        with open_runner(probe_model(), runtime) as runner:
            return sampler_problems(runner.run)
    except RequestError:  # a provider that takes no part of the probe leaves sampling to another one
        return ()


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
        with_ssim=options.ssim,
    )
    with ExitStack() as stack:
        candidates = []
        for runtime, open_in_runtime in _openers(path, artifact, options):
            try:
                runner = stack.enter_context(open_in_runtime())
            except UnavailableError as error:
                candidates.append(candidate(runtime=runtime, runner=None, missing=str(error)))
            except RequestError as error:
                candidates.append(candidate(runtime=runtime, runner=None, refused=str(error)))
            else:
                candidates.append(candidate(runtime=runtime, runner=runner))
        yield candidates


def _openers(path: Path, artifact: Artifact, options: ValidateOptions) -> Iterator[tuple[str, Callable[[], Runner]]]:
    """Yield the name of each runtime, and a function that opens the file in it."""
    if artifact.engine is not None:
        yield "tensorrt", lambda: TrtRunner(path, allow_host_code=options.allow_host_code)
        return
    model = model_source(path, artifact)
    for runtime in options.runtimes or (default_runtime(artifact),):
        yield runtime, functools.partial(_open_checked, model, runtime)


def _open_checked(model: Path | bytes, runtime: Runtime) -> Runner:
    """Open a model in a runtime that samples right; files without GridSample do not depend on that.

    Raises:
        GraphError: `wrong-sampling`; or the runtime refuses the model.
        UnavailableError: the runtime is missing.
    """
    content, name = (model.read_bytes(), model) if isinstance(model, Path) else (model, Path("the model"))
    samples = any(node.op_type == "GridSample" for node in model_from_bytes(content, name).graph.node)
    if samples and (problems := sampling_problems(runtime)):
        raise GraphError(
            f"{runtime} samples wrongly on this machine, as a probe of two GridSample nodes shows: "
            f"{', '.join(problems)}; run the file elsewhere, or lower it with --gridsample gather",
            code="wrong-sampling",
            runtime=runtime,
            problems=problems,
        )
    return open_runner(model, runtime)
