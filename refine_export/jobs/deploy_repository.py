"""`deploy triton`: ONNX files and engines to a model repository of Triton Inference Server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from refine_export.deploy.triton import repository
from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.repository import Deployed
from refine_export.jobs.job_options import options_from_keywords, takes_options
from refine_export.jobs.load_inputs import AnyPath, any_paths_of, path_of


@takes_options(TritonOptions)
def deploy_triton(
    artifacts: AnyPath | Sequence[AnyPath], *, output: str | os.PathLike[str], force: bool = False, **options: Any
) -> Deployed:
    """Write a model repository; an existing repository is replaced only when the new one is complete.

    Args:
        artifacts: ONNX files and engines of the graphs, or results that have such; several of one graph are its
            versions.
        output: the repository.
        force: replace a repository that is there.
        options: fields of `TritonOptions`.

    Raises:
        RequestError: files or options cannot be used, or do not go together.
    """
    chosen = options_from_keywords(TritonOptions, options)
    return repository.deploy_triton(any_paths_of(artifacts), path_of(output), chosen, force=force)
