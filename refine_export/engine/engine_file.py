"""An engine with its manifest and reproduce scripts: made from an ONNX file, reused while nothing changes."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from refine_export.atomic import make_folder, write_bytes, write_text
from refine_export.engine import trt as seam
from refine_export.engine.child import BuildRequest, ChildBuilt, build_in_child
from refine_export.engine.key import EngineKey, Machine, differences, engine_key, this_machine
from refine_export.engine.ladder import Climbed, Numbers, climb, rungs_of
from refine_export.engine.options import BuildOptions, Rung
from refine_export.engine.plan import KEY, KIND, key_of, read_plan
from refine_export.engine.reproduce import Reproduction, polygraphy_script, trtexec_script
from refine_export.engine.shapes import InputShapes, shapes_from_options
from refine_export.engine.supervise import Phases
from refine_export.environment import versions
from refine_export.errors import GraphError, RequestError
from refine_export.graph.load import (
    bytes_from_model,
    external_files,
    load_external_data,
    model_from_bytes,
    read_file,
    sha256_of_model,
)
from refine_export.manifest import Manifest, write_manifest
from refine_export.onnx_file import described, recognised
from refine_export.progress import Progress
from refine_export.runners.base import TensorInfo
from refine_export.validate import Limits

_PACKAGES = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "torch", "onnx", "onnx-ir", "numpy")


@dataclass(frozen=True, kw_only=True)
class Judge:
    """How the engines of the rungs are judged against FP32 torch."""

    compare: Callable[[bytes, Rung], Sequence[Numbers]]
    """Runs a plan, whose host code is our own build's."""
    limits: Callable[[Rung], Limits]
    described: Mapping[str, Any]
    """JSON: limits, frames, weights; where it changes, an engine is judged anew, so built anew."""


@dataclass(frozen=True, kw_only=True)
class EngineFile:
    """What was made."""

    path: Path
    size_bytes: int
    rung: str
    reused: bool
    changes: tuple[str, ...]
    """Why an engine that was there was not reused, field by field."""
    manifest: Manifest


def engine_file(
    source: Path,
    output: Path,
    options: BuildOptions,
    judge: Judge,
    progress: Progress,
    *,
    fp32: Path | None = None,
    phases: Phases | None = None,
) -> EngineFile:
    """Build the engine of an ONNX file, with its manifest and reproduce scripts beside it, or reuse the one there.

    The rung `gather` writes the file that it was built from beside the engine: `NAME.plan.gather.onnx`.

    Args:
        source: of any precision, with its external data beside it.
        output: the plan; what is there stays until a rung has passed.
        options: of the build.
        judge: of the rungs.
        progress: told of each step.
        fp32: what `source` was lowered from, for the rung `fp32`.
        phases: told of TensorRT's own.

    Raises:
        GraphError: the file, or the sizes in the options that do not fit it.
        RequestError: no rung is exact enough, or the output can't be written.
        UnavailableError: TensorRT or a GPU is missing, or no rung could be built.
    """
    started = time.perf_counter()
    machine = this_machine(seam.load())
    source_sha256, signature, shapes = _read(source, options)
    fp32_sha256 = None if fp32 is None else _read(fp32, options)[0]
    inputs = {
        "source": source.name,
        "source_sha256": source_sha256,
        "fp32_sha256": fp32_sha256,
        "judged_by": dict(judge.described),
    }

    def key_for(rung: str, machine: Machine) -> EngineKey:
        sha256 = source_sha256
        if rung == "fp32" and fp32_sha256 is not None:  # the source as well: changed, it might pass
            sha256 = hashlib.sha256(f"{source_sha256} {fp32_sha256}".encode()).hexdigest()
        return engine_key(machine, onnx_sha256=sha256, profiles=_profiles(shapes), options=options, rung=rung)

    old, changes = _reusable(output, machine, options, key_for, inputs)
    if old is not None:
        return EngineFile(
            path=output,
            size_bytes=old.size_bytes,
            rung=str(old.details[KEY]["rung"]),
            reused=True,
            changes=(),
            manifest=old,
        )
    make_folder(output.parent)
    canaries: list[Mapping[str, Any]] = []

    def build(rung: Rung) -> tuple[ChildBuilt, Path, BuildOptions, Rung]:
        file = _file_of(rung, source, output, fp32)
        used = dataclasses.replace(options, tf32=False) if rung == "fp32" else options
        expected, _, sizes = _read(file, used)
        request = BuildRequest(
            onnx=file,
            options=used,
            shapes=sizes,
            timing_cache=Path(options.timing_cache).expanduser() if options.timing_cache else output.parent,
            unfuse=rung == "unfused",
            canary=not canaries,
        )
        built = build_in_child(request, output, progress, phases=phases)
        if built.canary is not None:
            canaries.append(built.canary)
        if built.onnx_sha256 != expected:
            raise GraphError(f"{file} changed while it was being built; build it again when nothing writes to it")
        return built, file, used, rung

    climbed = climb(rungs_of(options), build, lambda engine: judge.compare(engine[0].plan, engine[3]), judge.limits)
    built, file, used, rung = climbed.engine
    key = key_for(rung, built.machine)
    scripts = _scripts(output, file, used, shapes, built)
    details = _details(key, climbed, canaries, scripts)
    manifest = Manifest(
        artifact=output.name,
        kind=KIND,
        sha256=hashlib.sha256(built.plan).hexdigest(),
        size_bytes=len(built.plan),
        inputs=inputs,
        options=dataclasses.asdict(options),
        versions=versions(_PACKAGES) | {"tensorrt": built.machine.tensorrt},
        signature=signature,
        fingerprint=key.fingerprint(),
        seconds=time.perf_counter() - started,
        details=details,
    )
    write_bytes(output, built.plan)
    write_manifest(output, manifest)
    for name, text in scripts.items():
        write_text(output.with_name(name), text)
    return EngineFile(
        path=output, size_bytes=len(built.plan), rung=rung, reused=False, changes=tuple(changes), manifest=manifest
    )


def _read(path: Path, options: BuildOptions) -> tuple[str, dict[str, Any], tuple[InputShapes, ...]]:
    """Hash, inputs and outputs, and shapes of an ONNX file."""
    content = read_file(path)
    model = model_from_bytes(content, path)
    signature = described(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    infos = [
        TensorInfo(name=name, dtype="", shape=tuple(shape))  # types are the parser's business
        for name, shape in signature["inputs"].items()
        if name not in weights
    ]
    shapes = shapes_from_options(infos, options, recognised(model))
    return sha256_of_model(content, external_files(model, path.parent)), signature, shapes


def _profiles(shapes: Sequence[InputShapes]) -> list[dict[str, list[list[int]]]]:
    named = {
        shape.name: [list(shape.minimum), list(shape.optimum), list(shape.maximum)] for shape in shapes if shape.dynamic
    }
    return [named] if named else []


def _reusable(
    output: Path,
    machine: Machine,
    options: BuildOptions,
    key_for: Callable[[str, Machine], EngineKey],
    inputs: Mapping[str, Any],
) -> tuple[Manifest | None, list[str]]:
    """The manifest of an engine that is what would be built, or what makes the one that is there another."""
    if not output.exists():
        return None, []
    try:
        manifest = read_plan(output, machine)[1]
    except GraphError as error:
        return None, [str(error)]
    key = key_of(manifest)
    wanted = key_for(str(key.get("rung")) if options.rung == "auto" else options.rung, machine)
    changes = differences(key, wanted)
    for name in ("fp32_sha256", "judged_by"):
        before = manifest.inputs.get(name)
        if before != inputs[name]:
            changes.append(f"{name}: was {before}, is {inputs[name]}")
    same = not changes and manifest.fingerprint == wanted.fingerprint()
    return (manifest, []) if same else (None, changes)


def _file_of(rung: Rung, source: Path, output: Path, fp32: Path | None) -> Path:
    """The ONNX file that a rung is built from; that of `gather` is made."""
    if rung == "fp32":
        if fp32 is None:
            raise RequestError("the rung fp32 needs the FP32 file; give it, or take another rung")
        return fp32
    if rung != "gather":
        return source
    import onnx_ir as ir

    from refine_export.graph.warp import lower_grid_sample

    proto = model_from_bytes(read_file(source), source)
    if not load_external_data(proto, source.parent):
        raise GraphError(f"{source} has more than 2 GiB of external data; expected a model that fits into one file")
    model = ir.from_proto(proto)
    if not lower_grid_sample(model):
        raise GraphError(f"{source} has no GridSample, so the rung gather is the rung native; take that one")
    path = output.with_name(f"{output.name}.gather.onnx")  # no name that `lower` gives
    if path.exists() and path.samefile(source):
        raise RequestError(f"{path} is the source itself, and would be overwritten; choose another output")
    write_bytes(path, bytes_from_model(model))
    return path


def _scripts(
    output: Path, file: Path, options: BuildOptions, shapes: Sequence[InputShapes], built: ChildBuilt
) -> dict[str, str]:
    """Name and text of the scripts for a cross-check; their engines go beside this one."""

    def what(tool: Literal["trtexec", "polygraphy"]) -> Reproduction:
        return Reproduction(
            onnx=str(file.absolute()),
            plan=str(output.with_name(f"{output.stem}.{tool}{output.suffix}").absolute()),
            options=options,
            shapes={shape.name: (shape.minimum, shape.optimum, shape.maximum) for shape in shapes if shape.dynamic},
            version=built.machine.tensorrt,
            debug_tensors=built.unfused,
        )

    return {
        f"{output.name}.trtexec.sh": trtexec_script(what("trtexec")),
        f"{output.name}.polygraphy.sh": polygraphy_script(what("polygraphy")),
    }


def _details(
    key: EngineKey,
    climbed: Climbed[tuple[ChildBuilt, Path, BuildOptions, Rung]],
    canaries: Sequence[Mapping[str, Any]],
    scripts: Mapping[str, str],
) -> dict[str, Any]:
    built, file, _, _ = climbed.engine
    return {
        KEY: key.described(),
        "onnx": {"file": file.name, "sha256": built.onnx_sha256, "types": dict(built.types)},
        "guard": dict(built.guard),
        "unfused": list(built.unfused),
        "canary": dict(canaries[0]) if canaries else None,
        "precision": dict(built.precision),
        "ladder": [tried.as_json() for tried in climbed.tried],
        "reproduce": sorted(scripts),
        "driver": built.machine.driver,
        "notes": list(built.notes),
    }
