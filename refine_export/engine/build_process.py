"""One build of an engine in a child process, which may crash, hang or eat all memory without harm to anyone.

The child reads the ONNX file and the timing cache, builds and runs the canary, builds the engine, proves its precision
and writes the timings back. Checked for TensorRT 10.12 to 11.4: `Runtime(logger)`, `engine_host_code_allowed`,
`deserialize_cuda_engine`, `create_execution_context`, `set_input_shape`; what else it calls is in the modules it uses.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export.engine import bindings as seam
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.build_plan import Built, build_plan, builder_of
from refine_export.engine.machine import Machine, this_machine
from refine_export.engine.profile_shapes import InputShapes
from refine_export.engine.timing_cache import CacheKey, merge_by, read_cache, write_cache
from refine_export.errors import RequestError, UnavailableError
from refine_export.graph.model_file import external_files, model_from_bytes, read_file, sha256_of_model
from refine_export.support.child_process import Phases, Tell, run_child, serve

if TYPE_CHECKING:
    import onnx

    from refine_export.support.progress import Progress

_PLAN = "plan"


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What is to be built."""

    onnx: Path
    """The file, with its external data beside it."""
    options: BuildOptions
    shapes: tuple[InputShapes, ...]
    """`shapes_from_options`."""
    timing_cache: Path
    """The folder of timing caches."""
    unfuse: bool = False
    """Keep what goes in and out of each GridSample from fusing."""
    canary: bool = True
    """Build and run the canary first."""


@dataclass(frozen=True, kw_only=True)
class ChildBuilt:
    """An engine from a child, and its reports: JSON, for the manifest."""

    plan: bytes
    machine: Machine
    """That built it."""
    onnx_sha256: str
    """`sha256_of_model` of what was built from."""
    guard: Mapping[str, Any]
    """`GuardReport`."""
    unfused: tuple[str, ...]
    """Tensors that were kept from fusing."""
    canary: Mapping[str, Any] | None
    """`Canary`, with its `words`; where it could not be built or run, `passed` is None and `words` say why."""
    precision: Mapping[str, Any]
    """`Precision`."""
    types: Mapping[str, int]
    """Tensors of each type in the ONNX file."""
    notes: tuple[str, ...]
    """What there is to say of the timing cache."""


def build_in_child(
    request: BuildRequest, output: Path, progress: Progress, *, phases: Phases | None = None
) -> ChildBuilt:
    """Build an engine in a child process, within `time_limit_s` and `memory_limit_mib` of the options.

    Args:
        request: what is to be built.
        output: where the engine will go; it is not touched, but its folder must have room for a plan.
        progress: told of the stages: canary, build, proof.
        phases: told of TensorRT's own.

    Raises:
        GraphError: the file, or what TensorRT makes of it; or the engine does not have the file's types.
        UnavailableError: no TensorRT, no GPU, a build that failed, crashed, was killed, or went over a limit.
        RequestError: the folder of the output can't be written.
    """
    options = request.options
    content = dataclasses.asdict(request)
    content["onnx"], content["timing_cache"] = str(request.onnx.absolute()), str(request.timing_cache.absolute())
    with run_child(
        __name__,
        content,
        output,
        progress,
        time_limit_s=options.time_limit_s,
        memory_limit_mib=options.memory_limit_mib,
        phases=phases,
    ) as (folder, answer):
        machine = answer.pop("machine")
        machine["compute_capability"] = tuple(machine["compute_capability"])
        answer["unfused"], answer["notes"] = tuple(answer["unfused"]), tuple(answer["notes"])
        return ChildBuilt(plan=(folder / _PLAN).read_bytes(), machine=Machine(**machine), **answer)


def work(content: Mapping[str, Any], folder: Path, tell: Tell) -> dict[str, Any]:
    """What the child does."""
    request = _request(content)
    module = seam.load()
    machine = this_machine(module)
    log = _ToldLog(module, tell)
    bytes_ = read_file(request.onnx)
    model = model_from_bytes(bytes_, request.onnx)
    files = external_files(model, request.onnx.parent)
    canary = _canary(request, log, tell) if request.canary else None
    tell("stage", f"build {request.onnx.name}")
    key = CacheKey(tensorrt=machine.tensorrt, gpu=machine.gpu, compute_capability=machine.capability)
    cache, notes = read_cache(request.timing_cache, key)

    def told(phase: str, done: int, steps: int) -> bool:
        tell("phase", [phase, done, steps])
        return True

    built = build_plan(
        bytes_,
        request.options,
        request.shapes,
        log=log,
        progress=told,
        cache=cache or None,
        path=request.onnx if files else None,
        unfuse=request.unfuse,
    )
    tell("said", f"{len(built.plan) / 2**20:.1f} MiB, {len(built.guard.repairs)} GridSample attributes repaired")
    (folder / _PLAN).write_bytes(built.plan)
    if built.rejected_cache is not None:
        notes, cache = [*notes, built.rejected_cache], b""
    config = builder_of(module, log).create_builder_config()
    notes += write_cache(
        request.timing_cache, key, built.timing_cache or b"", began_with=cache, merge=merge_by(config, log)
    )
    return {
        "machine": dataclasses.asdict(machine),
        "onnx_sha256": sha256_of_model(bytes_, files),
        "guard": dataclasses.asdict(built.guard),
        "unfused": list(built.unfused),
        "canary": canary,
        "precision": _precision(module, request, built, model, log, tell),
        "types": dict(built.types),
        "notes": notes,
    }


def _canary(request: BuildRequest, log: seam.Log, tell: Tell) -> dict[str, Any]:
    """Build and run the canary, with its weights and for this machine only; what goes wrong there fails nothing."""
    from refine_export.engine.canary import OUTPUT, canary_feeds, canary_onnx, check_canary
    from refine_export.engine.engine_runner import TrtRunner

    tell("stage", "canary")
    options = dataclasses.replace(
        request.options, strip_weights=False, refittable=False, version_compatible=False, exclude_lean_runtime=False
    )
    try:
        plan = build_plan(canary_onnx(), options, (), log=log, unfuse=request.unfuse).plan
        with TrtRunner(plan, unchecked=True, log=log) as runner:
            found = check_canary(runner.run(canary_feeds())[OUTPUT])
    except (RequestError, UnavailableError) as error:
        answer: dict[str, Any] = {"passed": None, "words": f"the canary could not be run: {error}"}
    else:
        answer = {**dataclasses.asdict(found), "words": found.words}
    tell("said", answer["words"])
    return answer


def _precision(
    module: Any, request: BuildRequest, built: Built, model: onnx.ModelProto, log: seam.Log, tell: Tell
) -> dict[str, Any]:
    """The proof of precision, of the engine as it loads; its host code is our own build's."""
    from refine_export.engine.inspector import check_precision, inspect_engine, nodes_from_onnx

    tell("stage", "prove the precision")
    try:
        runtime = module.Runtime(log.logger)
    except TypeError as error:  # the bindings' way to say null
        raise UnavailableError(f"TensorRT could not start its runtime{log.last_errors()}") from error
    runtime.engine_host_code_allowed = True
    engine = seam.required(runtime.deserialize_cuda_engine(built.plan), "load the engine that it has built", log)
    context = None
    if not request.options.strip_weights:  # without weights there is nothing to execute
        context = seam.required(engine.create_execution_context(), "make an execution context", log)
        for shape in request.shapes:
            if shape.dynamic and not context.set_input_shape(shape.name, shape.optimum):
                raise UnavailableError(f"TensorRT does not take {shape.name} at {shape.optimum}{log.last_errors()}")
    proof = check_precision(inspect_engine(module, engine, context), nodes_from_onnx(model))
    tell("said", "proven" if proof.proven else f"not proven: {'; '.join(proof.notes)}")
    return dataclasses.asdict(proof)


class _ToldLog(seam.Log):
    """A log that the parent reads as well, line by line, so that it has the last ones of a child that dies."""

    def __init__(self, module: Any, tell: Tell) -> None:
        self.lines = _ToldLines(tell)
        self.logger = seam._logger(module, self.lines)


class _ToldLines(deque[tuple[str, str]]):
    def __init__(self, tell: Tell) -> None:
        super().__init__(maxlen=seam.KEPT_LINES)
        self._tell = tell

    def append(self, line: tuple[str, str]) -> None:
        if line[0] != "VERBOSE":  # many thousands, among which errors are lost
            super().append(line)
            self._tell("log", list(line))


def _request(content: Mapping[str, Any]) -> BuildRequest:
    sizes = ("minimum", "optimum", "maximum")
    shapes = tuple(
        InputShapes(**{**shape, **{name: tuple(shape[name]) for name in sizes}}) for shape in content["shapes"]
    )
    paths = {name: Path(content[name]) for name in ("onnx", "timing_cache")}
    return BuildRequest(**{**content, **paths, "options": BuildOptions(**content["options"]), "shapes": tuple(shapes)})


if __name__ == "__main__":
    serve(work)
