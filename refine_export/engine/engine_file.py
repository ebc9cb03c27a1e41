"""An engine with its manifest and reproduce scripts: made from an ONNX file, reused while nothing changes."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from refine_export.engine import bindings as seam
from refine_export.engine.build_options import BuildOptions, Rung
from refine_export.engine.build_process import BuildRequest, ChildBuilt, build_in_child
from refine_export.engine.engine_runner import process_log
from refine_export.engine.fallbacks import Climbed, Judge, Numbers, climb, rungs_of
from refine_export.engine.identity import EngineKey, Machine, differences, engine_key, this_machine
from refine_export.engine.onnx_source import artifact_of, file_of_rung, read_source
from refine_export.engine.output_files import POLYGRAPHY, TRTEXEC, folder_beside, write_engine
from refine_export.engine.plan import ARTIFACT, KEY, KIND, key_of, read_plan
from refine_export.engine.profile_shapes import InputShapes
from refine_export.engine.refit_weights import refit_plan
from refine_export.engine.reproduce import Reproduction, polygraphy_script, trtexec_script
from refine_export.errors import GraphError
from refine_export.graph.model_file import read_file
from refine_export.support.environment import versions
from refine_export.support.files import make_folder, user_path
from refine_export.support.manifest import Manifest
from refine_export.support.progress import Progress

_Engine = tuple[ChildBuilt, Path, BuildOptions, Rung]
"""What was built, from which file, with which options, for which rung."""
_PACKAGES = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "torch", "onnx", "onnx-ir", "numpy")


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

    def to_dict(self) -> dict[str, Any]:
        """What `--json` prints."""
        content = dataclasses.asdict(self)
        return content | {"path": str(self.path)}


def engine_file(
    source: Path,
    output: Path,
    options: BuildOptions,
    judge: Judge,
    progress: Progress,
    *,
    fp32: Path | None = None,
) -> EngineFile:
    """Build the engine of an ONNX file, with its manifest and reproduce scripts beside it, or reuse the one there.

    The rung `gather` writes the file that it was built from beside the engine: `NAME.plan.gather.onnx`.

    Args:
        source: of any precision, with its external data beside it.
        output: the plan; what is there stays until a rung has passed.
        options: of the build.
        judge: of the rungs.
        progress: told of each step, and of TensorRT's own phases.
        fp32: what `source` was lowered from, for the rung `fp32`.

    Raises:
        GraphError: the file, or the sizes in the options that do not fit it.
        RequestError: no rung is exact enough, or the output can't be written.
        UnavailableError: TensorRT or a GPU is missing, or no rung could be built.
    """
    started = time.perf_counter()
    timings = user_path(options.timing_cache) if options.timing_cache else output.parent
    machine = this_machine(seam.load())
    read = read_source(source, options)
    fp32_sha256 = None if fp32 is None else read_source(fp32, options).sha256
    inputs = {
        "source": source.name,
        "source_sha256": read.sha256,
        "fp32_sha256": fp32_sha256,
        "judged_by": dict(judge.described),
    }

    def key_for(rung: str, machine: Machine) -> EngineKey:
        sha256 = read.sha256
        if rung == "fp32" and fp32_sha256 is not None:  # the source as well: changed, it might pass
            sha256 = hashlib.sha256(f"{read.sha256} {fp32_sha256}".encode()).hexdigest()
        return engine_key(machine, onnx_sha256=sha256, profiles=read.profiles, options=options, rung=rung)

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

    def build(rung: Rung) -> _Engine:
        file = file_of_rung(rung, source, fp32, folder, output.name)
        used = dataclasses.replace(options, tf32=False) if rung == "fp32" else options
        expected = read_source(file, used)
        wanted = {"native": read.sha256, "unfused": read.sha256, "fp32": fp32_sha256}.get(rung, expected.sha256)
        unchanged(expected.sha256, wanted, file)
        request = BuildRequest(
            onnx=file,
            options=used,
            shapes=expected.shapes,
            timing_cache=timings,
            unfuse=rung == "unfused",
            canary=not canaries,
        )
        built = build_in_child(request, output, progress, phases=progress.within)
        if built.canary is not None:
            canaries.append(built.canary)
        unchanged(built.onnx_sha256, wanted, file)
        unchanged(read_source(source, options).sha256, read.sha256, source)  # what `gather` was made from
        return built, file, used, rung

    def unchanged(sha256: str, before: str | None, file: Path) -> None:
        if sha256 != before:
            raise GraphError(f"{file} changed while it was being built; build it again when nothing writes to it")

    def compare(engine: _Engine) -> Sequence[Numbers]:
        built, file, used, rung = engine
        with progress.step(f"compare the rung {rung} with torch") as say:
            numbers = judge.compare(_with_weights(built.plan, file) if used.strip_weights else built.plan, rung)
            say(f"{len(numbers)} outputs")
        return numbers

    with folder_beside(output) as folder:
        climbed = climb(rungs_of(options), build, compare, judge.limits)
        built, file, used, rung = climbed.engine
        made = file if file.parent == folder else None
        key = key_for(rung, built.machine)
        beside = output.with_name(file.name) if made else file
        scripts = scripts_of(output, beside, used, read.shapes, built.machine.tensorrt, built.unfused)
        details = _details(key, climbed, file, canaries, scripts)
        manifest = Manifest(
            artifact=output.name,
            kind=KIND,
            sha256=hashlib.sha256(built.plan).hexdigest(),
            size_bytes=len(built.plan),
            inputs=inputs,
            options=dataclasses.asdict(options),
            versions=versions(_PACKAGES) | {"tensorrt": built.machine.tensorrt},
            signature=read.signature,
            fingerprint=key.fingerprint(),
            seconds=time.perf_counter() - started,
            details=details,
        )
        manifest = write_engine(output, built.plan, manifest, scripts, made)
    return EngineFile(
        path=output, size_bytes=len(built.plan), rung=rung, reused=False, changes=tuple(changes), manifest=manifest
    )


def _with_weights(plan: bytes, file: Path) -> bytes:
    """A plan that was built without its weights, with them: they are in the file that it was built from."""
    return refit_plan(plan, read_file(file), process_log(seam.load()), path=file)


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
    if manifest.details.get("refitted"):
        changes.append("refitted: was True, is False")
    for name in ("fp32_sha256", "judged_by"):
        before = manifest.inputs.get(name)
        if before != inputs[name]:
            changes.append(f"{name}: was {before}, is {inputs[name]}")
    same = not changes and manifest.fingerprint == wanted.fingerprint()
    return (manifest, []) if same else (None, changes)


def scripts_of(
    output: Path,
    file: Path,
    options: BuildOptions,
    shapes: Sequence[InputShapes],
    version: str,
    unfused: Sequence[str],
) -> dict[str, str]:
    """Name and text of the scripts for a cross-check; their engines go beside this one.

    Args:
        output: the plan.
        file: that it was built from.
        options: that it was built with.
        shapes: of its inputs.
        version: full, of TensorRT.
        unfused: tensors that were kept from fusing.
    """

    def what(tool: Literal["trtexec", "polygraphy"]) -> Reproduction:
        return Reproduction(
            onnx=str(file.absolute()),
            plan=str(output.with_name(f"{output.stem}.{tool}{output.suffix}").absolute()),
            options=options,
            shapes={shape.name: (shape.minimum, shape.optimum, shape.maximum) for shape in shapes if shape.dynamic},
            version=version,
            debug_tensors=tuple(unfused),
        )

    return {
        output.name + TRTEXEC: trtexec_script(what("trtexec")),
        output.name + POLYGRAPHY: polygraphy_script(what("polygraphy")),
    }


def _details(
    key: EngineKey,
    climbed: Climbed[_Engine],
    file: Path,
    canaries: Sequence[Mapping[str, Any]],
    scripts: Mapping[str, str],
) -> dict[str, Any]:
    built = climbed.engine[0]
    return {
        KEY: key.described(),
        ARTIFACT: artifact_of(file),
        "onnx": {"file": file.name, "sha256": built.onnx_sha256, "types": dict(built.types)},
        "guard": dict(built.guard),
        "unfused": list(built.unfused),
        "canary": dict(canaries[0]) if canaries else None,
        "precision": dict(built.precision),
        "ladder": [tried.to_dict() for tried in climbed.tried],
        "reproduce": sorted(scripts),
        "driver": built.machine.driver,
        "notes": list(built.notes),
    }
