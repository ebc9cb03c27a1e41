"""What the models, tensors, files and parameters of a model repository are called.

A network's model has the name of its graph, whichever backend serves it, and the tensors of the graph's `Signature`.
"""

from __future__ import annotations

from typing import Literal

from refine_export.signature import GraphName

Backend = Literal["tensorrt", "onnxruntime", "python"]

ENSEMBLE = "interpolate"
"""Two pictures and a timestep to a picture: pre, the network, post."""
PRE = "interpolate_pre"
POST = "interpolate_post"
NETWORKS_OF_ENSEMBLE: tuple[GraphName, ...] = ("interpolator_m", "interpolator")
"""What the ensemble is made over: the first that there is."""

FRAME0, FRAME1, FRAME = "frame0", "frame1", "frame"
"""Of the ensemble, uint8 RGB [H, W, 3]: two inputs and the output; `post` takes frame0 for its size."""
TIMESTEP = "timestep"
"""Of the ensemble: FP32 [1] in (0, 1). Over `interpolator` there is none."""
IMG0, IMG1, TIME = "img0", "img1", "time"
"""What `pre` gives the network: [1, 3, H', W'] twice, and [1, 1, 1, 1]."""
PICTURE = "picture"
"""What `post` gives, which is the ensemble's `frame`: within `post` that name is the network's frame."""

CONFIG_FILE = "config.pbtxt"
ONNX_FILE, PLAN_FILE, PYTHON_FILE = "model.onnx", "model.plan", "model.py"
DEPLOYMENT_FILE, README_FILE = "deployment.json", "README.md"
"""At the root of a repository; Triton reads folders alone there."""

GRAPH_PARAMETER = "refine_export.graph"
PRECISION_PARAMETER = "refine_export.precision"
CHECKPOINT_PARAMETER = "refine_export.checkpoint_sha256"
ARTIFACT_PARAMETER = "refine_export.artifact_sha256"
"""`parameters` of a network's config, each a string: what a client talks to. The last is of the newest version."""
THREADS_PARAMETER = "intra_op_thread_count"
"""Of ONNX Runtime's backend, and of our model.py: threads within an operator; 0 for as many as there are cores."""
