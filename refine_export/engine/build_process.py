"""Build of an engine in a child process, which may crash, hang or take all memory without harm to the caller.

The child probes the sampler where it can run an engine, builds, and proves the precision. Checked against the API
documentation of TensorRT 10.12 to 11.4; not run. Building was run with TensorRT for RTX 1.7.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pydantic

from refine_export.engine.bindings import Library, Log, constructed, load_library, required
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.engine_from_onnx import Built, engine_from_onnx
from refine_export.engine.inspector import Precision, check_precision, inspect_engine, nodes_from_onnx
from refine_export.engine.profile_shapes import InputShapes
from refine_export.errors import EngineError, UnavailableError
from refine_export.graph.model_file import external_files, has_grid_sample, model_from_bytes, read_file, sha256_of_model
from refine_export.runners.sampler_probe import probe_model, sampler_problems
from refine_export.support.child_process import Report, run_child, serve
from refine_export.support.progress import Progress
from refine_export.support.text import json_safe

_ENGINE = "engine"


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """Request to a child."""

    onnx: Path
    """The file, with its external data beside it."""
    options: BuildOptions
    """Options with the target `trt` or `rtx`."""
    shapes: tuple[InputShapes, ...]
    """`shapes_from_options`."""
    timings: Path | None
    """File of the timing cache."""
    executes: bool
    """This machine can run the engine."""
    unfuse: bool = False
    """Keep what goes in and out of each GridSample from fusing."""


@dataclass(frozen=True, kw_only=True)
class BuildAnswer(Built):
    """Answer of a child: the engine and its reports."""

    onnx_sha256: str
    """`sha256_of_model` of what was built from."""
    probed: bool
    """The sampler probe was run, and passed."""
    precision: Precision | None
    """The answer of the inspector; None where the engine cannot be loaded here."""


def build_in_child(request: BuildRequest, folder: Path, progress: Progress) -> BuildAnswer:
    """Build an engine in a child process, within `time_limit_s` and `memory_limit_mib` of the options.

    Args:
        request: what is to be built.
        folder: private, on a disk with room for the engine.
        progress: of the stages and TensorRT's own phases.

    Raises:
        GraphError: as `engine_from_onnx`; or the engine does not have the file's types (`engine-types`).
        EngineError: `sampler-wrong`; TensorRT samples wrongly on this machine.
        UnavailableError: as `engine_from_onnx` and `run_child`.
    """
    options = request.options
    content = json_safe(request) | {"onnx": str(request.onnx.absolute())}
    if request.timings is not None:
        content["timings"] = str(request.timings.absolute())
    answer = run_child(
        __name__,
        content,
        folder,
        progress,
        time_limit_s=options.time_limit_s,
        memory_limit_mib=options.memory_limit_mib,
    )
    answer[_ENGINE] = (folder / _ENGINE).read_bytes()
    return pydantic.TypeAdapter(BuildAnswer).validate_python(answer)


def work(content: Mapping[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    """Do the child's work; the arguments and the answer are `serve`'s."""
    request = pydantic.TypeAdapter(BuildRequest).validate_python(content)
    library = load_library(request.options.target)
    log = Log(library.module, lambda severity, text: report("log", [severity, text]))
    bytes_ = read_file(request.onnx)
    model = model_from_bytes(bytes_, request.onnx)
    files = external_files(model, request.onnx.parent)
    probed = request.executes and has_grid_sample(model)
    if probed:
        report("stage", "probe the sampler")
        _probe(library, request, log)
    report("stage", f"build {request.onnx.name}")

    def progress(phase: str, done: int, steps: int) -> bool:
        report("phase", [phase, done, steps])
        return True

    built = engine_from_onnx(
        library,
        bytes_,
        request.options,
        request.shapes,
        log=log,
        progress=progress,
        timings=request.timings,
        path=request.onnx,
        unfuse=request.unfuse,
    )
    repairs = f", {len(built.samplers.repairs)} GridSample attributes repaired" if built.samplers.repairs else ""
    report("outcome", f"{len(built.engine) / 2**20:.1f} MiB{repairs}")
    (folder / _ENGINE).write_bytes(built.engine)
    fields = {name: value for name, value in json_safe(built).items() if name != _ENGINE}
    return fields | {
        "onnx_sha256": sha256_of_model(bytes_, files),
        "probed": probed,
        "precision": _precision(library, request, built.engine, model, log, report) if request.executes else None,
    }


def _probe(library: Library, request: BuildRequest, log: Log) -> None:
    """Build and run the probe, with its weights and for this machine only, as the engine itself samples."""
    from refine_export.engine.engine_runner import TrtRunner  # torch, which a machine that only builds may lack

    options = dataclasses.replace(
        request.options,
        gpu=(),
        strip_weights=False,
        refittable=False,
        version_compatible=False,
        exclude_lean_runtime=False,
    )
    engine = engine_from_onnx(library, probe_model(), options, (), log=log, unfuse=request.unfuse).engine
    with TrtRunner(engine, unchecked=True, log=log) as runner:
        problems = sampler_problems(runner.run)
    if problems:
        raise EngineError(
            f"{library.title} samples wrongly on this machine ({', '.join(problems)}); expected bilinear, border, "
            "aligned corners: build with --fallback gather, which samples without GridSample",
            code="sampler-wrong",
            problems=problems,
        )


def _precision(
    library: Library, request: BuildRequest, content: bytes, model: onnx.ModelProto, log: Log, report: Report
) -> Mapping[str, Any]:
    """The inspector's proof of precision, on the engine as it loads."""
    report("stage", "prove the precision")
    runtime: Any = constructed(library.module.Runtime, "start its runtime", log)
    runtime.engine_host_code_allowed = True  # it is our own build's
    engine = required(runtime.deserialize_cuda_engine(content), "load the engine that it has built", log)
    context = None
    if not request.options.strip_weights:  # without weights there is nothing to execute
        context = required(engine.create_execution_context(), "make an execution context", log)
        for shape in request.shapes:
            if shape.dynamic and not context.set_input_shape(shape.name, shape.optimum):
                raise UnavailableError(
                    f"{library.title} does not take {shape.name} at {shape.optimum}{log.last_errors()}",
                    code="tensorrt-failed",
                )
    proof = check_precision(inspect_engine(library.module, engine, context), nodes_from_onnx(model))
    report("outcome", "proven" if proof.proven else f"not proven: {'; '.join(proof.notes)}")
    return dataclasses.asdict(proof)


if __name__ == "__main__":
    serve(work)
