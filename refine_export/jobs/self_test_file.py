"""`gate --self-test`: the proof that the limits in force stop known-bad versions of a file."""

from __future__ import annotations

from refine_export.artifacts import artifact_from_file
from refine_export.jobs.load_inputs import AnyPath, job_inputs, path_of
from refine_export.jobs.recipe_file import AnyRecipe
from refine_export.self_test.self_test import self_test, self_test_feeds
from refine_export.self_test.self_test_result import SelfTest
from refine_export.support.progress import Progress


def self_test_file(
    onnx: AnyPath,
    *,
    checkpoint: AnyPath | None = None,
    recipe: AnyRecipe = None,
    progress: Progress | None = None,
) -> SelfTest:
    """Try the limits of a recipe on a file and on known-bad versions of it, at the first size that it is fed with.

    Args:
        onnx: one of the graphs.
        checkpoint: the weights that it was made from.
        recipe: a recipe, or its file, with the limits.
        progress: receives each step.

    Raises:
        RequestError: the file is not an ONNX file of one of the graphs, or was made from other weights; the frames
            cannot be used.
        UnavailableError: torch, ONNX Runtime or another package is missing.
    """
    inputs = job_inputs(recipe, progress, checkpoint)
    path = path_of(onnx)
    artifact = artifact_from_file(path)
    source = inputs.sources.first
    artifact = inputs.check_weights(path, artifact)
    options, network = inputs.recipe.validate, inputs.network(artifact.scale)
    feeds = self_test_feeds(network, artifact, source, options)
    return self_test(path, artifact, network, feeds, options=options, progress=inputs.progress)
