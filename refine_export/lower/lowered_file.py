"""Lower an FP32 ONNX file to another file with its manifest, or reuse the one that was made from the same."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx_ir as ir
from numpy.typing import NDArray

from refine_export.artifacts import io_description, signature_of_model
from refine_export.data.npz_feeds import NamedFeed
from refine_export.errors import GraphError, InternalError, RequestError
from refine_export.graph.model_file import (
    add_output_shapes,
    external_files,
    model_from_bytes,
    read_file,
    require_external_data,
    sha256_of_model,
)
from refine_export.lower.amplified_errors import Outcome, lower_measured
from refine_export.lower.calibration_feeds import Calibration, check_inputs, feeds_of_calibration, flat_feeds
from refine_export.lower.fp32_islands import Bench, Search, regions_of, search, search_from_json
from refine_export.lower.input_scale import scale_notes
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import (
    NodeType,
    Prepared,
    calibrated,
    check_lowered,
    count_types,
    described_types,
    lower,
    prepare_model,
)
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.signature import fitting_size, parse_size
from refine_export.support.environment import LOWERERS, versions
from refine_export.support.files import check_input_file, make_folder, same_file
from refine_export.support.manifest import (
    Manifest,
    check_foreign,
    fingerprint,
    manifest_path,
    reusable,
    sha256_of_file,
    write_with_manifest,
)
from refine_export.support.progress import Progress
from refine_export.support.text import counted, dict_from_result

_LONGEST_NAME = 200  # bytes, so that the files beside it and their temporary names fit into 255


@dataclass(frozen=True, kw_only=True)
class LoweredFile:
    """A lowered file, and how near it is to the FP32 file."""

    path: Path
    size_bytes: int
    source_bytes: int
    """Size of the FP32 file, external data included."""
    nodes: tuple[NodeType, ...] = field(repr=False)
    """The type of each node of the FP32 file, and why."""
    macs_low: float
    """Share of the multiply-adds in FP16 or BF16."""
    psnr_db: float
    """PSNR against FP32, the worst of the calibration feeds and outputs; infinite where nothing differs."""
    max_error: float
    """Largest error in units of the peak."""
    fed: dict[str, tuple[float, float]]
    """Input -> smallest and largest value that it was calibrated with."""
    notes: tuple[str, ...]
    search: Search | None = field(repr=False)
    """The result of a search for FP32 regions."""
    reused: bool
    seconds: float

    @property
    def types(self) -> dict[str, int]:
        """Number of nodes that compute in each type."""
        return count_types(self.nodes)

    @property
    def passed(self) -> bool:
        """Whether the target of accuracy, if there was one, is met."""
        return self.search is None or self.search.reached

    def to_dict(self) -> dict[str, Any]:
        """Convert to what JSON can hold; None stands for an infinite number."""
        return dict_from_result(self) | {"types": self.types}


def check_output(source: Path, output: Path, *, force: bool, others: Sequence[Path] = ()) -> None:
    """Refuse to overwrite another's file, before any work is done.

    Args:
        source: the file to be lowered.
        output: the file to write; an earlier output of this tool is replaced.
        force: overwrite `output`, if it is none of those that are read.
        others: pictures, feeds and weights to calibrate with.

    Raises:
        RequestError: `output` is one of the files that are read, it is another's and `force` is not given, or its
            folder cannot be made.
    """
    if not output.name or output.is_dir():
        raise RequestError.about(output, "not-a-file", "is a folder; expected the name of the file to write")
    if len(os.fsencode(output.name)) > _LONGEST_NAME:
        raise RequestError.about(output, "name-too-long", f"is too long; expected at most {_LONGEST_NAME} bytes")
    all_read = (source, manifest_path(source), *others)
    for path in (output, manifest_path(output), search_memory(output)):
        if path.exists() and not path.is_file():
            raise RequestError.about(path, "not-a-file", "is not a regular file; choose another name with --output")
        if any(same_file(read, path) for read in all_read):
            problem = "is read, and would be overwritten; give another name with --output"
            raise RequestError.about(path, "output-is-input", problem)
    check_foreign(output, force=force)
    if not output.exists() and manifest_path(output).exists() and not force:
        problem = f"is there without {output.name}; choose another name, or overwrite it with --force"
        raise RequestError.about(manifest_path(output), "output-exists", problem)
    make_folder(output.parent)


def lower_file(
    source: Path,
    output: Path,
    options: LowerOptions,
    calibration: Calibration,
    progress: Progress,
    *,
    without_warp: bool = False,
    commands: Sequence[Mapping[str, Any]] = (),
) -> LoweredFile:
    """Lower an FP32 ONNX file to `output`, with a manifest that has every node's type and reason.

    Args:
        source: FP32 ONNX, of any tool; external data beside it.
        output: written, or reused if it was made from the same.
        options: of the lowering.
        calibration: the data that ranges are measured on.
        progress: receives each step.
        without_warp: confirm that the graph has no sampler.
        commands: for the manifest.

    Raises:
        GraphError: the file cannot be lowered.
        RequestError: the feeds do not fit it.
        UnavailableError: ONNX Runtime or torch is missing.
    """
    started = time.perf_counter()
    for path in calibration.files:
        check_input_file(path, RequestError, "expected an .npz with an array for each input")
    content = read_file(source)
    model = model_from_bytes(content, source)
    files = external_files(model, source.parent)
    signature = signature_of_model(model)

    @functools.cache
    def read() -> Prepared:
        require_external_data(model, source)
        with progress.step(f"read {source.name}") as say:
            prepared = prepare_model(_valid(model, source), options, signature, without_warp=without_warp)
            say(f"{len(prepared.model.graph)} nodes" + (f", the graph {signature.graph}" if signature else ""))
        _check_sizes(prepared, options, calibration)
        check_inputs(prepared, calibration)
        return prepared

    if not manifest_path(output).exists():  # nothing can be reused: a file is refused before frames are drawn for it
        read()
    # An interpolator is fed frames alone; flows and features of the other graphs are estimated.
    estimates = signature is not None and signature.graph != "interpolator" and not calibration.files
    checkpoint = calibration.checkpoint() if estimates else None
    inputs = {
        "source": source.name,
        "source_sha256": sha256_of_model(content, files),
        "calibration": [sha256_of_file(path) for path in calibration.files],
        "frames": [] if calibration.files else list(calibration.source().pair.sha256),
        "size": calibration.size,
        "checkpoint_sha256": None if checkpoint is None else checkpoint.sha256,
        "network": None if checkpoint is None else checkpoint.network,
    }
    used = versions(LOWERERS)
    key = fingerprint(inputs, options, used)
    if (manifest := reusable(output, key)) is not None:
        with suppress(KeyError, TypeError):  # a damaged manifest: the file is made again
            return _from_manifest(manifest, output, time.perf_counter() - started)
    prepared = read()
    with progress.step("calibrate") as say:
        feeds = list(feeds_of_calibration(prepared, checkpoint, calibration))
        prepared, flats, fed_notes = _calibrate(prepared, feeds)
        name, largest = max(prepared.ranges.items(), key=lambda item: item[1].largest)
        count = counted(len(feeds) + len(flats), "feed")
        say(f"{count}; the largest magnitude is {largest.largest:.4g} in {name}")
    # A measurement does not depend on the target: a search for another one continues from the same file.
    measured_by = dataclasses.replace(options, target_psnr_db=None, max_error=None, sizes=())
    memory = search_memory(output) if options.searches else None
    bench = Bench(
        prepared,
        options,
        feeds,
        lambda size: feeds_of_calibration(
            prepared, checkpoint, dataclasses.replace(calibration, size=parse_size(size))
        ),
        flats=flats,
        memory=memory,
        key=fingerprint(inputs, measured_by, used),
    )
    found = None
    if options.searches:
        found = search(regions_of(prepared, options), bench.measure, options, progress, options.sorted_sizes)
    with progress.step(f"lower {source.name}") as say:
        outcome, lowered_bytes = _checked_outcome(prepared, options, bench, found, progress)
        lowered, accuracy = outcome.lowered, outcome.accuracy
        say(f"{described_types(lowered.nodes, lowered.macs_low)}; {accuracy.psnr_db:.1f} dB against FP32")
    fed = {name: _bounds(arrays[name] for _, arrays in feeds) for name in feeds[0][1]}
    result = LoweredFile(
        path=output,
        size_bytes=len(lowered_bytes),
        source_bytes=len(content) + sum(file.stat().st_size for file in files),
        nodes=lowered.nodes,
        macs_low=lowered.macs_low,
        psnr_db=accuracy.psnr_db,
        max_error=accuracy.max_error,
        fed=fed,
        notes=(*outcome.notes, *fed_notes, *scale_notes(prepared.model, fed)),
        search=found,
        reused=False,
        seconds=time.perf_counter() - started,
    )
    details = result.to_dict()
    manifest = Manifest(
        artifact=output.name,
        kind="onnx",
        sha256=sha256_of_model(lowered_bytes, []),
        size_bytes=len(lowered_bytes),
        inputs=inputs,
        options=dataclasses.asdict(options),
        versions=used,
        signature=io_description(lowered.model),
        fingerprint=key,
        seconds=result.seconds,
        details={name: details[name] for name in _DETAILS},
        commands=commands,
    )
    write_with_manifest(output, lowered_bytes, manifest)
    return result


def _calibrate(prepared: Prepared, feeds: Sequence[NamedFeed]) -> tuple[Prepared, list[NamedFeed], list[str]]:
    """Measure ranges on the feeds and, for a file of another tool, on flat pictures.

    Returns:
        The graph with its ranges, the flat pictures that it takes, and a note on each that it does not.
    """
    prepared = calibrated(prepared, feeds)
    flats, notes = [], []
    for flat in flat_feeds(feeds[0]) if prepared.signature is None else ():  # our own graphs divide by sizes alone
        try:
            prepared = calibrated(prepared, [flat])
            flats.append(flat)
        except RequestError as error:
            notes.append(f"not measured on flat pictures: {error}")
    return prepared, flats, notes


def _checked_outcome(
    prepared: Prepared, options: LowerOptions, bench: Bench, found: Search | None, progress: Progress
) -> tuple[Outcome, bytes]:
    """Lower a graph, with the islands of a search if there was one, and check the result.

    Returns:
        The outcome with all notes on the graph, and the bytes of the lowered model.

    Raises:
        GraphError: `not-finite`.
    """
    if found is None:
        outcome = lower_measured(prepared, options, bench, progress)
    else:
        lowered = lower(prepared, options, found.islands)
        outcome = Outcome(lowered, bench.accuracy(lowered))
    # Against the prepared model, not the file: its nodes have the names of the lowered ones.
    inherited = check_lowered(outcome.lowered, ir.to_proto(prepared.model))
    content = outcome.lowered.model.SerializeToString(deterministic=True)
    _check_loads(content, options)
    if not math.isfinite(outcome.accuracy.max_error):
        raise GraphError(
            "the lowered graph gives NaN or infinite values on the calibration feeds, the FP32 graph does not; "
            "expected values that FP16 can hold: find what has to stay FP32 with --target-psnr, or try --precision "
            "bf16",
            code="not-finite",
        )
    notes = (*outcome.notes, *outcome.lowered.notes, *inherited)
    return dataclasses.replace(outcome, notes=notes), content


def _bounds(arrays: Iterable[NDArray[Any]]) -> tuple[float, float]:
    """Return the smallest and the largest value of some arrays."""
    lowest, highest = zip(*((np.min(array), np.max(array)) for array in arrays), strict=True)
    return float(min(lowest)), float(max(highest))


def search_memory(output: Path) -> Path:
    """Return where the measurements of a search are kept: a later search on the same file and feeds uses them."""
    return output.with_name(f"{output.name}.search.json")


_DETAILS = ("source_bytes", "macs_low", "psnr_db", "max_error", "fed", "notes", "search", "nodes")
"""The fields of `LoweredFile` that its manifest has beside its own."""


def _from_manifest(manifest: Manifest, output: Path, seconds: float) -> LoweredFile:
    details = {name: manifest.details[name] for name in _DETAILS}
    return LoweredFile(
        **details
        | {
            "path": output,
            "size_bytes": manifest.size_bytes,
            "nodes": tuple(NodeType(**node) for node in details["nodes"]),
            "psnr_db": math.inf if details["psnr_db"] is None else details["psnr_db"],
            "fed": {name: tuple(bounds) for name, bounds in details["fed"].items()},
            "notes": tuple(details["notes"]),
            "search": None if details["search"] is None else search_from_json(details["search"]),
            "reused": True,
            "seconds": seconds,
        }
    )


def _valid(model: onnx.ModelProto, source: Path) -> ir.Model:
    """Return the model, if it is valid; the passes and ONNX Runtime would fail on another with no message to a user.

    Raises:
        GraphError: onnx.checker refuses it.
    """
    try:
        add_output_shapes(model)
        onnx.checker.check_model(model, full_check=True)
        return ir.from_proto(model)
    except Exception as error:  # ValidationError, InferenceError, and those of onnx-ir, which share no base class
        constants = (attribute.t for node in model.graph.node for attribute in node.attribute)
        if any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in (*model.graph.initializer, *constants)):
            problem = "is not valid ONNX and has FP16 weights, as FP16 converters leave them; expected an FP32 model: "
            raise GraphError.about(source, "not-fp32", f"{problem}lower the file that it was made from") from error
        reason = " ".join(str(error).split())
        problem = f"is not valid ONNX ({reason}); expected a valid model: export it again"
        raise GraphError.about(source, "invalid-onnx", problem) from error


def _check_sizes(prepared: Prepared, options: LowerOptions, calibration: Calibration) -> None:
    """Refuse sizes of the target that the file or its feeds do not have, before a search at others.

    Raises:
        RequestError: `fixed-size`; or `wrong-size`, sides that are not multiples of the network's padding.
    """
    shape = prepared.model.graph.inputs[0].shape
    if options.sizes and (calibration.files or shape is None or any(isinstance(side, int) for side in shape[2:])):
        raise RequestError(
            f"the target is to hold at {', '.join(options.sizes)}, and the file or its .npz feeds have one size; "
            "expected a dynamic file without --calibrate: export it without --size",
            code="fixed-size",
            sizes=options.sizes,
        )
    if prepared.signature is not None:
        for size in options.sizes:
            fitting_size(size, prepared.signature.multiple_of)


def _check_loads(content: bytes, options: LowerOptions) -> None:
    """Load the file in ONNX Runtime; its CPU kernels have no BF16 convolution, so such files are not tried."""
    if options.precision == "bf16":
        return
    try:
        OrtRunner(content).close()
    except GraphError as error:
        raise InternalError(f"ONNX Runtime refuses the lowered model: {error}", code="lowered-not-loadable") from error
