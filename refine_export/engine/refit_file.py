"""A new engine from an old one and new weights: refitted, proven like a fresh one, with a manifest of its own."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from refine_export.engine import bindings as seam
from refine_export.engine.build_options import RUNGS, BuildOptions, Rung
from refine_export.engine.engine_file import EngineFile, scripts_of
from refine_export.engine.engine_runner import process_log
from refine_export.engine.fallbacks import Judge, climb
from refine_export.engine.identity import Machine, engine_key
from refine_export.engine.onnx_source import EngineSource, artifact_of, file_of_rung, read_source
from refine_export.engine.output_files import folder_beside, write_engine
from refine_export.engine.plan import ARTIFACT, KEY, key_of, read_plan
from refine_export.engine.refit_weights import refit_plan
from refine_export.errors import GraphError, RequestError
from refine_export.graph.model_file import read_file
from refine_export.support.files import make_folder
from refine_export.support.manifest import Manifest
from refine_export.support.progress import Progress


def refit_file(
    plan: Path,
    source: Path,
    output: Path,
    machine: Machine,
    judge_of: Callable[[EngineSource], Judge],
    progress: Progress,
) -> EngineFile:
    """Put the weights of an ONNX file into an engine, compare it with torch on the new weights, and write it.

    Args:
        plan: of an engine that takes weights, with its manifest beside it; it is not touched, unless it is `output`.
        source: lowered as the file was that the engine was built from.
        output: the new plan; what is there stays until the new engine has passed.
        machine: this one.
        judge_of: gives the judge of engines of `source`.
        progress: told of each step.

    Raises:
        GraphError: the plan or its manifest can't be used here, or the weights do not fit it.
        RequestError: the engine takes no new weights, or not these, or is not exact enough with them.
        UnavailableError: TensorRT or a GPU is missing, or fails.
    """
    started = time.perf_counter()
    content, manifest = read_plan(plan, machine)
    options, rung = _options(plan, manifest)
    read = read_source(source, options)
    judge = judge_of(read)
    log = process_log(seam.load())
    make_folder(output.parent)
    with folder_beside(output) as folder:
        file = source if rung == "fp32" else file_of_rung(rung, source, None, folder, output.name)
        new = read_source(file, options)
        _check_fits(plan, manifest, options, source, new)

        def refitted(_: Rung) -> bytes:
            with progress.step(f"refit {plan.name}") as say:
                found = refit_plan(content, read_file(file), log, path=file)
                say(f"{len(found) / 2**20:.1f} MiB")
            return found

        with progress.step("compare with torch"):
            climbed = climb((rung,), refitted, lambda engine: judge.compare(engine, rung), judge.limits)
        if (read_source(source, options).sha256, read_source(file, options).sha256) != (read.sha256, new.sha256):
            raise GraphError(f"{source} changed while it was being read; refit again when nothing writes to it")
        made = file if file != source else None
        key = engine_key(machine, onnx_sha256=read.sha256, profiles=read.profiles, options=options, rung=rung)
        before = manifest.details
        beside = output.with_name(file.name) if made else file
        used = dataclasses.replace(options, tf32=False) if rung == "fp32" else options
        scripts = scripts_of(output, beside, used, new.shapes, machine.tensorrt, before.get("unfused") or ())
        details: dict[str, Any] = dict(before) | {
            KEY: key.described(),
            ARTIFACT: artifact_of(file),
            "onnx": {**(before.get("onnx") or {"types": {}}), "file": file.name, "sha256": new.sha256},
            "ladder": [tried.to_dict() for tried in climbed.tried],
            "refitted": {"plan_sha256": manifest.sha256, "source_sha256": manifest.inputs.get("source_sha256")},
            "reproduce": sorted(scripts),
        }
        fresh = dataclasses.replace(
            manifest,
            artifact=output.name,
            sha256=hashlib.sha256(climbed.engine).hexdigest(),
            size_bytes=len(climbed.engine),
            inputs={
                "source": source.name,
                "source_sha256": read.sha256,
                "fp32_sha256": None,
                "judged_by": dict(judge.described),
            },
            signature=read.signature,
            fingerprint=key.fingerprint(),
            seconds=time.perf_counter() - started,
            details=details,
        )
        fresh = write_engine(output, climbed.engine, fresh, scripts, made)
    return EngineFile(path=output, size_bytes=len(climbed.engine), rung=rung, reused=False, changes=(), manifest=fresh)


def _options(plan: Path, manifest: Manifest) -> tuple[BuildOptions, Rung]:
    """The options and the rung of an engine that takes weights.

    Raises:
        RequestError: it takes none.
        GraphError: the manifest does not have them.
    """
    from pydantic import TypeAdapter, ValidationError

    rung = key_of(manifest).get("rung")
    try:
        options = TypeAdapter(BuildOptions).validate_json(json.dumps(manifest.options), strict=True)
        known = next(one for one in RUNGS if one == rung)
    except (ValidationError, StopIteration) as error:
        raise GraphError(f"the manifest of {plan} was altered: {error or rung}; copy it again") from error
    if not options.refittable and not options.strip_weights:
        raise RequestError(
            f"{plan} takes no new weights; expected an engine that was built with --refittable: build one, or build "
            "the new file"
        )
    return options, known


def _check_fits(plan: Path, manifest: Manifest, options: BuildOptions, source: Path, new: EngineSource) -> None:
    """Refuse what TensorRT would take and compute nonsense with.

    Raises:
        RequestError: other weights for an engine that was stripped of its own, or other shapes.
    """
    key = key_of(manifest)
    built_from: Mapping[str, Any] = manifest.details.get("onnx") or {}
    if options.strip_weights and new.sha256 != built_from.get("sha256"):
        raise RequestError(
            f"{plan} was built without its weights (strip_weights) from {built_from.get('file')} and takes back those "
            f"alone; {source} is another file: for other weights, build with --refittable"
        )
    if list(new.profiles) != list(key.get("profiles", [])) or _fixed(new.signature) != _fixed(manifest.signature):
        raise RequestError(f"{source} takes other shapes than {plan}; expected a file exported with the same options")


def _fixed(signature: Mapping[str, Any]) -> dict[str, list[int | None]]:
    """The sizes of each input, None where any will do: its name is the exporter's choice."""
    return {
        name: [size if isinstance(size, int) else None for size in shape]
        for name, shape in signature.get("inputs", {}).items()
    }
