"""What jobs start from: the recipe's weights and frames."""

from __future__ import annotations

from pathlib import Path

from refine_export.artifacts import Artifact
from refine_export.checkpoint.checkpoint import Checkpoint, checkpoint_from_options
from refine_export.data.frame_source import Sources, sources_from_options
from refine_export.data.images import padded_size
from refine_export.errors import RequestError
from refine_export.export.reference_network import check_graph
from refine_export.jobs.recipe import Recipe
from refine_export.support.progress import Progress


def load_checkpoint(recipe: Recipe, progress: Progress) -> Checkpoint:
    """The recipe's weights."""
    with progress.step("load the weights") as say:
        checkpoint = checkpoint_from_options(recipe.checkpoint)
        say(f"{checkpoint.architecture}, {checkpoint.source}")
    return checkpoint


def load_sources(recipe: Recipe, progress: Progress) -> Sources:
    """The recipe's pictures, folders, videos and arrays, or the procedural scene with its true middle frame."""
    given = recipe.frames.pair or recipe.frames.inputs
    with progress.step("load the frames" if given else "draw the frames") as say:
        sources = sources_from_options(recipe.frames, recipe.scene)
        source = sources.first
        height, width = source.pair.size
        fed = padded_size(height, width)
        more = "" if fed == (height, width) else f", padded to {fed[0]}x{fed[1]}"
        say(f"{source.pair.name}, {height}x{width} (height x width){more}")
    return sources


def check_weights(path: Path, artifact: Artifact, checkpoint: Checkpoint) -> None:
    """Refuse a file that these weights can't be the reference of, and say where its own are.

    Raises:
        RequestError: the weights do not make the file's graph.
    """
    try:
        check_graph(checkpoint.architecture, artifact.graph)
    except RequestError as error:
        advice = f"; {path} was made from {artifact.checkpoint}" if artifact.checkpoint else ""
        advice += f"; the reference has {checkpoint.source}: give the file's own with --checkpoint"
        raise RequestError(f"{error}{advice}") from error


def check_same_weights(path: Path, artifact: Artifact, checkpoint: Checkpoint, *, advice: str = "") -> None:
    """Refuse a file that was made from other weights: compared with these, it could not pass.

    Raises:
        RequestError: the weights do not make the file's graph, or the file says that it was made from others.
    """
    check_weights(path, artifact, checkpoint)
    made_from = artifact.checkpoint_sha256
    if made_from is not None and made_from != checkpoint.sha256:
        raise RequestError(
            f"{path} was made from {artifact.checkpoint} (sha256 {made_from[:12]}), the reference has "
            f"{checkpoint.source} ({checkpoint.sha256[:12]}); give the file's own weights with --checkpoint{advice}"
        )
