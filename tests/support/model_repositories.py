"""A good Triton repository for tests of the pre-flight, and changes to it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from refine_export.deploy.preflight.preflight import check_repository
from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.repository import deploy_triton
from refine_export.support.manifest import Manifest, write_with_manifest
from tests.support.deploy_files import write_average, write_declared, write_plan

NETWORK, PLAN, PYTHON = "interpolator/1/model.onnx", "contextnet/1/model.plan", "echo/1/model.py"
PLAN_PROFILE = ((1, 64, 64), (1, 256, 256), (4, 512, 512))
MODEL_PY = """
import numpy as np
import triton_python_backend_utils as pb

class TritonPythonModel:
    def initialize(self, args):
        assert np.__version__ < "2"

    def execute(self, requests):
        return [pb.InferenceResponse([pb.get_input_tensor_by_name(request, "x")]) for request in requests]
"""
ECHO = """
backend: "python"
input { name: "x" data_type: TYPE_FP32 dims: [4] }
output { name: "x" data_type: TYPE_FP32 dims: [4] }
"""


def good_repository(folder: Path) -> Path:
    """Write a repository with a model of each backend, and an ensemble."""
    network = write_average(folder / "interpolator.onnx")
    save_manifest(network)
    plan = write_plan(folder / "c.plan", write_declared(folder / "c.onnx", "contextnet"), PLAN_PROFILE)
    root = folder / "models"
    deploy_triton([network, plan], root, TritonOptions(accelerator="tensorrt", device="gpu", sizes=("64x96",)))
    (root / "echo" / "1").mkdir(parents=True)
    (root / "echo" / "config.pbtxt").write_text(ECHO)
    (root / PYTHON).write_text(MODEL_PY)
    return root


def save_manifest(path: Path) -> None:
    """Write the manifest of an ONNX file, with its hash."""
    known = {key: {} for key in ("inputs", "options", "versions", "signature")}
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest = Manifest(
        artifact=path.name, kind="onnx", sha256=sha256, size_bytes=1, fingerprint="", seconds=0, **known
    )
    write_with_manifest(path, path.read_bytes(), manifest)


def edit(model, change):
    """Return a change of a parsed config."""

    def edited(root):
        path = root / model / "config.pbtxt"
        config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
        change(config)
        path.write_text(text_format.MessageToString(config))

    return edited


def merge(model, text):
    """Return a change that adds fields to a config."""
    return edit(model, lambda config: text_format.Merge(text, config))


def replace(model, name, value, *path):
    """Return a change of one field; `path` leads to its message, such as ("input", 0)."""

    def change(config):
        for part in path:
            config = config[part] if isinstance(part, int) or hasattr(config, "items") else getattr(config, part)
        if isinstance(value, list):
            getattr(config, name)[:] = value
        elif value is None:
            config.ClearField(name)
        else:
            setattr(config, name, value)

    return edit(model, change)


def at(name, change):
    """Return a change of one file."""
    return lambda root: change(root / name)


def write(content):
    """Return a change of a file's content."""
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def set_json(name, value):
    """Return a change of one key of a JSON file."""

    def change(path):
        path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))

    return change


def fifo(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def new_plan(root, capability=(9, 0), name=PLAN, **options):
    """Write another plan of the same graph, with its manifest, and correct the parameter that has its hash."""
    path = root / name
    old = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
    source = write_declared(root.parent / "contextnet.onnx", "contextnet")
    write_plan(path, source, options.pop("profile", PLAN_PROFILE), capability=capability, **options)
    config = root / "contextnet" / "config.pbtxt"
    if old:
        config.write_text(config.read_text().replace(old, hashlib.sha256(path.read_bytes()).hexdigest()))


def second_plan(root, key, built_for, **options):
    """Add a plan for GPUs of another compute capability."""
    new_plan(root, built_for, "contextnet/1/other.plan", **options)
    edit("contextnet", lambda config: config.cc_model_filenames.update({key: "other.plan"}))(root)


def keep_only(root, *names):
    """Delete the other models, and the deployment.json that lists them."""
    for folder in root.iterdir():
        if folder.is_dir() and folder.name not in names:
            shutil.rmtree(folder)
    (root / "deployment.json").unlink(missing_ok=True)
    return root


def found(root, **options):
    """Return (rule, model) of each finding but those of deployment.json, whose hashes every change breaks."""
    return {(one.rule, one.model) for one in check_repository(root, **options).findings if one.rule != "deployment"}
