"""A new engine from an old one and new weights: refitted, compared like a fresh one, with a manifest of its own."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from refine_export.engine.build_options import BuildOptions, Fallback
from refine_export.engine.engine_file import EngineFile, EngineTarget, engine_file_from_manifest, new_manifest
from refine_export.engine.engine_manifest import EngineDetails, check_engine, engine_bytes, engine_details, options_of
from refine_export.engine.engine_runner import process_log
from refine_export.engine.fallbacks import Judge, first_exact
from refine_export.engine.identity import engine_key
from refine_export.engine.onnx_source import EngineSource, artifact_for_manifest, file_of_fallback, read_source
from refine_export.engine.output_files import folder_beside, write_engine
from refine_export.engine.refit_weights import refitted_engine
from refine_export.errors import GraphError, RequestError
from refine_export.graph.model_file import read_file
from refine_export.support.files import make_folder
from refine_export.support.manifest import Manifest
from refine_export.support.progress import Progress


def refit_file(
    engine: Path,
    source: Path,
    output: Path,
    target: EngineTarget,
    judge_of: Callable[[EngineSource], Judge],
    progress: Progress,
    commands: Sequence[Mapping[str, Any]],
) -> EngineFile:
    """Put the weights of an ONNX file into an engine, compare it with torch on the new weights, and write it.

    Args:
        engine: one that takes weights, with its manifest beside it; it is not touched, unless it is `output`.
        source: lowered as the file was that the engine was built from.
        output: the new engine; what is there stays until the new one has passed.
        target: TensorRT and this machine.
        judge_of: gives the comparison for engines of `source`.
        progress: of each step.
        commands: for the manifest.

    Raises:
        EngineError: as `engine_bytes` and `check_engine`.
        GraphError: `weights-mismatch`, or `changed-during-build`.
        RequestError: `not-refittable`, `wrong-weights`, `wrong-shapes`, or `no-exact-engine`.
        UnavailableError: TensorRT or a GPU is missing, or fails.
    """
    started = time.perf_counter()
    content = engine_bytes(engine)
    manifest = check_engine(engine, content, target.machine)
    options, before = options_of(manifest), engine_details(manifest.details)
    fallback = before.fallbacks[-1].fallback
    if not options.refittable and not options.strip_weights:
        problem = (
            "does not take new weights; expected an engine that was built with --refittable: build one, or "
            "build the new file"
        )
        raise RequestError.about(engine, "not-refittable", problem)
    read = read_source(source, options)
    judge = judge_of(read)
    log = process_log(target.library.module)
    make_folder(output.parent)
    with folder_beside(output) as folder:
        file = source if fallback == "fp32" else file_of_fallback(fallback, source, None, folder, output.name)
        new = read_source(file, options)
        _check_fits(engine, manifest, before, options, source, new)

        def refitted(_: Fallback) -> bytes:
            with progress.step(f"refit {engine.name}") as outcome:
                found = refitted_engine(target.library.module, content, read_file(file), log, path=file)
                outcome(f"{len(found) / 2**20:.1f} MiB")
            return found

        with progress.step("compare with torch"):
            chosen = first_exact((fallback,), refitted, lambda engine: judge.compare(engine, fallback))
        if (read_source(source, options).sha256, read_source(file, options).sha256) != (read.sha256, new.sha256):
            problem = "changed while it was being read; refit again when nothing writes to it"
            raise GraphError.about(source, "changed-during-build", problem)
        made = file if file != source else None
        key = engine_key(
            target.machine, onnx_sha256=read.sha256, profiles=read.profiles, options=options, fallback=fallback
        )
        fresh = new_manifest(
            output,
            chosen.engine,
            read,
            inputs={
                "source": source.name,
                "source_sha256": read.sha256,
                "fp32_sha256": None,
                "judged_by": dict(judge.described),
            },
            options=options,
            versions=manifest.versions,
            seconds=time.perf_counter() - started,
            details=dataclasses.replace(
                before,
                key=key,
                artifact=artifact_for_manifest(file),
                onnx={"file": file.name, "sha256": new.sha256},
                fallbacks=chosen.tried,
                refitted={"plan_sha256": manifest.sha256, "source_sha256": manifest.inputs["source_sha256"]},
                proven="refitted; compared with torch",
                notes=(),
            ),
            commands=commands,
        )
        write_engine(output, chosen.engine, fresh, made)
    return engine_file_from_manifest(output, fresh)


def _check_fits(
    engine: Path, manifest: Manifest, details: EngineDetails, options: BuildOptions, source: Path, new: EngineSource
) -> None:
    """Refuse what TensorRT would take, and compute nonsense with."""
    if options.strip_weights and new.sha256 != details.onnx["sha256"]:
        raise RequestError(
            f"{engine} was built without its weights (strip_weights) from {details.onnx['file']} and takes back those "
            f"alone; {source} is another file: for other weights, build with --refittable",
            code="wrong-weights",
            path=source,
        )
    if list(new.profiles) != list(details.key.profiles) or _fixed(new.signature) != _fixed(manifest.signature):
        problem = f"takes other shapes than {engine}; expected a file exported with the same options"
        raise RequestError.about(source, "wrong-shapes", problem)


def _fixed(signature: Mapping[str, Any]) -> dict[str, list[int | None]]:
    """The sizes of each input, None for a free one: its name is the exporter's choice."""
    return {
        name: [size if isinstance(size, int) else None for size in shape] for name, shape in signature["inputs"].items()
    }
