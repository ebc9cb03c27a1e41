"""The self-test of the gate: prove that the limits in force stop known-bad versions of a file."""

from __future__ import annotations

from pathlib import Path

from refine_export.artifacts import artifact_from_file
from refine_export.export.reference_network import reference_network
from refine_export.jobs.load_inputs import check_same_weights, load_checkpoint, load_sources
from refine_export.jobs.recipe import Recipe
from refine_export.self_test.self_test import self_test, self_test_feeds
from refine_export.self_test.self_test_result import SelfTest
from refine_export.support.progress import Progress, Silent


def prove(path: Path, recipe: Recipe, progress: Progress | None = None) -> SelfTest:
    """Try the limits of the recipe on a file and on known-bad versions of it, at the first size that it is fed with.

    Raises:
        RequestError: no ONNX file of one of the graphs, or of other weights than the recipe's; the frames can't be
            used.
        UnavailableError: torch, ONNX Runtime or another package is missing.
    """
    progress = progress or Silent()
    artifact = artifact_from_file(path)
    source = load_sources(recipe, progress).first
    checkpoint = load_checkpoint(recipe, progress)
    check_same_weights(path, artifact, checkpoint)
    options = recipe.validate
    reference = reference_network(checkpoint)
    feeds = self_test_feeds(reference, artifact, source, options)
    limits = options.limits.of(artifact.graph, artifact.precision)
    return self_test(path, artifact, reference, feeds, limits=limits, options=options, progress=progress)
