"""Names of the models, tensors, files and parameters of a model repository.

A network's model has the name of its graph, whichever backend serves it, and the tensors of the graph's `Signature`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from refine_export.artifacts import Artifact

Backend = Literal["tensorrt", "onnxruntime", "python"]

ENSEMBLE = "interpolate"
"""The ensemble that turns two pictures and a timestep into a picture: pre-processing, network, post-processing."""
PRE = "interpolate_pre"
POST = "interpolate_post"
FRAME0, FRAME1, FRAME = "frame0", "frame1", "frame"
"""Inputs and output of the ensemble, uint8 RGB [H, W, 3]; post-processing takes frame0 too, for its size."""
TIMESTEP = "timestep"
"""Input of the ensemble, FP32 [1] in (0, 1); over a network that takes none there is none."""
IMG0, IMG1, TIME = "img0", "img1", "time"
"""Outputs of pre-processing: [1, 3, h, w] twice, and [1, 1, 1, 1]."""
PICTURE = "picture"
"""Output of post-processing, the ensemble's `frame`; inside that model `frame` is the network's output."""

CONFIG_FILE = "config.pbtxt"
ONNX_FILE, PLAN_FILE, PYTHON_FILE = "model.onnx", "model.plan", "model.py"
DEPLOYMENT_FILE, README_FILE = "deployment.json", "README.md"
"""Files at the root of a repository, where Triton reads only folders."""

GRAPH_PARAMETER = "refine_export.graph"
PRECISION_PARAMETER = "refine_export.precision"
CHECKPOINT_PARAMETER = "refine_export.checkpoint_sha256"
ARTIFACT_PARAMETER = "refine_export.artifact_sha256"
MULTIPLE_OF_PARAMETER = "refine_export.multiple_of"
SCALE_PARAMETER = "refine_export.scale"
NETWORK_PARAMETER = "refine_export.architecture"
"""Entries of `parameters` in a network's config, which tell a client what it talks to; of the newest version."""
THREADS_PARAMETER = "intra_op_thread_count"
"""Parameter of ONNX Runtime's backend and of our model.py: threads within an operator, 0 for one per core."""


def parameters_of(artifact: Artifact) -> dict[str, str | None]:
    """Return what the config of an artifact's model states about it."""
    return {
        GRAPH_PARAMETER: artifact.graph,
        PRECISION_PARAMETER: artifact.precision,
        CHECKPOINT_PARAMETER: artifact.checkpoint_sha256,
        ARTIFACT_PARAMETER: artifact.sha256,
        MULTIPLE_OF_PARAMETER: str(artifact.multiple_of),
        SCALE_PARAMETER: f"{artifact.scale:g}",
        NETWORK_PARAMETER: artifact.network,
    }
