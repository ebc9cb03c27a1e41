"""Artifacts for tests of serving: tiny networks with the graphs' inputs and outputs, and plans that nothing built."""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from pathlib import Path

import onnx
from onnx import helper, numpy_helper
from onnx.parser import parse_model

from refine_export.artifacts import artifact_from_file, io_description
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.engine_manifest import KIND
from refine_export.engine.identity import engine_key
from refine_export.engine.machine import Machine
from refine_export.signature import SIGNATURES
from refine_export.support.manifest import Manifest, write_with_manifest
from tests.support.engine_models import details_of

CHECKPOINT = "c" * 64


def write_average(
    path: Path,
    *,
    timestep: bool = True,
    size: tuple[int, int] | None = None,
    batch: int | None = None,
    dtype: str = "float",
    gain: float = 1.0,
) -> Path:
    """Write the average of img0 and img1, weighted by the timestep (FP32, as `lower` leaves it), times `gain`.

    Args:
        path: the ONNX file.
        timestep: take a timestep; otherwise the weight is a half.
        size: fixed height and width.
        batch: fixed batch.
        dtype: float or float16, of the images.
        gain: a factor.
    """
    first = batch or '"N"'
    plane = f"{dtype}[{first}, 3, {size[0]}, {size[1]}]" if size else f'{dtype}[{first}, 3, "H", "W"]'
    timed = f", float[{first}, 1, 1, 1] timestep" if timestep else ""
    code = {"float": 1, "float16": 10}[dtype]
    model = parse_model(f"""
        <ir_version: 9, opset_import: ["" : 18]>
        average ({plane} img0, {plane} img1{timed}) => ({plane} frame)
        <float one = {{1.0}}, float half = {{0.5}}, float gain = {{{gain}}}>
        {{
            weight = Mul ({"timestep" if timestep else "half"}, one)
            w1 = Cast <to = {code}> (weight)
            rest = Sub (one, weight)
            w0 = Cast <to = {code}> (rest)
            a = Mul (img0, w0)
            b = Mul (img1, w1)
            sum = Add (a, b)
            factor = Cast <to = {code}> (gain)
            frame = Mul (sum, factor)
        }}
    """)
    model.metadata_props.add(key="refine_export.checkpoint_sha256", value=CHECKPOINT)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def write_declared(
    path: Path, graph: str, *, size: tuple[int, int] | None = None, batch: int | None = None, dtype: str = "float"
) -> Path:
    """Write a file with the inputs and outputs of a graph, and no computation; flows and timesteps stay FP32."""
    fixed = {"N": batch, "H": size and size[0], "W": size and size[1]}

    def value(spec):
        numbers = spec.shape_at(batch or 0, *(size or (0, 0)))
        shape = [
            number if isinstance(dim, int) or fixed[dim.partition("/")[0]] else dim
            for dim, number in zip(spec.shape, numbers, strict=True)
        ]
        full = spec.quantity in ("flow", "timestep") or dtype == "float"
        return helper.make_tensor_value_info(spec.name, 1 if full else 10, shape)

    signature = SIGNATURES[graph]
    nodes = [helper.make_node("Identity", [signature.inputs[0].name], [spec.name]) for spec in signature.outputs]
    values = (list(map(value, specs)) for specs in (signature.inputs, signature.outputs))
    declared = helper.make_graph(nodes, graph, *values)
    model = helper.make_model(declared, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def with_external_data(path: Path, name: str = "weights.bin") -> Path:
    """Move the constants of a file into one beside it."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:  # only raw bytes can be moved
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    onnx.save(model, path, save_as_external_data=True, location=name, size_threshold=0)
    return path


def write_plan(
    path: Path,
    source: Path,
    profile: tuple[tuple[int, int, int], ...] | None = ((1, 64, 96), (4, 256, 448), (8, 1088, 1920)),
    *,
    tensorrt: str = "11.0.0.114",
    capability: tuple[int, int] = (9, 0),
    **options: object,
) -> Path:
    """Write the header of a plan, and the manifest that a build of `source` would write.

    Args:
        path: the plan.
        source: an ONNX file.
        profile: smallest, best and largest batch, height and width; None for a static file.
        tensorrt: version that built it.
        capability: compute capability of the GPU.
        options: fields of `BuildOptions`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = [int(part) for part in tensorrt.split(".")]
    content = struct.pack("<II16x4B", 0x74727466, 0, *numbers) + f"{path.name}{capability}".encode()
    artifact = artifact_from_file(source)
    model = onnx.load(source, load_external_data=False)
    signature = io_description(model)
    specs = artifact.signature.inputs
    profiles = [{spec.name: [list(spec.shape_at(*sizes)) for sizes in profile] for spec in specs}] if profile else []
    machine = Machine(
        tensorrt=tensorrt,
        gpu="NVIDIA H200",
        compute_capability=capability,
        cuda=13,
        system="Linux",
        architecture="x86_64",
    )
    chosen = BuildOptions(**options)
    key = engine_key(machine, onnx_sha256="a" * 64, profiles=profiles, options=chosen, fallback="native")
    manifest = Manifest(
        artifact=path.name,
        kind=KIND,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        inputs={"source_sha256": "a" * 64},
        options=dataclasses.asdict(chosen),
        versions={"tensorrt": tensorrt},
        signature=signature,
        fingerprint=key.fingerprint(),
        seconds=1.0,
        details=details_of(key, dataclasses.replace(artifact, file=source.name)),
    )
    write_with_manifest(path, content, manifest)
    return path
