"""Real engines in the runner: arrays, tensors, CUDA graphs, sizes; and plans that are not taken."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch

from refine_export.engine.bindings import load_library
from refine_export.engine.engine_runner import TrtRunner
from refine_export.engine.plan import KEY, artifact_from_plan, read_engine_manifest
from refine_export.errors import EngineError, RequestError
from refine_export.support.manifest import write_manifest
from tests.support.engine_models import error_code
from tests.support.real_tensorrt import copied, run_python

pytestmark = pytest.mark.tensorrt

FREE = {"min_size": "32x32", "opt_size": "64x96", "max_size": "96x128", "max_batch": 2}
LOAD = """
import sys
from pathlib import Path
from refine_export.errors import UnavailableError
from refine_export.engine.engine_runner import TrtRunner
try:
    TrtRunner(Path(sys.argv[1]), unchecked=True)
except UnavailableError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def made(workshop):
    """An engine of `contextnet` as the tool builds it by itself."""
    return workshop.engine()


@pytest.fixture
def runner(made):
    with TrtRunner(made.path) as runner:
        yield runner


def tensors_of(feed, runner):
    return {name: torch.from_numpy(array).to(runner._gpu.device, copy=True) for name, array in feed.inputs.items()}


def close(outputs, expected):
    """Of one engine, by two ways: far nearer than two different feeds are."""
    return all(
        np.allclose(torch.as_tensor(outputs[name]).cpu().numpy(), array, rtol=0, atol=1e-3)
        for name, array in expected.items()
    )


def test_arrays_in_and_out_are_as_exact_as_the_limits(workshop, made, runner):
    precision = artifact_from_plan(made.path).precision
    workshop.assert_exact(runner, workshop.feeds(kinds=("subpixel", "large", "outside")), precision)
    assert runner.provider == f"engine, rung {made.rung}"
    assert runner.version == load_library("trt").version


def test_an_engine_of_any_size_takes_those_of_its_profile(workshop, record_property):
    made = workshop.engine(export={"dynamic": True}, optimization_level=1, **FREE)
    feeds = {one["feed"].partition(",")[0] for one in made.manifest.details["fallbacks"][-1]["numbers"]}
    assert feeds == {"contextnet 32x32", "contextnet 64x96", "contextnet 2x96x128"}
    precision = artifact_from_plan(made.path).precision
    with TrtRunner(made.path) as runner:
        for batch, *size in ((2, 96, 128), (1, 32, 128), (2, 64, 64), (1, 96, 32), (2, 96, 128)):
            inside = workshop.feeds(size=tuple(size), batch=batch)
            workshop.assert_exact(runner, inside, precision)


@pytest.mark.parametrize(
    ("batch", "height", "width", "words"),
    [
        (1, 128, 128, r"image is \[1, 3, 128, 128\]; this engine takes \[1, 3, 32, 32\] to \[2, 3, 96, 128\]"),
        (3, 64, 96, r"image is \[3, 3, 64, 96\]; this engine takes"),
        (1, 48, 96, r"image is 48x96; contextnet takes multiples of 32: pad the frames"),
    ],
    ids=["size", "batch", "stride"],
)
def test_a_size_outside_is_refused_before_tensorrt_is_asked(workshop, monkeypatch, batch, height, width, words):
    made = workshop.engine(export={"dynamic": True}, optimization_level=1, **FREE)
    feed = {
        "image": np.zeros((batch, 3, height, width), np.float32),
        "flow": np.zeros((batch, 2, height, width), np.float32),
    }
    with TrtRunner(made.path) as runner:
        for touches in ("_prepare", "_enqueue"):
            monkeypatch.setattr(runner, touches, None)
        with pytest.raises(RequestError, match=words):
            runner.run(feed)
        with pytest.raises(RequestError, match=words):
            runner.run_torch({name: torch.from_numpy(array).to(runner._gpu.device) for name, array in feed.items()})


def test_tensors_go_in_and_out_without_a_copy(workshop, runner):
    first, second = workshop.feeds()
    expected = runner.run(first.inputs)
    assert not close(runner.run(second.inputs), expected)
    tensors = tensors_of(first, runner)
    fresh = runner.run_torch(tensors)
    assert {tensor.device for tensor in fresh.values()} == {runner._gpu.device}
    assert close(fresh, expected)
    mine = {name: torch.empty_like(tensor) for name, tensor in fresh.items()}
    places = {name: tensor.data_ptr() for name, tensor in mine.items()}
    given = runner.run_torch(tensors, mine)
    assert all(given[name] is mine[name] for name in mine)
    assert {name: tensor.data_ptr() for name, tensor in given.items()} == places
    assert {name: runner._context.get_tensor_address(name) for name in places} == places
    assert close(given, expected)
    tensors["image"].copy_(torch.from_numpy(second.inputs["image"]))
    tensors["flow"].copy_(torch.from_numpy(second.inputs["flow"]))
    assert close(runner.run_torch(tensors, mine), runner.run(second.inputs))


def test_the_engine_waits_for_what_its_caller_still_computes(workshop, runner):
    """And the caller's stream for the engine: nothing here waits on the host."""
    feed = workshop.feeds()[0]
    expected, right = runner.run(feed.inputs), tensors_of(feed, runner)
    late = {name: torch.zeros_like(tensor) for name, tensor in right.items()}
    large = torch.full((2048, 2048), 1 / 2048, device=runner._gpu.device)
    for _ in range(20):
        large = large @ large
    for name, tensor in late.items():
        tensor.copy_(right[name] * large[0, 0].mul(2048).round())  # by one, when it is known
    outputs = {name: tensor.clone() for name, tensor in runner.run_torch(late).items()}
    assert close(outputs, expected)


def test_tensors_that_the_engine_can_not_use_in_place(workshop, runner):
    tensors = tensors_of(workshop.feeds()[0], runner)
    shape, device = tensors["image"].shape, runner._gpu.device
    shifted = torch.empty(1 + shape.numel(), device=device)[1:].view(shape)
    with pytest.raises(RequestError, match=r"image begins at an address that is no multiple of .* use \.clone\(\)"):
        runner.run_torch({**tensors, "image": shifted})
    with pytest.raises(RequestError, match=r"image has strides .*expected \.contiguous\(\)"):
        runner.run_torch({**tensors, "image": tensors["image"].transpose(2, 3)})
    with pytest.raises(RequestError, match=r"image is on meta; expected"):
        runner.run_torch({**tensors, "image": tensors["image"].to("meta")})
    with pytest.raises(RequestError, match="the feed image is float16"):
        runner.run_torch({**tensors, "image": tensors["image"].half()})


def test_a_cuda_graph_gives_what_the_engine_gives(workshop, made, runner):
    first, second = workshop.feeds()
    expected = [runner.run(feed.inputs) for feed in (first, second)]
    assert not close(*expected)
    with TrtRunner(made.path, cuda_graph=True) as graphed:
        assert graphed.provider.endswith(", CUDA graph")
        for turn in range(6):
            assert close(graphed.run((first, second)[turn % 2].inputs), expected[turn % 2])
            assert (graphed._replay is None) == (turn == 0)
        tensors = tensors_of(first, graphed)
        outputs = graphed.run_torch(tensors)
        for turn in range(1, 6):
            for name, array in (first, second)[turn % 2].inputs.items():
                tensors[name].copy_(torch.from_numpy(array))
            for tensor in outputs.values():
                tensor.zero_()
            assert close(graphed.run_torch(tensors, outputs), expected[turn % 2])
            assert graphed._replay is not None


def test_a_closed_runner_says_so(workshop, made):
    runner = TrtRunner(made.path)
    feed = workshop.feeds()[0].inputs
    runner.run(feed)
    runner.close()
    runner.close()
    with pytest.raises(RequestError, match="this TensorRT runner was closed; make a new one"):
        runner.run(feed)
    with TrtRunner(made.path) as another:
        another.run(feed)


# ------------------------------------------------------------------------------------------- plans


def test_an_engine_of_another_gpu_is_refused(made, tmp_path):
    plan = copied(made, tmp_path)
    manifest = read_engine_manifest(plan)
    key = dict(manifest.details[KEY])
    key |= {"gpu": "NVIDIA Other", "compute_capability": "1.0"}
    details = {**manifest.details, KEY: key}
    write_manifest(plan, dataclasses.replace(manifest, details=details))
    assert error_code(EngineError, lambda: TrtRunner(plan)) == "wrong-machine"


def test_a_damaged_plan_is_refused(made, tmp_path):
    plan = copied(made, tmp_path)
    content = plan.read_bytes()
    plan.write_bytes(content[:-1000])
    assert error_code(EngineError, lambda: TrtRunner(plan)) == "truncated"
    plan.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert error_code(EngineError, lambda: TrtRunner(plan)) == "unknown-engine"


def test_what_only_looks_like_a_plan_is_an_error_and_no_crash(made, tmp_path):
    """In a process of its own, which TensorRT might take along."""
    path = tmp_path / "m.plan"
    noise = np.random.Generator(np.random.PCG64(0)).bytes(1 << 16)
    path.write_bytes(made.path.read_bytes()[:4] + noise)
    done = run_python("-c", LOAD, path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(rf"TensorRT could not load {re.escape(str(path))} with [\d.]+.*: \S", done.stdout), done.stdout
