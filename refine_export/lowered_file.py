"""A lowered ONNX file with its manifest: made from an FP32 file, reused while nothing that it depends on changes."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export.atomic import make_folder, write_bytes
from refine_export.calibration_feeds import NamedFeed, feeds_for_inputs, feeds_from_npz, feeds_of_graph
from refine_export.checkpoint import Checkpoint
from refine_export.environment import LOWERERS, versions
from refine_export.errors import GraphError, RequestError
from refine_export.graph.load import (
    external_files,
    load_external_data,
    model_from_bytes,
    read_file,
    sha256_of_model,
)
from refine_export.lowering import (
    Lowered,
    LowerOptions,
    Prepared,
    calibrated,
    check_lowered,
    lower,
    prepare_model,
)
from refine_export.manifest import Manifest, fingerprint, manifest_path, reusable, sha256_of_file, write_manifest
from refine_export.network import reference_network
from refine_export.onnx_file import described, recognised
from refine_export.optional import require
from refine_export.progress import Progress
from refine_export.runners.base import TensorInfo
from refine_export.sensitivity import Bench, Search, regions_of, search
from refine_export.source import Source

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What the ranges, and a search, are measured on."""

    source: Source
    """Frames, for a graph without feeds of its own."""
    checkpoint: Callable[[], Checkpoint]
    """The weights that estimate flows and features for one of the five graphs; called only for those."""
    files: tuple[Path, ...] = ()
    """.npz files with feeds, in place of all else."""
    size: tuple[int, int] | None = None
    """Height and width for a graph that takes any; those of the frames for one of the five."""


@dataclass(frozen=True, kw_only=True)
class LoweredFile:
    """What was made."""

    path: Path
    size_bytes: int
    source_bytes: int
    """Of the FP32 file, external data included."""
    nodes: tuple[dict[str, str], ...]
    """Node, operator, type and reason."""
    macs_low: float
    """Share of the multiply-adds in FP16 or BF16."""
    notes: tuple[str, ...]
    search: dict[str, Any] | None
    """What a search for FP32 regions found: the fields of `sensitivity.Search`."""
    reused: bool
    seconds: float

    @property
    def types(self) -> dict[str, int]:
        """How many nodes compute in each type."""
        count: dict[str, int] = {}
        for node in self.nodes:
            if node["type"] != "none":
                count[node["type"]] = count.get(node["type"], 0) + 1
        return count

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints; JSON has no infinity, so None stands for it."""
        return dataclasses.asdict(self) | {
            "path": str(self.path),
            "types": self.types,
            "search": _finite(self.search),
        }


def check_output(source: Path, output: Path, *, force: bool) -> None:
    """Refuse to overwrite, before any work is done.

    Raises:
        RequestError: the two are one file, `output` is there and `force` is not given, or its folder can't be made.
    """
    if output.exists() and source.exists() and source.samefile(output):
        raise RequestError(f"{output} is the file to be lowered itself; give another name with --output")
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
    graph = recognised(model)
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
        with suppress(KeyError, TypeError):  # a manifest that lies
            return _reused(manifest, output, time.perf_counter() - started)
    if not load_external_data(model, source.parent):
        raise GraphError(f"{source} has more than 2 GiB of external data; expected a model that fits into one file")
    with progress.step(f"read {source.name}") as say:
        prepared = prepare_model(_valid(model, source), options, graph, without_warp=without_warp)
        say(f"{len(prepared.model.graph)} nodes" + (f", the graph {graph}" if graph else ""))
    with progress.step("calibrate") as say:
        feeds = list(_feeds(prepared, checkpoint, calibration))
        prepared = calibrated(prepared, feeds)
        largest = max(prepared.ranges.items(), key=lambda item: item[1].largest)
        say(f"{len(feeds)} feeds; the largest magnitude is {largest[1].largest:.4g} in {largest[0]}")
    found = None
    if options.searches:
        found = _searched(prepared, options, feeds, output, fingerprint(inputs, _measured_by(options), used), progress)
    with progress.step(f"lower {source.name}") as say:
        lowered = lower(prepared, options, found.islands if found else ())
        inherited = check_lowered(lowered, ir.to_proto(prepared.model))  # whose nodes are called the same
        bytes_ = lowered.model.SerializeToString(deterministic=True)
        _check_loads(bytes_, options)
        say(_said(lowered))
    write_bytes(output, bytes_)
    result = LoweredFile(
        path=output,
        size_bytes=len(bytes_),
        source_bytes=len(content) + sum(file.stat().st_size for file in files),
        nodes=tuple(dataclasses.asdict(node) for node in lowered.nodes),
        macs_low=lowered.macs_low,
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
            signature=described(lowered.model),
            fingerprint=key,
            seconds=result.seconds,
            details={
                "source_bytes": result.source_bytes,
                "macs_low": result.macs_low,
                "notes": list(result.notes),
                "search": _finite(result.search),
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


def _feeds(prepared: Prepared, checkpoint: Checkpoint | None, calibration: Calibration) -> Iterator[NamedFeed]:
    inputs = _inputs(prepared)
    if calibration.files:
        return feeds_from_npz(calibration.files, inputs)
    if prepared.graph is not None and checkpoint is not None:
        size = _size(prepared, calibration)
        return feeds_of_graph(reference_network(checkpoint), prepared.graph, calibration.source, size)
    return feeds_for_inputs(inputs, calibration.source, calibration.size)


def _inputs(prepared: Prepared) -> list[TensorInfo]:
    infos = []
    for value in prepared.model.graph.inputs:
        name = value.name or ""
        if value.shape is None or value.dtype is None:
            raise GraphError(f"input {name} has no shape; expected its number of dimensions at least: export it again")
        shape = tuple(dim if isinstance(dim, int) else str(dim) for dim in value.shape)
        infos.append(TensorInfo(name=name, dtype=str(value.dtype.numpy()), shape=shape))
    return infos


def _size(prepared: Prepared, calibration: Calibration) -> tuple[int, int]:
    """The file's own size where it has one; else what was asked for, or that of the frames, padded."""
    from refine_export.frames import padded_size

    shape = prepared.model.graph.inputs[0].shape
    own = calibration.size or padded_size(*calibration.source.pair.size)
    sides = tuple(shape[2:]) if shape is not None and len(shape) == 4 else own
    height, width = (side if isinstance(side, int) else known for side, known in zip(sides, own, strict=True))
    return height, width


def _searched(
    prepared: Prepared,
    options: LowerOptions,
    feeds: Sequence[NamedFeed],
    output: Path,
    key: str,
    progress: Progress,
) -> Search:
    regions = regions_of(prepared, options)
    bench = Bench(prepared, options, feeds, memory=search_memory(output), key=key)
    return search(regions, bench.measure, options, progress)


def _measured_by(options: LowerOptions) -> LowerOptions:
    """The options that a measurement depends on: all but the target."""
    return dataclasses.replace(options, target_psnr_db=None, max_error=None)


def _check_loads(content: bytes, options: LowerOptions) -> None:
    """Load the file in ONNX Runtime; its CPU kernels have no BF16 convolution, so such files are not tried."""
    from refine_export.errors import InternalError
    from refine_export.runners.ort import OrtRunner

    if options.precision == "bf16":
        return
    try:
        OrtRunner(content).close()
    except GraphError as error:
        raise InternalError(f"ONNX Runtime refuses the lowered model: {error}") from error


def _said(lowered: Lowered) -> str:
    counts = ", ".join(f"{count} nodes {kind}" for kind, count in sorted(lowered.types.items()))
    return f"{counts}; {lowered.macs_low:.1%} of the multiply-adds not in FP32"


def _existing(paths: Sequence[Path]) -> Sequence[Path]:
    for path in paths:
        if not path.is_file():
            raise RequestError(f"{path} does not exist or is no file; expected an .npz with an array for each input")
    return paths


def _reused(manifest: Manifest, output: Path, seconds: float) -> LoweredFile:
    details = manifest.details
    return LoweredFile(
        path=output,
        size_bytes=manifest.size_bytes,
        source_bytes=details["source_bytes"],
        nodes=tuple(details["nodes"]),
        macs_low=details["macs_low"],
        notes=tuple(details["notes"]),
        search=_unbounded(details["search"]),
        reused=True,
        seconds=seconds,
    )


def _finite(content: Any) -> Any:
    """The same for JSON, with None where a number is not finite."""
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _unbounded(content: Any) -> Any:
    """The search of a manifest with its infinities: without an error the PSNR is infinite, with an infinite one minus
    infinity.
    """
    if isinstance(content, dict):
        content = {name: _unbounded(value) for name, value in content.items()}
        if content.get("max_error", 0.0) is None:
            content |= {"max_error": math.inf, "psnr_db": -math.inf}
        return {name: math.inf if name.endswith("_db") and value is None else value for name, value in content.items()}
    return [_unbounded(value) for value in content] if isinstance(content, list) else content
