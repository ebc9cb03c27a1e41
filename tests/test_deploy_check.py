"""Each rule of the pre-flight is seen to fail on one change to a good repository, which passes with no findings."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import struct
import sys
import urllib.request
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto as Type
from onnx import helper, numpy_helper

from refine_export.cli import main
from refine_export.deploy.check import check_repository
from refine_export.deploy.options import TritonOptions
from refine_export.deploy.repository import deploy_triton
from refine_export.deploy.rules_text import RULES
from refine_export.engine.engine_manifest import sealed
from refine_export.engine.key import Machine, engine_key
from refine_export.engine.options import BuildOptions
from refine_export.engine.plan import KEY, KIND
from refine_export.errors import RequestError, UnavailableError
from refine_export.manifest import Manifest, manifest_path, write_manifest
from refine_export.onnx_file import Artifact, artifact_from_file

CHECKPOINT = "c" * 64


def save_onnx(path, nodes, inputs, outputs, constants, *, opset=18, **metadata):
    """A model of a few nodes; inputs and outputs are (name, type, shape)."""
    values = [[helper.make_tensor_value_info(*value) for value in side] for side in (inputs, outputs)]
    weights = [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
    graph = helper.make_graph([helper.make_node(*node, **given) for *node, given in nodes], "g", *values, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    helper.set_model_props(model, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def save_network(path, dtype=Type.FLOAT, batch="N"):
    """The weighted average of two frames: an `interpolator_m` of no weights."""
    size = [batch, 3, "H", "W"]
    save_onnx(
        path,
        [
            ("Mul", ["img1", "timestep"], ["late"], {}),
            ("Sub", ["one", "timestep"], ["left"], {}),
            ("Mul", ["img0", "left"], ["early"], {}),
            ("Add", ["early", "late"], ["frame"], {}),
        ],
        [("img0", dtype, size), ("img1", dtype, size), ("timestep", dtype, [batch, 1, 1, 1])],
        [("frame", dtype, size)],
        {"one": np.array(1, helper.tensor_dtype_to_np_dtype(dtype))},
        **{"refine_export.checkpoint_sha256": CHECKPOINT},
    )


def save_pre(path):
    save_onnx(
        path,
        [
            ("Cast", ["frame0"], ["img0_"], {"to": Type.FLOAT}),
            ("Cast", ["frame1"], ["img1_"], {"to": Type.FLOAT}),
            ("Reshape", ["img0_", "any"], ["img0"], {}),
            ("Reshape", ["img1_", "any"], ["img1"], {}),
            ("Reshape", ["timestep", "one"], ["time"], {}),
        ],
        [
            ("frame0", Type.UINT8, ["H", "W", 3]),
            ("frame1", Type.UINT8, ["H", "W", 3]),
            ("timestep", Type.FLOAT, [1]),
        ],
        [("img0", Type.FLOAT, [1, 3, "h", "w"]), ("img1", Type.FLOAT, [1, 3, "h", "w"]), ("time", Type.FLOAT, [1] * 4)],
        {"any": [1, 3, 32, -1], "one": [1, 1, 1, 1]},
    )


def save_post(path):
    save_onnx(
        path,
        [
            ("Cast", ["frame"], ["bytes"], {"to": Type.UINT8}),
            ("Shape", ["frame0"], ["size"], {}),
            ("Reshape", ["bytes", "size"], ["picture"], {}),
        ],
        [("frame", Type.FLOAT, [1, 3, "h", "w"]), ("frame0", Type.UINT8, ["H", "W", 3])],
        [("picture", Type.UINT8, ["H", "W", 3])],
        {},
    )


def save_plan(path, *, version="11.0.0.114", capability=(9, 0), profiles=None, signature=None, **options):
    """What seems a plan of `contextnet`, with its manifest: batches of 1 to 4, sides of 64 to 512."""
    machine = Machine(
        tensorrt=version, gpu="NVIDIA H200", compute_capability=capability, cuda=13, system="Linux", architecture="x86"
    )
    low, best, high = (1, 64), (1, 256), (4, 512)
    profile = {
        name: [[batch, channels, side, side] for batch, side in (low, best, high)]
        for name, channels in (("image", 3), ("flow", 2))
    }
    profiles = [profile] if profiles is None else profiles
    built = BuildOptions(**options)
    key = engine_key(machine, onnx_sha256="a" * 64, profiles=profiles, options=built, rung="native")
    content = struct.pack("<II16x4B", 0x74727466, 0, *map(int, version.split("."))) + str(capability).encode() * 20
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    sizes = {f"f{k}": ["N", 8 * 2**k, f"H/{2**k}", f"W/{2**k}"] for k in (1, 2, 3, 4)}
    signature = signature or {"inputs": {"image": ["N", 3, "H", "W"], "flow": ["N", 2, "H", "W"]}, "outputs": sizes}
    artifact = Artifact(
        graph="contextnet",
        file="contextnet.onnx",
        sha256="a" * 64,
        size_bytes=1,
        sizes="any",
        opset=18,
        precision="fp32",
        nodes=9,
        reused=False,
        seconds=1.0,
        checkpoint_sha256=CHECKPOINT,
        checkpoint="seeded",
        fixed=(None, None, None),
    )
    manifest = Manifest(
        artifact=path.name,
        kind=KIND,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        inputs={},
        options=dataclasses.asdict(built),
        versions={"tensorrt": version},
        signature=signature,
        fingerprint=key.fingerprint(),
        seconds=1.0,
        details={KEY: key.described(), "artifact": json.loads(json.dumps(dataclasses.asdict(artifact)))},
    )
    write_manifest(path, sealed(manifest))


def save_manifest(path):
    """The side-car of an ONNX file."""
    artifact = artifact_from_file(path)
    described = {"artifact": path.name, "kind": "onnx", "sha256": artifact.sha256, "size_bytes": artifact.size_bytes}
    manifest_path(path).write_text(json.dumps(described))


def tensors(kind, *given):
    return "\n".join(
        f'{kind} {{ name: "{name}" data_type: TYPE_{dtype} dims: [{", ".join(map(str, dims))}] }}'
        for name, dtype, *dims in given
    )


def parameters(**given):
    return "\n".join(
        f'parameters {{ key: "refine_export.{key}" value {{ string_value: "{value}" }} }}'
        for key, value in given.items()
    )


def warm_up(*inputs):
    values = "\n".join(
        f'inputs {{ key: "{name}" value {{ data_type: TYPE_FP32 dims: {list(dims)} zero_data: true }} }}'
        for name, *dims in inputs
    )
    return f'model_warmup {{ name: "64x96"\nbatch_size: 1\n{values} }}'


PYTHON = """
import numpy as np
import triton_python_backend_utils as pb

class TritonPythonModel:
    def initialize(self, args):
        assert np.__version__ < "2"

    def execute(self, requests):
        return [pb.InferenceResponse([pb.get_input_tensor_by_name(request, "x")]) for request in requests]
"""
PICTURE = ("UINT8", -1, -1, 3)
IMAGE = ("FP32", 1, 3, -1, -1)


def step(model, inputs, outputs):
    maps = [("input_map", inputs), ("output_map", outputs)]
    lines = [f'{kind} {{ key: "{key}" value: "{to}" }}' for kind, given in maps for key, to in given.items()]
    return f'step {{ model_name: "{model}" model_version: -1\n' + "\n".join(lines) + " }"


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    """A repository with a model of each backend, and an ensemble."""
    root = tmp_path_factory.mktemp("good") / "models"
    network = root / "interpolator_m" / "1" / "model.onnx"
    save_network(network)
    save_manifest(network)
    save_pre(root / "interpolate_pre" / "1" / "model.onnx")
    save_post(root / "interpolate_post" / "1" / "model.onnx")
    plan = root / "contextnet" / "1" / "model.plan"
    save_plan(plan)
    (root / "echo" / "1").mkdir(parents=True)
    (root / "echo" / "1" / "model.py").write_text(PYTHON)
    (root / "interpolate" / "1").mkdir(parents=True)
    (root / "interpolate" / "1" / "README").write_text("an ensemble has no model")
    images = [("img0", "FP32", 3, -1, -1), ("img1", "FP32", 3, -1, -1), ("timestep", "FP32", 1, 1, 1)]
    pictures = [("frame0", *PICTURE), ("frame1", *PICTURE), ("timestep", "FP32", 1)]
    sha256 = artifact_from_file(network).sha256
    configs = {
        "interpolator_m": [
            'name: "interpolator_m"\nplatform: "onnxruntime_onnx"\nmax_batch_size: 8',
            tensors("input", *images),
            tensors("output", ("frame", "FP32", 3, -1, -1)),
            "version_policy { latest { num_versions: 1 } }",
            "instance_group { count: 1 kind: KIND_GPU }",
            "dynamic_batching { preferred_batch_size: [4, 8] max_queue_delay_microseconds: 1000 }",
            'optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }',
            "response_cache { enable: false }",
            warm_up(("img0", 3, 64, 96), ("img1", 3, 64, 96), ("timestep", 1, 1, 1)),
            parameters(graph="interpolator_m", precision="fp32", checkpoint_sha256=CHECKPOINT, artifact_sha256=sha256),
        ],
        "contextnet": [
            'name: "contextnet"\nplatform: "tensorrt_plan"\nmax_batch_size: 4',
            tensors("input", ("image", "FP32", 3, -1, -1), ("flow", "FP32", 2, -1, -1)),
            tensors("output", *((f"f{k}", "FP32", 8 * 2**k, -1, -1) for k in (1, 2, 3, 4))),
            'instance_group { count: 1 kind: KIND_GPU profile: ["0"] }',
            warm_up(("image", 3, 64, 64), ("flow", 2, 64, 64)),
            parameters(artifact_sha256=sha256_of(plan), graph="contextnet"),
        ],
        "interpolate_pre": [
            'backend: "onnxruntime"\nmax_batch_size: 0',
            tensors("input", *pictures),
            tensors("output", ("img0", *IMAGE), ("img1", *IMAGE), ("time", "FP32", 1, 1, 1, 1)),
            "instance_group { count: 1 kind: KIND_CPU }",
        ],
        "interpolate_post": [
            'backend: "onnxruntime"\nmax_batch_size: 0',
            tensors("input", ("frame", *IMAGE), ("frame0", *PICTURE)),
            tensors("output", ("picture", *PICTURE)),
        ],
        "echo": [
            'backend: "python"\nmax_batch_size: 0',
            tensors("input", ("x", "FP32", 4)),
            tensors("output", ("x", "FP32", 4)),
        ],
        "interpolate": [
            'platform: "ensemble"\nmax_batch_size: 0',
            tensors("input", *pictures),
            tensors("output", ("frame", *PICTURE)),
            "ensemble_scheduling {",
            step(
                "interpolate_pre",
                {"frame0": "frame0", "frame1": "frame1", "timestep": "timestep"},
                {"img0": "img0", "img1": "img1", "time": "time"},
            ),
            step("interpolator_m", {"img0": "img0", "img1": "img1", "timestep": "time"}, {"frame": "middle"}),
            step("interpolate_post", {"frame": "middle", "frame0": "frame0"}, {"picture": "frame"}),
            "}",
        ],
    }
    for name, lines in configs.items():
        (root / name / "config.pbtxt").write_text("\n".join(lines) + "\n")
    (root / "README.md").write_text("read me")
    record(root)
    return root


def record(root):
    """deployment.json, as it is now."""
    paths = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "deployment.json"]
    files = {path.relative_to(root).as_posix(): {"sha256": sha256_of(path)} for path in paths}
    engine = {"version": 1, "file": "model.plan", "engine": {"tensorrt": "11.0.0.114"}}
    models = [{"name": "contextnet", "artifacts": [engine]}]
    (root / "deployment.json").write_text(json.dumps({"models": models, "files": files}))


def sha256_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def repository(good, tmp_path):
    return Path(shutil.copytree(good, tmp_path / "models", symlinks=True))


def edit(model, old, new, count=1):
    """A change to a config, which has to have what is changed."""

    def change(root):
        path = root / model / "config.pbtxt"
        text = path.read_text()
        assert old in text, text
        path.write_text(text.replace(old, new, count))

    return change


def add(model, line):
    def change(root):
        with (root / model / "config.pbtxt").open("a") as file:
            file.write(line + "\n")

    return change


def at(name, change):
    """A change to one file or folder."""
    return lambda root: change(root / name)


def write(content):
    return lambda path: path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)


def lie(path, name, value):
    """Into JSON."""
    content = json.loads(path.read_text())
    content[name] = value
    path.write_text(json.dumps(content))


def keep_only(root, *names):
    """So that what depends on the other models is not found as well."""
    for folder in root.iterdir():
        if folder.is_dir() and folder.name not in names:
            shutil.rmtree(folder)


def found(root, **given):
    """(rule, model) of each finding, without those of deployment.json: every change breaks its hashes."""
    return {(one.rule, one.model) for one in check_repository(root, **given).findings if one.rule != "deployment"}


def test_a_good_repository_has_no_findings(good):
    checked = check_repository(good, release="26.06")
    assert checked.findings == ()
    assert checked.passed
    assert checked.models == (
        *("contextnet", "echo", "interpolate", "interpolate_post", "interpolate_pre", "interpolator_m"),
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


CASES = [(rule, number) for rule, cases in MUTATIONS.items() for number in range(len(cases))]


@pytest.mark.parametrize(("rule", "number"), CASES, ids=[f"{rule}-{number}" for rule, number in CASES])
def test_a_change_is_found(repository, rule, number):
    change, model = MUTATIONS[rule][number]
    change(repository)
    release = {"plan-release": "26.06", "plan-release-unknown": "26.04"}.get(rule)
    assert (rule, model) in found(repository, release=release)


def test_weights_in_a_file_of_their_own(repository):
    old = artifact_from_file(repository / NETWORK).sha256
    bias(repository / NETWORK)
    save_manifest(repository / NETWORK)
    edit("interpolator_m", old, artifact_from_file(repository / NETWORK).sha256)(repository)
    assert found(repository) == set()


def test_every_rule_is_seen_to_fail():
    assert set(RULES) - set(MUTATIONS) == {"no-models", "deployment"}, "these have tests of their own"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('value: "time" }', 'value: "img0" }', "'img0' is written more than once"),
        ('key: "img1" value: "img1" }', 'key: "img1" value: "img9" }', "'img1' is read, and nothing writes it"),
        ('key: "img1" value: "img1" }', 'key: "img1" value: "img9" }', "'img9' is written, and nothing reads it"),
        (
            'key: "timestep" value: "timestep"',
            'key: "timestep" value: "middle"',
            "step 'interpolate_pre' waits for its",
        ),
        (
            'key: "timestep" value: "time"',
            'key: "when" value: "time"',
            "interpolator_m has no input 'when'; it has img0, ",
        ),
        ('key: "timestep" value: "time"', 'key: "when" value: "time"', "'timestep' of interpolator_m is not mapped"),
        ('key: "picture"', 'key: "image"', "interpolate_post has no output 'image'; it has picture"),
    ],
)
def test_what_is_wrong_between_the_steps_is_named(repository, old, new, words):
    edit("interpolate", old, new)(repository)
    assert any(words in one.message for one in check_repository(repository).findings if one.model == "interpolate")


@pytest.mark.parametrize(
    ("options", "extra"),
    [
        ({}, []),
        ({"backend": "python"}, []),
        ({"device": "cpu", "max_batch": 4, "sizes": ("64x96",)}, []),
        ({"accelerator": "tensorrt"}, ["contextnet.plan"]),
        ({"ensemble": False}, ["half.onnx"]),
    ],
)
def test_what_deploy_triton_makes_has_no_findings(tmp_path, options, extra):
    save_network(tmp_path / "network.onnx")
    save_manifest(tmp_path / "network.onnx")
    save_network(tmp_path / "half.onnx", dtype=Type.FLOAT16)
    save_plan(tmp_path / "contextnet.plan")
    files = [name for name in ("network.onnx", *extra) if name != "network.onnx" or "half.onnx" not in extra]
    deploy_triton([tmp_path / name for name in files], tmp_path / "models", TritonOptions(**options))
    assert check_repository(tmp_path / "models", release="26.06").findings == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (at("README.md", write("other")), "README.md was changed"),
        (at("README.md", Path.unlink), "README.md: it is missing"),
        (at("README.md", fifo), "README.md: it is no regular file"),
        (at("deployment.json", write("{")), "it is no manifest"),
        (at("deployment.json", write("[" * 99999)), "it is no manifest"),
        (at("deployment.json", write('{"files": {"../outside": {}}}')), "../outside: it is outside of the repository"),
        (at("deployment.json", write('{"files": {"README.md": 1}}')), "README.md was changed"),
        (
            lambda root: new_plan(root, version="10.16.1.11") or record(root),
            "by TensorRT 11.0.0.114, it says; the plan",
        ),
        (lambda root: lie(root / "deployment.json", "models", [None, {"artifacts": [1, {"engine": {}}]}]), None),
    ],
)
def test_deployment_json_is_of_this_repository(repository, change, words):
    change(repository)
    messages = [one.message for one in check_repository(repository).findings if one.rule == "deployment"]
    assert any(words in message for message in messages) if words else not messages


def test_another_release_and_a_compatible_plan(repository):
    for version, options, rule in (
        ("11.0.0.114", {}, None),
        ("10.16.1.11", {}, "plan-release"),
        ("10.16.1.11", {"version_compatible": True}, None),
        ("11.1.0.106", {"version_compatible": True}, "plan-release"),
    ):
        new_plan(repository, version=version, **options)
        rules = {name for name, _ in found(repository, release="26.06")}
        assert rules == ({rule} if rule else set()), (version, options)


def test_a_plan_for_each_kind_of_gpu(repository):
    (repository / PLAN).rename(repository / "contextnet/1/h200.plan")
    (repository / f"{PLAN}.json").rename(repository / "contextnet/1/h200.plan.json")
    add("contextnet", 'cc_model_filenames { key: "9.0" value: "h200.plan" }')(repository)
    assert found(repository) == set()
    second_plan(repository, "8.9", (8, 0), hardware_compatibility="ampere_plus")
    assert found(repository) == set(), "one that runs from 8.0 on"


def test_no_repository(tmp_path, good):
    with pytest.raises(RequestError, match="is no folder; expected a model repository"):
        check_repository(tmp_path / "nothing")
    with pytest.raises(RequestError, match=r"Triton 19.01 is not known here; expected one of 25.01, "):
        check_repository(good, release="19.01")
    assert found(tmp_path) == {("no-models", "")}


def test_without_tritonclient_the_extra_is_named(good, monkeypatch):
    monkeypatch.setitem(sys.modules, "tritonclient.grpc.model_config_pb2", None)
    with pytest.raises(UnavailableError, match=r"pip install 'refine-export\[triton\]'"):
        check_repository(good)


def test_a_folder_that_can_not_be_listed(repository, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "1" and Path(path).parent.name == "echo":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    [one] = check_repository(repository).findings
    assert (one.rule, one.model, one.where) == ("unreadable", "echo", "1")
    assert one.message == "can't list it: Permission denied"


def test_a_file_that_the_lint_can_not_take(repository, monkeypatch):
    monkeypatch.setattr("refine_export.graph.lint.lint_file", lambda path: {}["no such value"])
    assert found(repository) == {("onnx-file", "interpolator_m")}


def test_a_folder_of_hidden_files_is_a_model_to_triton(repository):
    (repository / ".git").mkdir()
    assert found(repository) == {("config-missing", ".git")}


def test_a_folder_that_is_a_link_out_is_not_read(repository, tmp_path):
    (tmp_path / "elsewhere" / "1").mkdir(parents=True)
    (tmp_path / "elsewhere" / "config.pbtxt").write_text("not read")
    (repository / "linked").symlink_to(tmp_path / "elsewhere")
    assert {rule for rule, _ in found(repository)} == {"symlink"}


def test_a_python_model_with_an_environment_of_its_own(repository):
    at("echo/1/model.py", write(PYTHON.replace("np.__version__", '"1"')))(repository)
    add("echo", 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "env.tar.gz" } }')(repository)
    assert found(repository) == set()


def test_a_config_of_many_steps_is_read_in_a_moment(repository):
    links = ((f"t{number + 1}", f"t{number}") for number in reversed(range(1000)))
    steps = "".join(step("echo", {"x": read}, {"x": written}) for written, read in links)
    text = f'platform: "ensemble"\n{tensors("input", ("t0", "FP32", 4))}\n{tensors("output", ("t1000", "FP32", 4))}'
    at("interpolate/config.pbtxt", write(f"{text}\nensemble_scheduling {{ {steps} }}"))(repository)
    assert found(repository) == set()


def run(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["deploy", "check", *map(str, arguments)])
    return caught.value.code, *capsys.readouterr()


def test_the_command_line(repository, capsys):
    code, said, _ = run([repository, "--triton-release", "26.06"], capsys)
    assert (code, said.count("nothing found")) == (0, 7)
    add("interpolator_m", "response_cache { enable: true }")
    edit("interpolator_m", "enable: false", "enable: true")(repository)
    record(repository)
    assert run([repository], capsys)[0] == 0, "a warning"
    edit("contextnet", "max_batch_size: 4", "max_batch_size: 5")(repository)
    record(repository)
    code, said, _ = run([repository], capsys)
    assert code == 1
    assert (
        "config.pbtxt: max_batch_size: max_batch_size is 5; 1/model.plan: profile 0 takes batches from 1 to 4" in said
    )
    assert "(plan-profile)" in said
    code, said, _ = run([repository, "--json"], capsys)
    checked = json.loads(said)
    assert (code, checked["passed"], len(checked["models"])) == (1, False, 6)
    assert {(one["rule"], one["model"], one["severity"]) for one in checked["findings"]} == {
        ("response-cache", "interpolator_m", "warning"),
        ("plan-profile", "contextnet", "error"),
    }
    assert run([repository / "nothing"], capsys)[0] == 2


def test_names_can_not_steer_the_terminal(repository, capsys):
    name = "a\x1b[2J\n[red]b"
    (repository / name).mkdir()
    add("echo", 'metric_tags { key: "\\033[2J" value: "" } no_such_field: "\x1b[2J"')(repository)
    code, said, _ = run([repository], capsys)
    assert code == 1
    assert "\x1b[2J" not in said
    assert "\\x1b[2J" in said


TRAPS = {
    "good": None,
    "batching of nothing": ("dynamic_batching { }", "dynamic-batching", None),
    "no warm-up": (warm_up(("x", 4)).replace("batch_size: 1", ""), "warmup-batch", None),
    "a version that is not there": ("version_policy { specific { versions: [1, 2] } }", "version-missing", None),
    "warm-up of any size": (warm_up(("x", -1)), "warmup-tensor", "all variable-size dimensions are specified"),
    "profiles without a plan": ('instance_group { kind: KIND_CPU profile: ["0"] }', "instance-group", "only supported"),
    "no schema": ("no_such_field: 1", "config-parse", "failed to poll"),
}


@pytest.mark.triton
def test_what_the_real_server_says(good, tmp_path, triton_server):
    """It refuses what it can see at once, and takes silently what makes requests slow or wrong."""
    from triton_setup import CannotServeError

    root = tmp_path / "models"
    names = {trap: trap.replace(" ", "_") for trap in TRAPS}
    for trap, name in names.items():
        shutil.copytree(good / "echo", root / name)
        if TRAPS[trap]:
            add(name, TRAPS[trap][0])(root)
        if "instance_group" not in (root / name / "config.pbtxt").read_text():
            add(name, "instance_group { kind: KIND_CPU }")(root)
    expected = {(case[1], names[trap]) for trap, case in TRAPS.items() if case}
    assert found(root) == expected
    server = triton_server(root, ["good"])
    for path in ("v2/health/ready", "v2/health/live", "v2/models/good/ready"):  # what the probes of KServe ask
        with urllib.request.urlopen(f"http://{server.http_url}/{path}", timeout=5) as answer:
            assert answer.status == 200
    for trap, name in names.items():
        refusal = TRAPS[trap][2] if TRAPS[trap] else None
        if refusal is None:
            server.load(name, timeout_s=10)
        else:
            with pytest.raises(CannotServeError, match=refusal):
                server.load(name, timeout_s=10)


@pytest.mark.triton
def test_the_real_server_takes_hidden_folders_for_models(tmp_path, triton_server):
    from triton_setup import CannotServeError

    (tmp_path / "models" / ".git").mkdir(parents=True)
    with pytest.raises(CannotServeError, match="failed to load all models"):
        triton_server(tmp_path / "models", ["*"])
