"""Engines of the fake TensorRT, for tests of the runner."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from onnx.parser import parse_model

from refine_export.engine import engine_runner as runner_module
from refine_export.engine.bindings import Log
from refine_export.engine.parse_network import network_from_onnx
from tests.support.engine_models import machine_of, saved
from tests.support.fake_tensorrt import make_fake
from tests.support.host_device import HostDevice


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
