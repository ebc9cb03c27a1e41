"""A file against the weights that it was made from, or against another file: where they part."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refine_export.accuracy.metrics import largest_error
from refine_export.artifacts import Artifact, artifact_from_file, graph_of_model
from refine_export.bisect.bisect_result import Bisected
from refine_export.bisect.bisection import Side, bisect, opened
from refine_export.data.feeds import feeds_for
from refine_export.data.images import padded_size
from refine_export.data.npz_feeds import feeds_from_npz
from refine_export.engine.plan import seems_plan
from refine_export.errors import GraphError, RequestError
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.export.reference_network import reference_network
from refine_export.graph.model_file import load_external_data, model_from_file
from refine_export.jobs.load_inputs import check_same_weights, check_weights, load_checkpoint, load_sources
from refine_export.jobs.recipe import Recipe
from refine_export.lower.calibration_feeds import feeds_for_inputs
from refine_export.runners.torch import TorchRunner
from refine_export.signature import parse_size
from refine_export.support.progress import Progress, Silent
from refine_export.validate.validate_options import Runtime

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from refine_export.data.frame_source import Source
    from refine_export.runners.base import Arrays


def bisect_file(
    path: Path,
    recipe: Recipe,
    *,
    against: Path | None = None,
    runtime: Runtime | None = None,
    against_runtime: Runtime | None = None,
    size: str | None = None,
    feeds: Sequence[Path] = (),
    force: bool = False,
    progress: Progress | None = None,
) -> Bisected:
    """Compare a file's tensors with those of a reference.

    Args:
        path: an ONNX file of any types.
        recipe: its weights and frames; `validate` says the kinds of flows and the timesteps.
        against: the reference, any ONNX file of the same inputs and outputs. Without, the graph is exported again
            from the weights in FP32, with free sizes where the file has them.
        runtime: of the file; without, ONNX Runtime on the CPU, or the strict runner where there is FP16 or BF16.
        against_runtime: of the reference, likewise.
        size: HEIGHTxWIDTH for a file that takes any; without, that of the frames, padded.
        feeds: .npz files with an array for each input, in the place of the frames.
        force: compare a file with weights that it was not made from.
        progress: told of each step.

    Raises:
        RequestError: the file, the weights, the feeds or the size can't be used; an engine, whose tensors can't be had.
        UnavailableError: a runtime is missing.
    """
    from refine_export.bisect.intermediate_tensors import tappable

    progress = progress or Silent()
    given = _size(size)
    candidate = _side(path, runtime)
    graph = graph_of_model(_loaded(path))
    if graph is None:
        if against is None:
            raise RequestError(
                f"{path} is not one of the graphs that weights make; give the file that it was made from with --against"
            )
        reference = _side(against, against_runtime)
        source = load_sources(recipe, progress).first
        return bisect(reference, candidate, _fed(candidate, feeds) or _made(candidate, source, given), progress)
    artifact = artifact_from_file(path)
    checkpoint = load_checkpoint(recipe, progress)
    (check_weights if force or against else check_same_weights)(path, artifact, checkpoint)
    network = reference_network(checkpoint)
    arrays = _fed(candidate, feeds)
    if not arrays:
        source = load_sources(recipe, progress).first
        batch, height, width = artifact.fixed
        own = given or padded_size(*source.pair.size)
        pair = source.at((height or own[0], width or own[1]))
        kinds, timesteps = recipe.validate.flows, recipe.validate.timesteps
        made = feeds_for(network, graph, pair, kinds=kinds, timesteps=timesteps, batch=batch or 1)
        arrays = [(feed.name, feed.inputs) for feed in made]
    if against is not None:
        return bisect(_side(against, against_runtime), candidate, arrays, progress)
    with progress.step(f"export {graph} in FP32"):
        model = onnx_from_network(network, graph, _as_exported(artifact))
    reference = Side(tappable(model), against_runtime or "onnxruntime-cpu", f"{graph} of {checkpoint.source}")
    with progress.step("compare it with torch") as say:
        error = _error_of(reference, TorchRunner(network, graph), arrays[0][1])
        say(f"largest error {error:.2g}")
    return dataclasses.replace(bisect(reference, candidate, arrays, progress), reference_error=error)


def _size(size: str | None) -> tuple[int, int] | None:
    try:
        return None if size is None else parse_size(size)
    except ValueError as error:
        raise RequestError(str(error)) from error


def _loaded(path: Path) -> onnx.ModelProto:
    """A model with its external data.

    Raises:
        GraphError: no ONNX file, or larger than 2 GiB.
        RequestError: an engine.
    """
    if seems_plan(path):
        raise RequestError(
            f"{path} is an engine, whose inner tensors can't be had; bisect the ONNX file that it was built from, "
            "with --runtime onnxruntime-tensorrt for TensorRT's kernels"
        )
    model = model_from_file(path)
    if not load_external_data(model, path.parent):
        raise GraphError(f"{path} has more than 2 GiB of external data; expected a model that fits into one file")
    return model


def _side(path: Path, runtime: Runtime | None) -> Side:
    from refine_export.bisect.intermediate_tensors import tappable

    model = tappable(_loaded(path))
    return Side(model, runtime or _runtime_for(model), path.name)


def _runtime_for(model: ir.Model) -> Runtime:
    """Where a graph computes what its types say."""
    import onnx_ir as ir

    values = (
        *model.graph.inputs,
        *model.graph.initializers.values(),
        *(v for node in model.graph for v in node.outputs),
    )
    low = any(value.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16) for value in values)
    return "half" if low else "onnxruntime-cpu"


def _fed(side: Side, feeds: Sequence[Path]) -> list[tuple[str, Arrays]]:
    """The user's arrays."""
    if not feeds:
        return []
    with opened(side, side.model) as runner:
        return list(feeds_from_npz(feeds, runner.inputs))


def _made(side: Side, source: Source, size: tuple[int, int] | None) -> list[tuple[str, Arrays]]:
    """Frames and what else can be made for the inputs of a graph that is not known."""
    with opened(side, side.model) as runner:
        return list(feeds_for_inputs(runner.inputs, source, size))


def _as_exported(artifact: Artifact) -> ExportOptions:
    """What the file was exported with, by its sizes: names and constants are the same then."""
    batch, height, width = artifact.fixed
    if height is None or width is None:
        return ExportOptions(dynamic=True)
    return ExportOptions(dynamic=False, batch=batch or 1, size=f"{height}x{width}")


def _error_of(reference: Side, torch: TorchRunner, arrays: Arrays) -> float:
    """The largest error of the exported reference against torch, in units of the peak."""
    with opened(reference, reference.model) as runner, torch:
        actual, expected = runner.run(arrays), torch.run(arrays)
    return max(largest_error(expected[name], actual[name]) for name in expected)
