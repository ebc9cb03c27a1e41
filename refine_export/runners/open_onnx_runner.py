"""Open an ONNX model in one of the runtimes of `runtime_names`, and probe how the runtime samples."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

from refine_export.artifacts import Artifact
from refine_export.errors import GraphError, RequestError
from refine_export.graph.model_file import has_grid_sample, model_from_bytes
from refine_export.runners.base import Runner
from refine_export.runners.onnxruntime import OrtRunner, Provider
from refine_export.runners.runtime_names import Runtime
from refine_export.runners.sampler_probe import probe_model, sampler_problems
from refine_export.runners.strict_fp16 import HalfRunner

_PROVIDERS: Final[dict[Runtime, Provider]] = {
    "onnxruntime-cpu": "cpu",
    "onnxruntime-cuda": "cuda",
    "onnxruntime-tensorrt": "tensorrt",
    "onnxruntime-rtx": "rtx",
}


def default_runtime(artifact: Artifact) -> Runtime:
    """Return the default runtime of an ONNX file: one that computes in the types of the file."""
    return "onnxruntime-cpu" if artifact.precision == "fp32" else "half"


def open_onnx_runner(model: Path | bytes, runtime: Runtime, *, threads: int | None = None) -> Runner:
    """Open an ONNX model in a runtime; `threads` of the CPU compute, by default one for each core.

    Raises:
        GraphError: the runtime refuses the model.
        UnavailableError: the runtime is missing.
    """
    if runtime == "half":
        return HalfRunner(model, threads=threads)
    return OrtRunner(model, provider=_PROVIDERS[runtime], threads=threads)


@functools.cache
def sampling_problems(runtime: Runtime) -> tuple[str, ...]:
    """Return what is wrong with how a runtime samples on this machine, such as `nearest`; see `sampler_probe`.

    Raises:
        UnavailableError: the runtime is missing.
    """
    try:
        with open_onnx_runner(probe_model(), runtime) as runner:
            return sampler_problems(runner.run)
    except RequestError:  # a provider that takes no part of the probe leaves sampling to another one
        return ()


def open_checked_runner(model: Path | bytes, runtime: Runtime) -> Runner:
    """Open a model in a runtime that samples right; files without GridSample do not depend on that.

    Raises:
        GraphError: `wrong-sampling`; or the runtime refuses the model.
        UnavailableError: the runtime is missing.
    """
    content, name = (model.read_bytes(), model) if isinstance(model, Path) else (model, Path("the model"))
    if has_grid_sample(model_from_bytes(content, name)) and (problems := sampling_problems(runtime)):
        raise GraphError(
            f"{runtime} samples wrongly on this machine, as a probe of two GridSample nodes shows: "
            f"{', '.join(problems)}; run the file elsewhere, or lower it with --gridsample gather",
            code="wrong-sampling",
            runtime=runtime,
            problems=problems,
        )
    return open_onnx_runner(model, runtime)
