"""`bisect`: the first node at which a file differs from its original weights, or from another file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import onnx
import onnx_ir as ir

from refine_export.accuracy.metrics import largest_error
from refine_export.artifacts import Artifact, artifact_from_file, signature_of_model, stacked_signature_of_model
from refine_export.bisect import bisection
from refine_export.bisect.bisect_result import Bisected
from refine_export.bisect.bisection import Side
from refine_export.bisect.intermediate_tensors import inspectable_model
from refine_export.data.feeds import feeds_for
from refine_export.data.npz_feeds import NamedFeed, feeds_from_npz
from refine_export.engine.engine_manifest import seems_engine
from refine_export.errors import RecipeError, RequestError
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.graph.model_file import load_model
from refine_export.graph.operator_types import HALF
from refine_export.graph.stacked_input import LAYOUTS, pair_of, stack_of, with_stacked_input
from refine_export.jobs.job_options import takes_options
from refine_export.jobs.load_inputs import AnyPath, JobInputs, any_paths_of, job_inputs, path_of
from refine_export.jobs.lower_onnx import checked_size
from refine_export.jobs.recipe_file import AnyRecipe
from refine_export.lower.calibration_feeds import feeds_for_inputs
from refine_export.runners.open_onnx_runner import open_onnx_runner
from refine_export.runners.pair_runner import pair_runner
from refine_export.runners.runtime_names import Runtime
from refine_export.runners.sampler_probe import probe_model
from refine_export.runners.torch import TorchRunner
from refine_export.signature import check_multiples
from refine_export.support.progress import Progress


@takes_options("validate.flows", "validate.timesteps", "checkpoint.refine")
def bisect(
    onnx: AnyPath,
    *,
    checkpoint: AnyPath | None = None,
    frames: tuple[AnyPath, AnyPath] | None = None,
    against: AnyPath | None = None,
    runtime: Runtime | None = None,
    against_runtime: Runtime | None = None,
    size: str | None = None,
    feeds: Sequence[AnyPath] = (),
    recipe: AnyRecipe = None,
    force: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Bisected:
    """Compare a file's tensors with those of a reference.

    Args:
        onnx: an ONNX file of any types, or the result of `export` or `lower`.
        checkpoint: the weights that it was made from.
        frames: two pictures to compare on. Defaults to the sample.
        against: the reference, any ONNX file of the same inputs and outputs. Defaults to a new FP32 export of the
            graph from the weights, with free sizes where the file has them.
        runtime: runs the file. Defaults to ONNX Runtime on the CPU, or the strict runner for FP16 and BF16.
        against_runtime: runs the reference. Defaults in the same way.
        size: HEIGHTxWIDTH for a file that takes any. Defaults to the padded size of the frames.
        feeds: .npz files with an array for each input, in place of the frames.
        recipe: Recipe object or path; explicit options override it.
        force: compare a file with weights that it was not made from.
        progress: receives each step.
        options: `flows` and `timesteps`.

    Raises:
        RequestError: the file, the weights, the feeds or the size cannot be used; or the file is an engine, whose
            tensors cannot be read.
        UnavailableError: a runtime is missing.
    """
    inputs = job_inputs(recipe, progress, checkpoint, frames, **options)
    path, given = path_of(onnx), checked_size(size)
    for name in (runtime, against_runtime):
        if name is not None:
            _check_runtime(name)
    model = _loaded(path)
    candidate = _side(model, runtime, path.name)
    reference: Side | None = None
    if against is not None:
        other = path_of(against)
        reference = _side(_loaded(other), against_runtime, other.name)
        bisection.check_same_graph(reference, candidate)
    arrays = _arrays(candidate, any_paths_of(feeds))
    is_known = signature_of_model(model) is not None
    if not is_known and (reference is not None or stacked_signature_of_model(model) is None):
        if reference is None:
            problem = "is not one of the graphs that weights make; give the file that it was made from with --against"
            raise RequestError.about(path, "unknown-graph", problem)
        if not arrays:
            with candidate.open() as runner:
                arrays = list(feeds_for_inputs(runner.inputs, inputs.sources.first, given))
        return bisection.bisect(reference, candidate, arrays, inputs.progress)
    artifact = artifact_from_file(path)
    check = inputs.check_graph if force or against is not None else inputs.check_weights
    artifact = check(path, artifact)
    arrays = arrays or _feeds(artifact, inputs, given, str(candidate.model.graph.inputs[0].name))
    if reference is not None:
        return bisection.bisect(reference, candidate, arrays, inputs.progress)
    return _against_export(candidate, artifact, arrays, against_runtime, inputs)


def _against_export(
    candidate: Side, artifact: Artifact, arrays: Sequence[NamedFeed], runtime: Runtime | None, inputs: JobInputs
) -> Bisected:
    """Compare with a new FP32 export of the graph, which is held against torch first; `runtime` runs the export."""
    graph, network = artifact.graph, inputs.network(artifact.scale)
    with inputs.progress.step(f"export {graph} in FP32"):
        exported = onnx_from_network(network, graph, _export_options(artifact))
        if artifact.stacked is not None:
            exported = with_stacked_input(exported, LAYOUTS[artifact.stacked], artifact.multiple_of)
    reference = _side(exported, runtime or "onnxruntime-cpu", f"{graph} of {inputs.checkpoint.source}")
    feed = arrays[0][1]
    if artifact.stacked is not None:
        for own, theirs in zip(_io(reference), _io(candidate), strict=True):
            own.name = theirs.name
        feed = pair_of(*feed.values())
    with inputs.progress.step("compare it with torch") as say:
        with reference.open() as runner, TorchRunner(network, graph) as torch:
            actual, expected = pair_runner(runner).run(feed), torch.run(feed)
        error = max(largest_error(expected[name], actual[name]) for name in expected)
        say(f"largest error {error:.2g}")
    found = bisection.bisect(reference, candidate, arrays, inputs.progress)
    return dataclasses.replace(found, reference_error=error)


def _check_runtime(name: Runtime) -> None:
    """Refuse a runtime that does not exist, or is missing, before anything is drawn or exported.

    Raises:
        RecipeError: `wrong-option`.
        UnavailableError: it is missing.
    """
    if name not in get_args(Runtime):
        known = ", ".join(get_args(Runtime))
        message = f"there is no runtime {name!r}; expected one of {known}"
        raise RecipeError(message, code="wrong-option", option="runtime")
    open_onnx_runner(probe_model(), name).close()


def _loaded(path: Path) -> onnx.ModelProto:
    """Load a model with its external data.

    Raises:
        GraphError: not an ONNX file; `model-too-large`, above 2 GiB.
        RequestError: `not-onnx`; an engine.
    """
    if seems_engine(path):
        problem = (
            "is an engine, whose inner tensors cannot be read; bisect the ONNX file that it was built from, "
            "with --runtime onnxruntime-tensorrt for TensorRT's kernels"
        )
        raise RequestError.about(path, "not-onnx", problem)
    return load_model(path)


def _side(proto: onnx.ModelProto, runtime: Runtime | None, name: str) -> Side:
    """Prepare a model; its runtime defaults to one that computes in the declared types."""
    model = inspectable_model(proto)
    graph = model.graph
    values = (*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs))
    low = any(value.dtype in HALF for value in values)
    return Side(model, runtime or ("half" if low else "onnxruntime-cpu"), name)


def _io(side: Side) -> list[ir.Value]:
    return [*side.model.graph.inputs, *side.model.graph.outputs]


def _arrays(side: Side, feeds: Sequence[Path]) -> list[NamedFeed]:
    """Read the user's arrays."""
    if not feeds:
        return []
    with side.open() as runner:
        return list(feeds_from_npz(feeds, runner.inputs))


def _feeds(artifact: Artifact, inputs: JobInputs, size: tuple[int, int] | None, stack: str) -> list[NamedFeed]:
    """Make the feeds of one of the graphs, at the file's size where it has one; `stack` is the input that takes one."""
    if size is not None:
        check_multiples(size, artifact.multiple_of)
    batch, height, width = artifact.closest_sizes(size or inputs.sources.first.pair.size)
    pair, network = inputs.sources.first.at((height, width)), inputs.network(artifact.scale)
    options = inputs.recipe.validate
    feeds = feeds_for(network, artifact.signature, pair, kinds=options.flows, timesteps=options.timesteps, batch=batch)
    named: list[NamedFeed] = [(feed.name, feed.inputs) for feed in feeds]
    if artifact.stacked is None:
        return named
    return [
        (name, {stack: stack_of(feed["img0"], feed["img1"], feed["timestep"], artifact.stacked)})
        for name, feed in named
    ]


def _export_options(artifact: Artifact) -> ExportOptions:
    """Return options that give the names and constants of the file, by its sizes."""
    batch, height, width = artifact.fixed
    if height is None or width is None:
        return ExportOptions(dynamic=True, scale=artifact.scale)
    return ExportOptions(dynamic=False, batch=batch or 1, size=f"{height}x{width}", scale=artifact.scale)
