"""`export`: graphs of a checkpoint to ONNX files (opset 18), each with its manifest; nothing is compared."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refine_export.artifacts import Artifact
from refine_export.errors import RequestError
from refine_export.export.export_file import export_file
from refine_export.export.reference_network import check_graph, graphs_of, signature_of_checkpoint
from refine_export.jobs.commands import commands_of
from refine_export.jobs.job_options import takes_options
from refine_export.jobs.load_inputs import AnyPath, JobInputs, job_inputs, path_of
from refine_export.jobs.recipe_file import AnyRecipe
from refine_export.signature import GraphName, fitting_size, padded_size
from refine_export.support.files import make_folder, same_file, user_path
from refine_export.support.manifest import check_foreign
from refine_export.support.progress import Progress
from refine_export.support.text import json_safe, size_text


@dataclass(frozen=True, kw_only=True)
class ExportedFile:
    """An ONNX file that was made or reused."""

    path: Path
    graph: GraphName
    sizes: str
    """Such as `1x3x256x448`, or `Nx3xHxW: any batch, height, width; ...`."""
    reused: bool
    """The file was there already, made from the same weights, options and versions."""
    artifact: Artifact = field(repr=False)
    """All that is known of the file."""
    notes: tuple[str, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the file's description as JSON types."""
        content: dict[str, Any] = json_safe(dataclasses.asdict(self.artifact))
        return content


@takes_options("export", "checkpoint.refine")
def export(
    checkpoint: AnyPath | None,
    graph: str,
    *,
    output: str | os.PathLike[str],
    frames: tuple[AnyPath, AnyPath] | None = None,
    recipe: AnyRecipe = None,
    force: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> ExportedFile:
    """Export one graph of a checkpoint to an ONNX file.

    Args:
        checkpoint: the weights: .pkl, .pth or .safetensors; None for those of the recipe, or released RIFE 4.0.
        graph: `interpolator`, `refine`, ...; the checkpoint decides which there are.
        output: the ONNX file to write; its manifest is written beside it.
        frames: two pictures, whose padded size is the default of a static file.
        recipe: Recipe object or path; explicit options override it.
        force: overwrite a file at `output` that this tool did not write.
        progress: receives each step.
        options: fields of `ExportOptions`; `size` or `batch` asks for a static file.

    Returns:
        The file; a file that is unchanged since an earlier call is reused.

    Raises:
        RequestError: the weights or options cannot be used, or `output` is another's file or one that is read.
        UnavailableError: torch or onnxscript is missing.
    """
    inputs = job_inputs(recipe, progress, checkpoint, frames, **options)
    path = path_of(output)
    known = check_graph(inputs.checkpoint, graph)
    if inputs.recipe.export.layout != "pair" and known != "interpolator":
        raise RequestError(
            f"layout is {inputs.recipe.export.layout}, which is for the graph interpolator, and {known} is asked for; "
            "leave it out",
            code="options-do-not-fit",
            option="layout",
        )
    if any(same_file(file, path) for file in inputs.files):
        raise RequestError.about(path, "output-is-input", "is one of the files to be read; choose another name")
    check_foreign(path, force=force)
    return export_graph(inputs, known, path)


def export_graphs(inputs: JobInputs, *, force: bool = False, suffixes: Sequence[str] = ("",)) -> list[ExportedFile]:
    """Export the recipe's graphs, or those that the weights make by default, to the recipe's folder.

    Args:
        inputs: weights, frames and options.
        force: overwrite files that this tool did not write.
        suffixes: of names, `refine.fp16.onnx` has `.fp16`; all files that are to be written are checked before work.
    """
    folder = user_path(inputs.recipe.run.output)
    make_folder(folder)
    graphs = chosen_graphs(inputs)
    for graph in graphs:
        for suffix in suffixes:
            check_foreign(folder / f"{graph}{suffix}.onnx", force=force)
    return [export_graph(inputs, graph, folder / f"{graph}.onnx") for graph in graphs]


def export_graph(inputs: JobInputs, graph: GraphName, path: Path) -> ExportedFile:
    """Export one graph that the weights make."""
    options = inputs.recipe.export
    checkpoint = inputs.checkpoint
    multiple_of = signature_of_checkpoint(checkpoint, graph, options.scale).multiple_of
    if options.size is not None:
        fitting_size(options.size, multiple_of)
    elif not options.dynamic:
        size = padded_size(*inputs.sources.first.pair.size, multiple_of)
        options = dataclasses.replace(options, size=size_text(size))
    commands = commands_of("export", dataclasses.replace(inputs.recipe, export=options), {}, graph=graph)
    with inputs.progress.step(f"export {graph}") as say:
        artifact = export_file(
            lambda: inputs.network(options.scale), checkpoint, graph, options, path, commands=commands
        )
        say("reused: nothing that it depends on has changed" if artifact.reused else artifact.sizes)
    return ExportedFile(path=path, graph=graph, sizes=artifact.sizes, reused=artifact.reused, artifact=artifact)


def chosen_graphs(inputs: JobInputs) -> tuple[GraphName, ...]:
    """Return the recipe's graphs, or those that the weights make by default."""
    if inputs.recipe.run.graphs:
        return tuple(check_graph(inputs.checkpoint, graph) for graph in dict.fromkeys(inputs.recipe.run.graphs))
    main: tuple[GraphName, ...] = ("refine", "interpolator")
    return tuple(graph for graph in main if graph in graphs_of(inputs.checkpoint))
