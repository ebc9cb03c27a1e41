"""Plans of the fake TensorRT, and host memory in place of the GPU's, for tests of the runner."""

from __future__ import annotations

import hashlib
import platform
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from onnx.parser import parse_model

from refine_export.engine import engine_runner as runner_module
from refine_export.engine.bindings import Log
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.identity import engine_key
from refine_export.engine.machine import Machine
from refine_export.engine.plan import KIND
from refine_export.runners.cuda_device import CudaDevice
from refine_export.support.manifest import Manifest, write_with_manifest
from tests.support.engine_models import details_of
from tests.support.fake_tensorrt import make_fake


class HostDevice(CudaDevice):
    """Host memory in place of the GPU's, and a note of each graph."""

    alignment = 16  # what numpy's memory has

    def __init__(self) -> None:
        self._torch = torch
        self.device = torch.device("cpu")
        self.stream, self.name = 7, "a host that stands in for a GPU"
        self.captures = self.replays = self.waits = 0
        self.refuses_capture = False

    @contextmanager
    def work(self, *, wait):
        self.waits += wait
        yield

    def upload(self, array, into):
        into.copy_(torch.from_numpy(np.require(array, requirements=["C", "W"])))

    def download(self, tensor):
        return tensor.to("cpu", copy=True).numpy()

    def capture(self, enqueue):
        if self.refuses_capture:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.captures += 1

        def replay():
            self.replays += 1
            enqueue()

        return replay


def machine_of(version):
    return Machine(
        tensorrt=version,
        gpu="NVIDIA H200",
        compute_capability=(9, 0),
        cuda=13,
        system=platform.system(),
        architecture=platform.machine(),
    )


@pytest.fixture(name="trt", params=["10.16.1", "11.4.0"])
def trt_fixture(request, monkeypatch):
    fake = make_fake(request.param)
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    monkeypatch.setattr(runner_module, "CudaDevice", HostDevice)
    monkeypatch.setattr(runner_module, "this_machine", lambda version, library: machine_of(version))
    return fake


def model_text(dtype="float", size='"N", 3, "H", "W"', names=("img0", "img1", "frame")):
    first, second, out = names
    return f"""
        <ir_version: 9, opset_import: ["" : 18]>
        middle ({dtype}[{size}] {first}, {dtype}[{size}] {second}) => ({dtype}[{size}] {out})
        <float half = {{0.5}}>
        {{
            both = Add ({first}, {second})
            weight = Cast <to = {10 if dtype == "float16" else 1}> (half)
            {out} = Mul (both, weight)
        }}
    """


def built(trt, text=None, *, sides=((32, 64, 96),), batch=1, flags=()):
    """The bytes of a plan, one profile for each of `sides`; none for a model of fixed sizes."""
    model = parse_model(text or model_text())
    names = [value.name for value in model.graph.input]
    ranges = [((1, 3, low, low), (1, 3, best, best), (batch, 3, high, high)) for low, best, high in sides]
    profiles = [dict.fromkeys(names, given) for given in ranges]
    return plan_of(trt, model, profiles=profiles, flags=flags)


def plan_of(trt, model, *, shapes=None, profiles=(), flags=(), verbosity="DETAILED"):
    """The bytes of a model's plan, by the fake; `shapes` are those of a profile without a range."""
    log = Log(trt)
    builder = trt.Builder(log.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log.logger)
    assert parser.parse(model.SerializeToString()), log.errors()
    config = builder.create_builder_config()
    config.profiling_verbosity = getattr(trt.ProfilingVerbosity, verbosity)
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    for ranges in (*profiles, *([{name: [shape] * 3 for name, shape in shapes.items()}] if shapes else ())):
        profile = builder.create_optimization_profile()
        for name, given in ranges.items():
            profile.set_shape(name, *given)
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None, log.errors()
    return bytes(plan)


def loaded(trt, plan):
    """The engine of a plan."""
    return trt.Runtime(Log(trt).logger).deserialize_cuda_engine(plan)


def saved(path, content, version, rung="native", **options):
    options = BuildOptions(**options)
    key = engine_key(machine_of(version), onnx_sha256="a" * 64, profiles=(), options=options, rung=rung)
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


@pytest.fixture(name="plan")
def plan_fixture(trt, tmp_path):
    return saved(tmp_path / "m.plan", built(trt), trt.__version__)


def feeds_of(side=64, batch=1, dtype=np.float32, seed=0):
    generator = np.random.default_rng(seed)
    return {name: generator.uniform(size=(batch, 3, side, side)).astype(dtype) for name in ("img1", "img0")}


def middle(feeds):
    return (feeds["img0"] + feeds["img1"]) * feeds["img0"].dtype.type(0.5)


def tensors_of(feeds):
    return {name: torch.from_numpy(array) for name, array in feeds.items()}
