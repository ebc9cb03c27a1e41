"""Small models that engines are built from, manifests of engines, and libraries that build them."""

from __future__ import annotations

import hashlib
import platform
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.parser import parse_model

from refine_export.artifacts import Artifact
from refine_export.engine.bindings import Library, Log, builder_of, load_library
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.engine_from_onnx import Built, engine_from_onnx
from refine_export.engine.engine_manifest import KIND, EngineDetails
from refine_export.engine.grid_sample_check import GridSampleReport
from refine_export.engine.identity import EngineKey, engine_key
from refine_export.engine.machine import Machine
from refine_export.engine.network_types import TypeReport
from refine_export.engine.onnx_source import read_source
from refine_export.engine.parse_network import network_from_onnx
from refine_export.support.manifest import Manifest, write_with_manifest
from refine_export.support.text import dict_from_result, size_text

needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed: pip install tensorrt-rtx"
)
"""For tests on the real TensorRT for RTX, which parses and builds without a GPU."""

WARPED = """
    <ir_version: 10, opset_import: ["" : 20]>
    warped (float["N",4,"H","W"] image, float[1,32,32,2] grid) => (float["N",4,32,32] out)
    <float16[4,4,3,3] weight>
    {
        soft = Relu (image)
        moved = GridSample <mode = "linear", padding_mode = "border", align_corners = 1> (soft, grid)
        half = Cast <to = 10> (moved)
        features = Conv <pads = [1, 1, 1, 1]> (half, weight)
        out = Cast <to = 1> (features)
    }
"""


def model() -> onnx.ModelProto:
    made = parse_model(WARPED)
    weight = np.ones((4, 4, 3, 3), np.float16)
    made.graph.initializer.append(onnx.numpy_helper.from_array(weight, "weight"))
    for node in made.graph.node:
        node.name = f"the_{node.output[0]}"
    return made


@pytest.fixture(name="rtx")
def rtx_fixture() -> Library:
    """The real TensorRT for RTX."""
    return load_library("rtx")


def details_of(key: EngineKey, artifact: Artifact | None = None, unfused: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the details in an engine's manifest, for a network without layers."""
    details = EngineDetails(
        key=key,
        artifact=artifact,
        onnx={"file": "m.onnx", "sha256": key.onnx_sha256},
        samplers=GridSampleReport(layers=0, sampling={}, repairs=()),
        unfused=unfused,
        inferred=TypeReport(layers={}, types={}, promised={}, unchecked=()),
        probed=False,
        precision=None,
        memory={},
        fallbacks=(),
        proven="built and type-checked by nobody; compared with torch",
        notes=(),
    )
    return dict_from_result(details)


def machine_of(version: str) -> Machine:
    """This machine as one with a GPU and enterprise TensorRT."""
    return Machine(
        tensorrt=version,
        gpu="NVIDIA H200",
        compute_capability=(9, 0),
        cuda=13,
        system=platform.system(),
        architecture=platform.machine(),
    )


def saved(path: Path, content: bytes, version: str, **options: Any) -> Path:
    """Write an engine of `machine_of(version)`, with the manifest of a network without layers."""
    key = engine_key(
        machine_of(version), onnx_sha256="a" * 64, profiles=(), options=BuildOptions(**options), fallback="native"
    )
    manifest = Manifest(
        artifact=path.name,
        kind=KIND,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        inputs={},
        options={},
        versions={},
        signature={},
        fingerprint=key.fingerprint(),
        seconds=1.0,
        details=details_of(key),
    )
    write_with_manifest(path, content, manifest)
    return path


def network_of(library: Library, made: onnx.ModelProto | bytes, path: Path | None = None) -> Any:
    """The network that a library's parser makes of a model."""
    log, content = Log(library.module), made if isinstance(made, bytes) else made.SerializeToString()
    return network_from_onnx(library.module, builder_of(library.module, log), log, content, path).network


def built_by_rtx(path: Path, size: tuple[int, int]) -> Built:
    """Build a file for one size by the real TensorRT for RTX, in this process."""
    options = BuildOptions(target="rtx", opt_size=size_text(size))
    library = load_library("rtx")
    shapes = read_source(path, options).shapes
    return engine_from_onnx(library, path.read_bytes(), options, shapes, log=Log(library.module), path=path)


def bare_module(name: str, version: str) -> ModuleType:
    """A module to put into `sys.modules` for what asks a library for its version, and whether it starts."""
    module: Any = ModuleType(name)
    module.__version__, module.__spec__ = version, ModuleSpec(name, None)
    module.ILogger, module.Builder = type("ILogger", (), {}), lambda logger: object()
    return module


def fake_library(monkeypatch: pytest.MonkeyPatch, version: str = "11.4.0") -> Library:
    """The library of a fake TensorRT that is installed in this process."""
    from tests.support.fake_tensorrt import make_fake

    monkeypatch.setitem(sys.modules, "tensorrt", make_fake(version))
    return load_library("trt")


def fail(monkeypatch: pytest.MonkeyPatch, kind: Any, call: str, log: Log | None, gives: object = None) -> None:
    """Make a call of a class of TensorRT's give or raise something, after a line in the log."""

    def failing(*given: object, **named: object) -> object:
        if log is not None:
            log.logger.log(log.logger.ERROR, f"{call}: Error Code 1: the test asked for it")
        if isinstance(gives, Exception):
            raise gives
        return gives

    monkeypatch.setattr(kind, call, failing)
