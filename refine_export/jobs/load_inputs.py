"""Inputs of jobs: paths or earlier results, and the recipe's weights and frames, loaded when first needed."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from refine_export.artifacts import Artifact
from refine_export.checkpoint.checkpoint import Checkpoint, checkpoint_from_options
from refine_export.data.frame_source import Sources, sources_from_options
from refine_export.errors import RequestError
from refine_export.export.reference_network import reference_network, signature_of_checkpoint
from refine_export.jobs.recipe import Recipe
from refine_export.jobs.recipe_file import AnyRecipe, chosen_recipe
from refine_export.signature import check_multiples
from refine_export.support.files import user_path
from refine_export.support.progress import Progress, Silent
from refine_export.support.text import size_text

if TYPE_CHECKING:  # torch is optional
    from torch import nn


class HasPath(Protocol):
    """The result of a job that wrote a file."""

    @property
    def path(self) -> Path | None:
        """The file; None where the job was not asked to write one."""


AnyPath = str | os.PathLike[str] | HasPath
"""A path, or an earlier result."""


def path_of(given: AnyPath, *, read: bool = True) -> Path:
    """Return the path of an argument.

    Args:
        given: the argument.
        read: a file that is there will be read, not only written.

    Raises:
        RequestError: `no-path`; a result of a job that wrote no file, or something that is neither.
    """
    found = given if isinstance(given, str | os.PathLike) else getattr(given, "path", None)
    if found is None:
        raise RequestError(
            f"{given!r} is not a path and has none; expected a path, or the result of a job that wrote a file",
            code="no-path",
        )
    return user_path(os.fspath(found), read=read)


def paths_of(given: AnyPath | Sequence[AnyPath]) -> list[Path]:
    """Return the paths of one or several arguments.

    Raises:
        RequestError: `no-artifact`; an empty sequence, of which everything would be true. `no-path`, see `path_of`.
    """
    if not (paths := any_paths_of(given)):
        raise RequestError("no file is given; expected at least one", code="no-artifact")
    return paths


def any_paths_of(given: AnyPath | Sequence[AnyPath]) -> list[Path]:
    """Do the same as `paths_of`, where there may be none.

    Raises:
        RequestError: `no-path`, see `path_of`.
    """
    several = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    return [path_of(one) for one in several]


class JobInputs:
    """The options, weights and frames of one job; each is loaded once, when the job first asks for it."""

    def __init__(self, recipe: Recipe, progress: Progress | None) -> None:
        self.recipe = recipe
        self.progress = progress or Silent()
        self._networks: dict[float, nn.Module] = {}

    @property
    def files(self) -> list[Path]:
        """The weights, pictures, folders, videos and arrays that the recipe names, which no output may replace."""
        frames = self.recipe.frames
        return [user_path(path) for path in (self.recipe.checkpoint.path, *frames.pair, *frames.inputs) if path]

    @functools.cached_property
    def checkpoint(self) -> Checkpoint:
        """The recipe's weights."""
        return checkpoint_from_options(self.recipe.checkpoint, self.progress)

    def network(self, scale: float) -> nn.Module:
        """Return the reference: those weights in FP32 torch, at the scale that a file was made with."""
        if scale not in self._networks:
            self._networks[scale] = reference_network(self.checkpoint, scale)
        return self._networks[scale]

    @functools.cached_property
    def sources(self) -> Sources:
        """The recipe's pictures, folders, videos and arrays, or the sample."""
        sources = sources_from_options(self.recipe.frames, self.recipe.scene, self.progress)
        with self.progress.step("look at the frames") as say:
            pair = sources.first.pair
            say(f"{pair.name}, {size_text(pair.size)} (height x width)")
        return sources

    def check_graph(self, path: Path, artifact: Artifact) -> Artifact:
        """Refuse a file whose graph the weights do not make, and say where its own weights are.

        Returns:
            The file, with the larger of its padding and the reference's: files of other tools do not state theirs.

        Raises:
            RequestError: `graph-not-in-weights`; or `wrong-size`, a size that the reference cannot compute.
        """
        try:
            made = signature_of_checkpoint(self.checkpoint, artifact.graph, artifact.scale)
            if made.input_names != artifact.signature.input_names:
                raise RequestError(
                    f"the {artifact.graph} of {self.checkpoint.architecture} weights takes "
                    f"{', '.join(made.input_names)}, and {path} takes {', '.join(artifact.signature.input_names)}",
                    code="graph-not-in-weights",
                )
        except RequestError as error:
            made_from = f"; {path} was made from {artifact.checkpoint}" if artifact.checkpoint else ""
            raise RequestError(
                f"{error}{made_from}; the reference has {self.checkpoint.source}: give the file's own weights with "
                "--checkpoint",
                code="graph-not-in-weights",
                path=path,
                graph=artifact.graph,
            ) from error
        artifact = dataclasses.replace(artifact, multiple_of=max(made.multiple_of, artifact.multiple_of))
        for _, height, width in artifact.profile or [artifact.closest_sizes((1, 1))]:
            check_multiples((height, width), artifact.multiple_of)
        return artifact

    def check_weights(self, path: Path, artifact: Artifact, *, advice: str = "") -> Artifact:
        """Refuse a file that was made from other weights: compared with these, it could not pass.

        Returns:
            As `check_graph`.

        Raises:
            RequestError: as `check_graph`; `other-weights` or `other-network`.
        """
        artifact = self.check_graph(path, artifact)
        made_from, own = artifact.checkpoint_sha256, self.checkpoint.sha256
        if made_from is not None and made_from != own:
            problem = (
                f"was made from {artifact.checkpoint} (sha256 {made_from[:12]}), the reference has "
                f"{self.checkpoint.source} ({own[:12]}); give the file's own weights with --checkpoint{advice}"
            )
            raise RequestError.about(path, "other-weights", problem, made_from=made_from, reference=own)
        if artifact.network not in (None, self.checkpoint.network):
            problem = (
                f"was made of {artifact.network}, the reference is {self.checkpoint.network}, of the same "
                f"weights; give --no-refine (for IFNet_2R, checkpoint.variant in a recipe) for both or neither{advice}"
            )
            raise RequestError.about(
                path, "other-network", problem, made_of=artifact.network, reference=self.checkpoint.network
            )
        return artifact


def job_inputs(
    recipe: AnyRecipe,
    progress: Progress | None,
    checkpoint: AnyPath | None = None,
    frames: Sequence[AnyPath] | None = None,
    **options: object,
) -> JobInputs:
    """Return what a job starts from: a recipe with the job's own arguments in the place of its values."""
    weights = None if checkpoint is None else str(path_of(checkpoint))
    pair = None if frames is None else list(map(str, any_paths_of(frames)))
    return JobInputs(chosen_recipe(recipe, checkpoint=weights, frames=pair, **options), progress)
