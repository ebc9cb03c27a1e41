"""A lowered ONNX file with its manifest: made from an FP32 file, reused while nothing that it depends on changes."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from refine_export.artifacts import graph_of_model, io_description
from refine_export.errors import GraphError, RequestError
from refine_export.graph.model_file import (
    external_files,
    load_external_data,
    model_from_bytes,
    read_file,
    sha256_of_model,
)
from refine_export.lower.calibration_feeds import Calibration, feeds_of_calibration
from refine_export.lower.fp32_islands import Accuracy, Bench, is_search_memory, regions_of, search
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowered_result import LoweredFile, lowered_from_manifest
from refine_export.lower.lowering import Lowered, calibrated, check_lowered, lower, prepare_model
from refine_export.support.environment import LOWERERS, versions
from refine_export.support.files import make_folder, write_bytes
from refine_export.support.imports import require
from refine_export.support.manifest import (
    Manifest,
    fingerprint,
    manifest_path,
    reusable,
    sha256_of_file,
    write_manifest,
)
from refine_export.support.progress import Progress
from refine_export.support.text import json_safe

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir


LONGEST_NAME = 200  # bytes, so that the files beside it and their temporary names fit into 255


def check_output(source: Path, output: Path, *, force: bool) -> None:
    """Refuse to overwrite, before any work is done.

    Raises:
        RequestError: the two are one file, `output` is there and `force` is not given, or its folder can't be made.
    """
    if not output.name or output.is_dir():
        raise RequestError(f"output is {str(output)!r}, which is a folder; expected the name of the file to write")
    if len(os.fsencode(output.name)) > LONGEST_NAME:
        raise RequestError(f"the name {output.name[:40]}... is too long; expected at most {LONGEST_NAME} bytes")
    memory = search_memory(output)
    for path in (output, manifest_path(output), memory):
        if path.exists() and not path.is_file():
            raise RequestError(f"{path} is no regular file; choose another name with --output")
        if path.exists() and source.exists() and source.samefile(path):
            raise RequestError(f"{path} is the file to be lowered itself; give another name with --output")
    if os.path.lexists(memory) and not force and not is_search_memory(memory):
        raise RequestError(f"{memory} is there and is no search of this tool; move it, or overwrite it with --force")
    for path in (output, manifest_path(output)):
        if os.path.lexists(path) and not force:
            raise RequestError(f"{path} is there already; choose another name, or overwrite it with --force")
    make_folder(output.parent)


def lower_file(
    source: Path,
    output: Path,
    options: LowerOptions,
    calibration: Calibration,
    progress: Progress,
    *,
    without_warp: bool = False,
) -> LoweredFile:
    """Lower an FP32 ONNX file to `output`, with a manifest that has every node's type and reason.

    Args:
        source: FP32 ONNX, of any tool; external data beside it.
        output: written, or reused if it was made from the same.
        options: of the lowering.
        calibration: what ranges are measured on.
        progress: told of each step.
        without_warp: the graph is known to sample nothing.

    Raises:
        GraphError: the file can't be lowered; the message says why.
        RequestError: the feeds do not fit it.
        UnavailableError: ONNX Runtime, onnx or torch is missing.
    """
    require("onnx_ir", extra="ort")
    import onnx_ir as ir

    started = time.perf_counter()
    content = read_file(source)
    model = model_from_bytes(content, source)
    files = external_files(model, source.parent)
    graph = graph_of_model(model)
    checkpoint = calibration.checkpoint() if graph is not None and not calibration.files else None
    inputs = {
        "source": source.name,
        "source_sha256": sha256_of_model(content, files),
        "calibration": [sha256_of_file(path) for path in _existing(calibration.files)],
        "frames": list(calibration.source.pair.sha256),
        "size": calibration.size,
        "checkpoint_sha256": None if checkpoint is None else checkpoint.sha256,
    }
    used = versions(LOWERERS)
    key = fingerprint(inputs, options, used)
    if (manifest := reusable(output, key)) is not None:
        with suppress(KeyError, TypeError, ValueError, AttributeError):  # a manifest that lies
            return lowered_from_manifest(manifest, output, time.perf_counter() - started)
    if not load_external_data(model, source.parent):
        raise GraphError(f"{source} has more than 2 GiB of external data; expected a model that fits into one file")
    with progress.step(f"read {source.name}") as say:
        prepared = prepare_model(_valid(model, source), options, graph, without_warp=without_warp)
        say(f"{len(prepared.model.graph)} nodes" + (f", the graph {graph}" if graph else ""))
    with progress.step("calibrate") as say:
        feeds = list(feeds_of_calibration(prepared, checkpoint, calibration))
        prepared = calibrated(prepared, feeds)
        largest = max(prepared.ranges.items(), key=lambda item: item[1].largest)
        say(f"{len(feeds)} feeds; the largest magnitude is {largest[1].largest:.4g} in {largest[0]}")
    search_key = fingerprint(inputs, _measured_by(options), used)
    memory = search_memory(output) if options.searches else None
    bench = Bench(prepared, options, feeds, memory=memory, key=search_key)
    found = None
    if options.searches:
        found = search(regions_of(prepared, options), bench.measure, options, progress)
    with progress.step(f"lower {source.name}") as say:
        lowered = lower(prepared, options, found.islands if found else ())
        inherited = check_lowered(lowered, ir.to_proto(prepared.model))  # whose nodes are called the same
        bytes_ = lowered.model.SerializeToString(deterministic=True)
        _check_loads(bytes_, options)
        accuracy = _measured(bench, lowered)
        say(f"{_said(lowered)}; {accuracy.psnr_db:.1f} dB against FP32")
    write_bytes(output, bytes_)
    result = LoweredFile(
        path=output,
        size_bytes=len(bytes_),
        source_bytes=len(content) + sum(file.stat().st_size for file in files),
        nodes=tuple(dataclasses.asdict(node) for node in lowered.nodes),
        macs_low=lowered.macs_low,
        psnr_db=accuracy.psnr_db,
        max_error=accuracy.max_error,
        notes=(*lowered.notes, *inherited),
        search=dataclasses.asdict(found) if found else None,
        reused=False,
        seconds=time.perf_counter() - started,
    )
    write_manifest(
        output,
        Manifest(
            artifact=output.name,
            kind="onnx",
            sha256=sha256_of_model(bytes_, []),
            size_bytes=len(bytes_),
            inputs=inputs,
            options=dataclasses.asdict(options),
            versions=used,
            signature=io_description(lowered.model),
            fingerprint=key,
            seconds=result.seconds,
            details={
                "source_bytes": result.source_bytes,
                "macs_low": result.macs_low,
                "psnr_db": json_safe(result.psnr_db),
                "max_error": result.max_error,
                "notes": list(result.notes),
                "search": json_safe(result.search),
                "nodes": list(result.nodes),
            },
        ),
    )
    return result


def search_memory(output: Path) -> Path:
    """Where the measurements of a search lie: a later search on the same file and feeds starts from them."""
    return output.with_name(f"{output.name}.search.json")


def _valid(model: onnx.ModelProto, source: Path) -> ir.Model:
    """The model, if it is valid; the passes and ONNX Runtime would fail on another without a word to the user.

    Raises:
        GraphError: onnx.checker refuses it.
    """
    import onnx
    import onnx.checker
    import onnx_ir as ir

    try:
        onnx.checker.check_model(model, full_check=True)
        return ir.from_proto(model)
    except Exception as error:  # ValidationError, InferenceError, and those of onnx-ir, which share no base class
        constants = (attribute.t for node in model.graph.node for attribute in node.attribute)
        if any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in (*model.graph.initializer, *constants)):
            raise GraphError(
                f"{source} is not valid ONNX and has FP16 weights, as FP16 converters leave them; expected an FP32 "
                "model: lower the file that it was made from"
            ) from error
        said = " ".join(str(error).split())
        raise GraphError(f"{source} is not valid ONNX ({said}); expected a valid model: export it again") from error


def _measured_by(options: LowerOptions) -> LowerOptions:
    """The options that a measurement depends on: all but the target."""
    return dataclasses.replace(options, target_psnr_db=None, max_error=None)


def _check_loads(content: bytes, options: LowerOptions) -> None:
    """Load the file in ONNX Runtime; its CPU kernels have no BF16 convolution, so such files are not tried."""
    from refine_export.errors import InternalError
    from refine_export.runners.onnxruntime import OrtRunner

    if options.precision == "bf16":
        return
    try:
        OrtRunner(content).close()
    except GraphError as error:
        raise InternalError(f"ONNX Runtime refuses the lowered model: {error}") from error


def _measured(bench: Bench, lowered: Lowered) -> Accuracy:
    """The accuracy of the lowered graph on the calibration feeds.

    Raises:
        GraphError: it gives NaN or infinite values, or another shape.
    """
    accuracy = bench.accuracy(lowered)
    if not math.isfinite(accuracy.max_error):
        raise GraphError(
            "the lowered graph gives NaN or infinite values on the calibration feeds, the FP32 graph does not; "
            "expected values that FP16 can hold: find what has to stay FP32 with --target-psnr, or try --precision bf16"
        )
    return accuracy


def _said(lowered: Lowered) -> str:
    counts = ", ".join(f"{count} nodes {kind}" for kind, count in sorted(lowered.types.items()))
    return f"{counts}; {lowered.macs_low:.1%} of the multiply-adds in FP16 or BF16"


def _existing(paths: Sequence[Path]) -> Sequence[Path]:
    for path in paths:
        if not path.is_file():
            raise RequestError(f"{path} does not exist or is no file; expected an .npz with an array for each input")
    return paths
