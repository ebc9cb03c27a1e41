"""Bisect a file against the weights that it was made from, or against another file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnx_ir as ir

from refine_export.accuracy.metrics import largest_error
from refine_export.artifacts import Artifact, artifact_from_file, graph_of_model
from refine_export.bisect.bisect_result import Bisected
from refine_export.bisect.bisection import Arrays, Side, bisect
from refine_export.bisect.intermediate_tensors import inspectable_model
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
        recipe: its weights and frames; `validate` has the kinds of flows and the timesteps.
        against: the reference, any ONNX file of the same inputs and outputs. Without it, the graph is exported again
            from the weights in FP32, with free sizes where the file has them.
        runtime: of the file; without it, ONNX Runtime on the CPU, or the strict runner where there is FP16 or BF16.
        against_runtime: of the reference, likewise.
        size: HEIGHTxWIDTH for a file that takes any; without it, that of the frames, padded.
        feeds: .npz files with an array for each input, in the place of the frames.
        force: compare a file with weights that it was not made from.
        progress: receives each step.

    Raises:
        RequestError: `unknown-graph`, where a file is not one of the graphs and there is none to compare it with;
            `not-onnx`, an engine; or the file, the weights, the feeds or the size cannot be used.
        UnavailableError: a runtime is missing.
    """
    progress = progress or Silent()
    try:
        given = None if size is None else parse_size(size)
    except ValueError as exc:
        raise RequestError(str(exc), code="bad-size", size=size) from exc
    model = _loaded(path)
    candidate = _side(model, runtime, path.name)
    arrays = _arrays(candidate, feeds)
    graph = graph_of_model(model)
    if graph is None:
        if against is None:
            raise RequestError(
                f"{path} is not one of the graphs that weights make; give the file that it was made from with "
                "--against",
                code="unknown-graph",
                path=path,
            )
        reference = _side(_loaded(against), against_runtime, against.name)
        if not arrays:
            with candidate.open() as runner:
                arrays = list(feeds_for_inputs(runner.inputs, load_sources(recipe, progress).first, given))
        return bisect(reference, candidate, arrays, progress)
    artifact = artifact_from_file(path)
    checkpoint = load_checkpoint(recipe, progress)
    (check_weights if force or against else check_same_weights)(path, artifact, checkpoint)
    network = reference_network(checkpoint)
    if not arrays:
        source = load_sources(recipe, progress).first
        batch, height, width = artifact.fixed
        own = given or padded_size(*source.pair.size)
        pair = source.at((height or own[0], width or own[1]))
        kinds, timesteps = recipe.validate.flows, recipe.validate.timesteps
        made = feeds_for(network, graph, pair, kinds=kinds, timesteps=timesteps, batch=batch or 1)
        arrays = [(feed.name, feed.inputs) for feed in made]
    if against is not None:
        return bisect(_side(_loaded(against), against_runtime, against.name), candidate, arrays, progress)
    with progress.step(f"export {graph} in FP32"):
        exported = onnx_from_network(network, graph, _export_options(artifact))
    reference = _side(exported, against_runtime or "onnxruntime-cpu", f"{graph} of {checkpoint.source}")
    with progress.step("compare it with torch") as say:
        with reference.open() as runner, TorchRunner(network, graph) as torch:
            actual, expected = runner.run(arrays[0][1]), torch.run(arrays[0][1])
        error = max(largest_error(expected[name], actual[name]) for name in expected)
        say(f"largest error {error:.2g}")
    return dataclasses.replace(bisect(reference, candidate, arrays, progress), reference_error=error)


def _loaded(path: Path) -> onnx.ModelProto:
    """Load a model with its external data.

    Raises:
        GraphError: not an ONNX file; `model-too-large`, above 2 GiB.
        RequestError: `not-onnx`; an engine.
    """
    if seems_plan(path):
        raise RequestError(
            f"{path} is an engine, whose inner tensors cannot be read; bisect the ONNX file that it was built from, "
            "with --runtime onnxruntime-tensorrt for TensorRT's kernels",
            code="not-onnx",
            path=path,
        )
    model = model_from_file(path)
    if not load_external_data(model, path.parent):
        raise GraphError(
            f"{path} has more than 2 GiB of external data; expected a model that fits into one file",
            code="model-too-large",
            path=path,
        )
    return model


def _side(proto: onnx.ModelProto, runtime: Runtime | None, name: str) -> Side:
    """Prepare a model; without a runtime it gets one that computes what its types say."""
    model = inspectable_model(proto)
    graph = model.graph
    values = (*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs))
    low = any(value.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16) for value in values)
    return Side(model, runtime or ("half" if low else "onnxruntime-cpu"), name)


def _arrays(side: Side, feeds: Sequence[Path]) -> list[tuple[str, Arrays]]:
    """Read the user's arrays."""
    if not feeds:
        return []
    with side.open() as runner:
        return list(feeds_from_npz(feeds, runner.inputs))


def _export_options(artifact: Artifact) -> ExportOptions:
    """Return options that give the names and constants of the file, by its sizes."""
    batch, height, width = artifact.fixed
    if height is None or width is None:
        return ExportOptions(dynamic=True)
    return ExportOptions(dynamic=False, batch=batch or 1, size=f"{height}x{width}")
