"""For each rule of the pre-flight: changes to a good repository that it has to find."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import onnx
from onnx import TensorProto as Type

from refine_export.artifacts import artifact_from_file
from tests.support.deploy_repository import (
    CHECKPOINT,
    PYTHON,
    add,
    at,
    edit,
    keep_only,
    lie,
    parameters,
    save_manifest,
    save_network,
    save_onnx,
    save_plan,
    sha256_of,
    warm_up,
    write,
)

PLAN = "contextnet/1/model.plan"
NETWORK = "interpolator_m/1/model.onnx"
SIZES = {"inputs": {"image": ["N", 3, "H", "W"], "flow": ["N", 2, "H", "W"]}, "outputs": {}}


def new_network(root, **given):
    """Another file with a manifest and parameters of its own."""
    path = root / NETWORK
    old = artifact_from_file(path).sha256
    save_network(path, **given)
    save_manifest(path)
    edit("interpolator_m", old, artifact_from_file(path).sha256)(root)


def new_plan(root, **given):
    path = root / PLAN
    old = sha256_of(path)
    save_plan(path, **given)
    edit("contextnet", old, sha256_of(path))(root)


def second_plan(root, capability, built_for, **given):
    save_plan(root / "contextnet/1/other.plan", capability=built_for, **given)
    line = f'cc_model_filenames {{ key: "{capability}" value: "other.plan" }}'
    add("contextnet", line)(root)


def other_link(root, target):
    (root / "echo" / "more").symlink_to(target)


def short_sample(root):
    edit("contextnet", "zero_data: true", 'input_data_file: "image"')(root)
    (root / "contextnet" / "warmup").mkdir()
    (root / "contextnet" / "warmup" / "image").write_bytes(bytes(3 * 64 * 64))


def fifo(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def deep(root):
    path = root / "echo"
    for _ in range(40):
        path = path / "d"
    path.mkdir(parents=True)


def huge(path):
    with path.open("wb") as file:
        file.truncate(2**40)


def bias(path):
    """A weight in a file of its own."""
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights", size_threshold=0)


def linear_sampler(path):
    """What torch exports at opset 20: TensorRT reads `linear` as nearest."""
    sampler = {"mode": "linear", "padding_mode": "border", "align_corners": 1}
    save_onnx(
        path,
        [
            ("Transpose", ["img1"], ["grid"], {"perm": [0, 2, 3, 1]}),
            ("Slice", ["grid", "from", "to", "axis"], ["positions"], {}),
            ("GridSample", ["img0", "positions"], ["frame"], sampler),
        ],
        [
            ("img0", Type.FLOAT, ["N", 3, "H", "W"]),
            ("img1", Type.FLOAT, ["N", 3, "H", "W"]),
            ("timestep", Type.FLOAT, ["N", 1, 1, 1]),
        ],
        [("frame", Type.FLOAT, ["N", 3, "H", "W"])],
        {"from": [0], "to": [2], "axis": [3]},
        opset=20,
    )


MUTATIONS = {
    "unreadable": [
        (at("echo/1/model.py", fifo), "echo"),
        (at("echo/1/model.py", write(b"\xff")), "echo"),
        (at("echo/1/pipe", fifo), "echo"),
        (deep, "echo"),
        (at("echo/config.pbtxt", write(b"\xff\xfe\x00")), "echo"),
        (at("echo/config.pbtxt", write(b'name: "echo" # \0')), "echo"),
        (at("echo/config.pbtxt", write("#" * 2**21)), "echo"),
        (at("echo/config.pbtxt", fifo), "echo"),
    ],
    "symlink": [
        (lambda root: other_link(root, "/etc"), "echo"),
        (lambda root: other_link(root, "nowhere"), "echo"),
        (lambda root: other_link(root, "more"), "echo"),
    ],
    "config-missing": [(at("echo/config.pbtxt", Path.unlink), "echo")],
    "config-parse": [
        (add("echo", "no_such_field: 1"), "echo"),
        (edit("echo", "TYPE_FP32", "TYPE_FLOAT"), "echo"),
        (edit("echo", '"python"', '"python'), "echo"),
        (edit("echo", "max_batch_size: 0", "max_batch_size: many"), "echo"),
        (edit("echo", "max_batch_size: 0", "max_batch_size: 99999999999"), "echo"),
        (at("echo/config.pbtxt", write("input {" * 9999)), "echo"),
        (at("echo/config.pbtxt", write("[" * 9999)), "echo"),
    ],
    "model-name": [(edit("contextnet", 'name: "contextnet"', 'name: "context"'), "contextnet")],
    "version-name": [
        (lambda root: (root / "echo" / "02").mkdir(), "echo"),
        (lambda root: (root / "echo" / "v2").mkdir(), "echo"),
        (lambda root: (root / "echo" / "0").mkdir(), "echo"),
    ],
    "version-missing": [
        (lambda root: shutil.rmtree(root / "echo" / "1"), "echo"),
        (add("echo", "version_policy { specific { versions: [1, 2] } }"), "echo"),
        (add("echo", "version_policy { latest { num_versions: 0 } }"), "echo"),
    ],
    "version-empty": [(at("interpolate/1/README", Path.unlink), "interpolate")],
    "backend": [
        (edit("echo", 'backend: "python"', 'platform: "caffe2_netdef"'), "echo"),
        (add("contextnet", 'backend: "onnxruntime"'), "contextnet"),
        (add("interpolate", 'backend: "python"'), "interpolate"),
    ],
    "backend-unknown": [(edit("echo", '"python"', '"dali"'), "echo")],
    "model-file": [
        (at(PLAN, Path.unlink), "contextnet"),
        (at(NETWORK, huge), "interpolator_m"),
        (add("interpolate_pre", 'default_model_filename: "../../../secret.onnx"'), "interpolate_pre"),
        (add("interpolate_pre", 'default_model_filename: "/etc/passwd"'), "interpolate_pre"),
        (add("interpolate_pre", 'default_model_filename: "a\\000b"'), "interpolate_pre"),
        (add("contextnet", 'cc_model_filenames { key: "8.9" value: "other.plan" }'), "contextnet"),
    ],
    "python-without-model": [(at("echo/1/model.py", Path.unlink), "echo")],
    "python-model": [
        (at("echo/1/model.py", write("import\n")), "echo"),
        (at("echo/1/model.py", write("import numpy as np\nprint(np.__version__)\n")), "echo"),
        (at("echo/1/model.py", write(PYTHON.replace("def execute", "def run"))), "echo"),
        (at("echo/1/model.py", write("(" * 9999)), "echo"),
    ],
    "python-returns-nothing": [
        (at("echo/1/model.py", write(PYTHON.replace("return [", "answers = ["))), "echo"),
        (at("echo/1/model.py", write(PYTHON[: PYTHON.index("return")] + "return None\n")), "echo"),
    ],
    "python-numpy": [(at("echo/1/model.py", write(PYTHON.replace("np.__version__", '"1"'))), "echo")],
    "tensors": [
        (edit("echo", 'input { name: "x" data_type: TYPE_FP32 dims: [4] }', ""), "echo"),
        (edit("echo", 'name: "x"', ""), "echo"),
        (edit("echo", "dims: [4]", "dims: [4] reshape { shape: [0] }"), "echo"),
        (edit("echo", "output {", "input {"), "echo"),
        (edit("contextnet", 'name: "flow"', 'name: "image"'), "contextnet"),
        (edit("contextnet", "dims: [3, -1, -1]", "dims: [3, 0, -1]"), "contextnet"),
        (edit("contextnet", "dims: [3, -1, -1]", "dims: []"), "contextnet"),
        (edit("contextnet", "data_type: TYPE_FP32", ""), "contextnet"),
        (edit("echo", "dims: [4]", "dims: [4] reshape { shape: [2, 3] }"), "echo"),
        (edit("echo", "dims: [4]", "dims: [1] reshape { shape: [] }"), "echo"),
    ],
    "batch-size": [
        (edit("echo", "max_batch_size: 0", "max_batch_size: -1"), "echo"),
        (lambda root: new_network(root, batch=8), "interpolator_m"),
        (edit("interpolate", "max_batch_size: 0", "max_batch_size: 9"), "interpolate"),
    ],
    "dynamic-batching": [
        (add("echo", "dynamic_batching { }"), "echo"),
        (edit("interpolator_m", "[4, 8]", "[16]"), "interpolator_m"),
        (edit("interpolator_m", "[4, 8]", "[0]"), "interpolator_m"),
    ],
    "instance-group": [
        (add("echo", "instance_group { kind: KIND_CPU gpus: [0] }"), "echo"),
        (add("echo", "instance_group { count: -3 }"), "echo"),
        (add("echo", 'instance_group { profile: ["0"] }'), "echo"),
        (edit("contextnet", "KIND_GPU", "KIND_CPU"), "contextnet"),
        (edit("contextnet", 'profile: ["0"]', 'profile: ["first"]'), "contextnet"),
    ],
    "response-cache": [(edit("interpolator_m", "enable: false", "enable: true"), "interpolator_m")],
    "not-served": [
        (add("echo", "sequence_batching { }"), "echo"),
        (add("echo", "model_transaction_policy { decoupled: true }"), "echo"),
    ],
    "accelerator-fp16": [
        (
            edit(
                "interpolator_m",
                'name: "tensorrt"',
                'name: "tensorrt" parameters {key: "precision_mode" value: "FP16"}',
            ),
            "interpolator_m",
        )
    ],
    "warmup-batch": [
        (edit("interpolator_m", "batch_size: 1\n", ""), "interpolator_m"),
        (edit("interpolator_m", "batch_size: 1\n", "batch_size: 0\n"), "interpolator_m"),
        (edit("interpolator_m", "batch_size: 1\n", "batch_size: 9\n"), "interpolator_m"),
        (add("echo", warm_up(("x", 4)).replace("batch_size: 1", "batch_size: 3")), "echo"),
    ],
    "warmup-input": [
        (edit("contextnet", 'inputs { key: "flow"', 'inputs { key: "flows"'), "contextnet"),
        (add("echo", warm_up()), "echo"),
        (add("echo", warm_up(("x", 4), ("y", 4))), "echo"),
    ],
    "warmup-tensor": [
        (add("echo", warm_up(("x", -1))), "echo"),
        (add("echo", warm_up(("x", 5))), "echo"),
        (add("echo", warm_up(("x", 4, 1))), "echo"),
        (add("echo", warm_up(("x", 4)).replace("FP32", "INT32")), "echo"),
    ],
    "warmup-data": [
        (short_sample, "contextnet"),
        (edit("contextnet", "zero_data: true", ""), "contextnet"),
        (edit("contextnet", "zero_data: true", 'input_data_file: "image"'), "contextnet"),
    ],
    "onnx-file": [
        (at(NETWORK, write(b"")), "interpolator_m"),
        (at(NETWORK, write(b"\x08\x09no model")), "interpolator_m"),
        (lambda root: bias(root / NETWORK) or (root / NETWORK).with_name("weights").unlink(), "interpolator_m"),
        (lambda root: bias(root / NETWORK) or (root / NETWORK).with_name("weights").write_bytes(b""), "interpolator_m"),
        (at(NETWORK, lambda path: path.write_bytes(path.read_bytes().replace(b"img0", b"img\xff"))), "interpolator_m"),
        (lambda root: bias(root / NETWORK) or fifo((root / NETWORK).with_name("weights")), "interpolator_m"),
    ],
    "tensor-names": [
        (edit("interpolate_post", 'name: "picture"', 'name: "image"'), "interpolate_post"),
        (edit("interpolate_post", 'name: "frame0"', 'name: "frame1"'), "interpolate_post"),
        (edit("contextnet", 'name: "f4"', 'name: "f5"'), "contextnet"),
        (lambda root: shutil.copy(root / NETWORK, root / "echo" / "1" / "model.onnx"), "echo"),
    ],
    "tensor-types": [
        (edit("interpolator_m", "FP32", "FP16"), "interpolator_m"),
        (edit("contextnet", "FP32", "FP16"), "contextnet"),
        (edit("contextnet", "FP32", "INT32"), "contextnet"),
    ],
    "plan-release-unknown": [(lambda root: new_plan(root, version="11.1.0.106"), "contextnet")],
    "tensor-dims": [
        (edit("interpolator_m", "dims: [3, -1, -1]", "dims: [-1, -1, -1]"), "interpolator_m"),
        (edit("interpolator_m", "dims: [3, -1, -1]", "dims: [1, 3, -1, -1]"), "interpolator_m"),
        (edit("interpolate_pre", "dims: [1, 3, -1, -1]", "dims: [3, -1, -1]"), "interpolate_pre"),
        (edit("contextnet", "dims: [2, -1, -1]", "dims: [3, -1, -1]"), "contextnet"),
    ],
    "gridsample-nearest": [(at(NETWORK, linear_sampler), "interpolator_m")],
    "plan-file": [
        (at(PLAN, write(b"")), "contextnet"),
        (at(PLAN, write(b"not a plan at all, but long enough for a header")), "contextnet"),
        (at(PLAN, write(b"ftrt")), "contextnet"),
    ],
    "plan-manifest": [
        (lambda root: lie(root / (PLAN + ".json"), "seconds", 2.0), "contextnet"),
        (at(PLAN + ".json", write("{")), "contextnet"),
        (at(PLAN, lambda path: path.write_bytes(path.read_bytes() + b"more")), "contextnet"),
        (lambda root: new_plan(root, signature={"inputs": [], "outputs": {}}), "contextnet"),
        (lambda root: new_plan(root, profiles=[{"image": [[1, 3, 64, 64]]}]), "contextnet"),
    ],
    "plan-unknown": [(at(PLAN + ".json", Path.unlink), "contextnet")],
    "plan-release": [(lambda root: new_plan(root, version="10.9.0.34"), "contextnet")],
    "plan-gpu": [
        (lambda root: second_plan(root, "8.9", (8, 0)), "contextnet"),
        (lambda root: second_plan(root, "ada", (8, 9)), "contextnet"),
    ],
    "plan-profile": [
        (edit("contextnet", "max_batch_size: 4", "max_batch_size: 5"), "contextnet"),
        (edit("contextnet", 'profile: ["0"]', 'profile: ["1"]'), "contextnet"),
        (edit("contextnet", "dims: [3, -1, -1]", "dims: [3, 1024, -1]"), "contextnet"),
        (edit("contextnet", "dims: [3, 64, 64]", "dims: [3, 32, 32]"), "contextnet"),
        (edit("contextnet", "dims: [3, 64, 64]", "dims: [3, 64, 544]"), "contextnet"),
    ],
    "manifest": [
        (lambda root: lie(root / (NETWORK + ".json"), "sha256", "0" * 64), "interpolator_m"),
        (at(NETWORK + ".json", write("[" * 99999)), "interpolator_m"),
        (at(NETWORK + ".json", fifo), "interpolator_m"),
    ],
    "parameters": [
        (add("interpolate_pre", parameters(graph="interpolator_m")), "interpolate_pre"),
        (edit("interpolator_m", CHECKPOINT, "d" * 64), "interpolator_m"),
        (edit("interpolator_m", 'string_value: "fp32"', 'string_value: "fp16"'), "interpolator_m"),
        (edit("interpolator_m", 'string_value: "interpolator_m"', 'string_value: "unet"'), "interpolator_m"),
        (lambda root: save_network(root / NETWORK, dtype=Type.FLOAT16), "interpolator_m"),
        (lambda root: save_plan(root / PLAN, capability=(8, 9)), "contextnet"),
    ],
    "ensemble": [
        (add("interpolate", "instance_group { count: 1 }"), "interpolate"),
        (add("interpolate", "optimization { priority: PRIORITY_MAX }"), "interpolate"),
        (add("interpolate", warm_up()), "interpolate"),
        (add("echo", 'ensemble_scheduling { step { model_name: "contextnet" } }'), "echo"),
        (lambda root: [keep_only(root, "interpolate"), cut_steps(root)], "interpolate"),
    ],
    "ensemble-model": [
        (edit("interpolate", '"interpolate_pre"', '"pre"'), "interpolate"),
        (edit("interpolate", "model_version: -1", "model_version: 2"), "interpolate"),
        (edit("interpolate", '"interpolate_pre"', '"interpolate"'), "interpolate"),
    ],
    "ensemble-tensor": [
        (
            edit("interpolate", 'key: "img1" value: "img1" }\ninput', 'key: "img1" value: "img9" }\ninput'),
            "interpolate",
        ),
        (edit("interpolate", 'output_map { key: "frame" value: "middle" }', ""), "interpolate"),
        (edit("interpolate", 'input_map { key: "timestep" value: "time" }', ""), "interpolate"),
        (edit("interpolate", 'input_map { key: "timestep"', 'input_map { key: "when"'), "interpolate"),
        (edit("interpolate", 'value: "time" }', 'value: "img0" }'), "interpolate"),
        (edit("interpolate", 'key: "timestep" value: "timestep"', 'key: "timestep" value: "middle"'), "interpolate"),
    ],
    "ensemble-type": [
        (edit("interpolate", "UINT8", "INT8"), "interpolate"),
        (edit("interpolate", "dims: [-1, -1, 3]", "dims: [-1, -1, 4]"), "interpolate"),
        (edit("interpolator_m", "max_batch_size: 8", "max_batch_size: 0"), "interpolate"),
    ],
}


def cut_steps(root):
    path = root / "interpolate" / "config.pbtxt"
    path.write_text(path.read_text().partition("ensemble_scheduling")[0] + "ensemble_scheduling { }\n")
