"""An engine with its manifest: made from an ONNX file, reused while nothing changes."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_export.engine.bindings import MODULES, Library, load_library
from refine_export.engine.build_options import BuildOptions, Fallback
from refine_export.engine.build_process import BuildAnswer, BuildRequest, build_in_child
from refine_export.engine.engine_manifest import KIND, EngineDetails, engine_bytes, engine_details, manifest_of
from refine_export.engine.engine_runner import process_log
from refine_export.engine.fallbacks import Chosen, Judge, Numbers, fallbacks_of, first_exact
from refine_export.engine.identity import EngineKey, differences, engine_key
from refine_export.engine.machine import Machine, has_gpu_of, rtx_gpus, this_machine
from refine_export.engine.onnx_source import EngineSource, artifact_for_manifest, file_of_fallback, read_source
from refine_export.engine.output_files import folder_beside, write_engine
from refine_export.engine.refit_weights import refitted_engine
from refine_export.engine.timing_cache import timing_cache_path
from refine_export.errors import EngineError, GraphError
from refine_export.graph.model_file import read_file
from refine_export.support.environment import versions
from refine_export.support.files import make_folder, user_path
from refine_export.support.manifest import Manifest
from refine_export.support.progress import Progress
from refine_export.support.text import counted, dict_from_result, json_safe, listed

_PACKAGES = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx", "torch", "onnx", "onnx-ir", "numpy")


@dataclass(frozen=True, kw_only=True)
class EngineTarget:
    """Library and machine of a build."""

    library: Library
    machine: Machine
    """This machine; for rtx, the GPUs that the engine is for."""
    executes: bool
    """This machine has a GPU that runs the engine, so that it is compared."""


@dataclass(frozen=True, kw_only=True)
class EngineFile:
    """Result of a build or a refit."""

    path: Path
    size_bytes: int
    fallback: str
    reused: bool
    passed: bool | None
    """The engine was compared with torch and is exact enough; None where it cannot be executed here."""
    changes: tuple[str, ...]
    """Why an engine that was there was not reused, field by field."""
    notes: tuple[str, ...]
    """First what was proven of the engine."""
    manifest: Manifest = dataclasses.field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        return dict_from_result(self)


@dataclass(frozen=True, kw_only=True)
class _BuiltFallback:
    """One fallback's engine: from which file, and with which options."""

    answer: BuildAnswer
    file: Path
    options: BuildOptions
    fallback: Fallback


def engine_target(options: BuildOptions) -> EngineTarget:
    """Load the library that the options ask for, and find what it builds for.

    Raises:
        RequestError: `unsupported-option`; the library cannot honour an option.
        UnavailableError: the library is missing, or, for TensorRT, a GPU (`no-gpu`).
    """
    library = load_library(options.target)
    library.check_options(options)
    if library.name == "rtx":
        machine = rtx_gpus(library.version, options.compute_capabilities)
    else:
        machine = this_machine(library.version)
    return EngineTarget(library=library, machine=machine, executes=has_gpu_of(machine))


def engine_file(
    source: Path,
    output: Path,
    options: BuildOptions,
    judge: Judge | None,
    progress: Progress,
    *,
    target: EngineTarget,
    fp32: Path | None = None,
    commands: Sequence[Mapping[str, Any]] = (),
) -> EngineFile:
    """Build the engine of an ONNX file, with its manifest beside it, or reuse the one there.

    The fallback `gather` writes the file that it was built from beside the engine: `NAME.plan.gather.onnx`.

    Args:
        source: of any precision, with its external data beside it.
        output: the engine; what is there stays until a fallback has passed.
        options: of the build.
        judge: compares the engines; None exactly where `EngineTarget.executes` is false.
        progress: of each step, and of TensorRT's own phases.
        target: `engine_target` of the options.
        fp32: what `source` was lowered from, for the fallback `fp32`.
        commands: for the manifest.

    Raises:
        GraphError: the file, or the sizes in the options that do not fit it; or `changed-during-build`.
        RequestError: `no-exact-engine`, or the output cannot be written.
        UnavailableError: no engine could be built, since this machine lacks something.
    """
    started = time.perf_counter()
    library, machine = target.library, target.machine
    options = dataclasses.replace(options, target=library.name)
    onnx = read_source(source, options)
    fp32_sha256 = None if fp32 is None else read_source(fp32, options).sha256
    inputs = {
        "source": source.name,
        "source_sha256": onnx.sha256,
        "fp32_sha256": fp32_sha256,
        "judged_by": dict(judge.described) if judge else None,
    }

    def key_for(fallback: str) -> EngineKey:
        sha256 = onnx.sha256
        if fallback == "fp32" and fp32_sha256 is not None:  # the source as well: changed, it might pass
            sha256 = hashlib.sha256(f"{onnx.sha256} {fp32_sha256}".encode()).hexdigest()
        return engine_key(machine, onnx_sha256=sha256, profiles=onnx.profiles, options=options, fallback=fallback)

    old, changes = _reusable(output, options, key_for, inputs)
    if old is not None:
        return engine_file_from_manifest(output, old, reused=True)
    make_folder(output.parent)
    folder_of_timings = user_path(options.timing_cache) if options.timing_cache else output.parent

    def build(fallback: Fallback, folder: Path) -> _BuiltFallback:
        file = file_of_fallback(fallback, source, fp32, folder, output.name)
        used = dataclasses.replace(options, tf32=False) if fallback == "fp32" else options
        before = read_source(file, used)
        request = BuildRequest(
            onnx=file,
            options=used,
            shapes=before.shapes,
            timings=timing_cache_path(folder_of_timings, machine) if "timing_cache" in library.can else None,
            executes=target.executes,
            unfuse=fallback == "unfused",
        )
        answer = build_in_child(request, folder, progress)
        # The child read the file by itself, and `gather` was made from the source.
        if (answer.onnx_sha256, read_source(source, options).sha256) != (before.sha256, onnx.sha256):
            problem = "changed while it was being built; build it again when nothing writes to it"
            raise GraphError.about(file, "changed-during-build", problem)
        return _BuiltFallback(answer=answer, file=file, options=used, fallback=fallback)

    def compare(built: _BuiltFallback) -> Sequence[Numbers]:
        assert judge is not None
        with progress.step(f"compare the fallback {built.fallback} with torch") as outcome:
            engine = built.answer.engine
            if built.options.strip_weights:  # its weights are in the file that it was built from
                log = process_log(library.module)
                engine = refitted_engine(library.module, engine, read_file(built.file), log, path=built.file)
            numbers = judge.compare(engine, built.fallback)
            outcome(f"{counted(len(numbers), 'output')}")
        return numbers

    with folder_beside(output) as folder:
        chosen = first_exact(
            fallbacks_of(options, compares=judge is not None, from_fp32=fp32_sha256 == onnx.sha256),
            lambda fallback: build(fallback, folder),
            compare if judge else None,
        )
        built = chosen.engine
        made = built.file if built.file.parent == folder else None
        manifest = new_manifest(
            output,
            built.answer.engine,
            onnx,
            inputs=inputs,
            options=options,
            versions=versions(_PACKAGES) | {MODULES[library.name]: library.version},
            seconds=time.perf_counter() - started,
            details=_details(chosen, target, key_for(chosen.fallback)),
            commands=commands,
        )
        write_engine(output, built.answer.engine, manifest, made)
    return engine_file_from_manifest(output, manifest, changes=changes)


def new_manifest(
    output: Path,
    engine: bytes,
    source: EngineSource,
    *,
    inputs: Mapping[str, Any],
    options: BuildOptions,
    versions: Mapping[str, str],
    seconds: float,
    details: EngineDetails,
    commands: Sequence[Mapping[str, Any]],
) -> Manifest:
    """Return the manifest of an engine."""
    return Manifest(
        artifact=output.name,
        kind=KIND,
        sha256=hashlib.sha256(engine).hexdigest(),
        size_bytes=len(engine),
        inputs=inputs,
        options=dataclasses.asdict(options),
        versions=versions,
        signature=source.signature,
        fingerprint=details.key.fingerprint(),
        seconds=seconds,
        details=json_safe(details),
        commands=commands,
    )


def engine_file_from_manifest(
    output: Path, manifest: Manifest, *, reused: bool = False, changes: Sequence[str] = ()
) -> EngineFile:
    """Return the result of a build or a refit from the manifest that it wrote."""
    details = engine_details(manifest.details)
    return EngineFile(
        path=output,
        size_bytes=manifest.size_bytes,
        fallback=details.key.fallback,
        reused=reused,
        passed=True if details.fallbacks[-1].status == "passed" else None,
        changes=tuple(changes),
        notes=(details.proven, *details.notes),
        manifest=manifest,
    )


def _reusable(
    output: Path, options: BuildOptions, key_for: Callable[[str], EngineKey], inputs: Mapping[str, Any]
) -> tuple[Manifest | None, list[str]]:
    """Return the manifest of the engine that is there if a build would make the same, otherwise what differs."""
    if not output.exists():
        return None, []
    try:
        manifest = manifest_of(output, engine_bytes(output))
    except EngineError as error:
        return None, [str(error)]
    details = engine_details(manifest.details)
    changes = differences(
        details.key, key_for(details.key.fallback if options.fallback == "auto" else options.fallback)
    )
    if details.refitted:
        changes.append("refitted: was True, is False")
    for name in ("fp32_sha256", "judged_by"):
        before = manifest.inputs.get(name)
        if before != inputs[name]:
            changes.append(f"{name}: was {before}, is {inputs[name]}")
    return (None, changes) if changes else (manifest, [])


def _details(chosen: Chosen[_BuiltFallback], target: EngineTarget, key: EngineKey) -> EngineDetails:
    built, answer = chosen.engine, chosen.engine.answer
    notes = list(answer.notes)
    if unchecked := answer.inferred.unchecked:
        notes.append(f"the types of {len(unchecked)} convolutions and samplers are not checked: {listed(unchecked, 8)}")
    return EngineDetails(
        key=key,
        artifact=artifact_for_manifest(built.file),
        onnx={"file": built.file.name, "sha256": answer.onnx_sha256},
        samplers=answer.samplers,
        unfused=answer.unfused,
        inferred=answer.inferred,
        probed=answer.probed,
        precision=answer.precision,
        memory=answer.memory,
        fallbacks=chosen.tried,
        proven=f"built and type-checked by {target.library.title}; "
        + ("compared with torch" if chosen.tried[-1].status == "passed" else "not executed: no RTX GPU"),
        driver=target.machine.driver,
        notes=tuple(notes),
    )
