"""Plans of the fake TensorRT, and host memory in place of the GPU's, for tests of the runner."""

from __future__ import annotations

import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from onnx.parser import parse_model

from refine_export.engine import engine_runner as runner_module
from refine_export.engine.bindings import Log
from refine_export.engine.parse_network import network_from_onnx
from refine_export.runners.cuda_device import CudaDevice
from tests.support.engine_models import machine_of, saved
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


@pytest.fixture(name="trt")
def trt_fixture(monkeypatch):
    fake = make_fake()
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


def plan_of(trt, model, *, profiles=(), flags=()):
    """The bytes of a model's plan, by the fake."""
    log = Log(trt)
    builder = trt.Builder(log.logger)
    parsed = network_from_onnx(trt, builder, log, model.SerializeToString())
    config = builder.create_builder_config()
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    for ranges in profiles:
        profile = builder.create_optimization_profile()
        for name, given in ranges.items():
            profile.set_shape(name, *given)
        config.add_optimization_profile(profile)
    return bytes(builder.build_serialized_network(parsed.network, config))


def loaded(trt, plan):
    """The engine of a plan."""
    return trt.Runtime(Log(trt).logger).deserialize_cuda_engine(plan)


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
