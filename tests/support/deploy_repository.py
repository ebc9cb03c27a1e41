"""A good Triton repository, small and made by hand, and changes to it: for the tests of the pre-flight."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import struct

import numpy as np
import onnx
from onnx import TensorProto as Type
from onnx import helper, numpy_helper

from refine_export.artifacts import Artifact, artifact_from_file
from refine_export.deploy.preflight.preflight import check_repository
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.engine_manifest import sealed
from refine_export.engine.identity import Machine, engine_key
from refine_export.engine.plan import KEY, KIND
from refine_export.support.manifest import Manifest, manifest_path, write_manifest

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


def good_repository(tmp_path_factory):
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
