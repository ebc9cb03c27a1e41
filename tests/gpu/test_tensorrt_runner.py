"""Real engines in the runner: arrays, tensors, CUDA graphs, sizes; and plans that are not taken."""

import re

import numpy as np
import pytest
import torch

from refine_export.engine.bindings import load_library
from refine_export.engine.engine_manifest import artifact_from_engine
from refine_export.engine.engine_run_options import EngineRunOptions
from refine_export.engine.engine_runner import TrtRunner
from tests.support.real_tensorrt import run_python

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
    precision = artifact_from_engine(made.path).precision
    workshop.assert_exact(runner, workshop.feeds(kinds=("subpixel", "large", "outside")), precision)
    assert runner.provider == f"engine, fallback {made.fallback}"
    assert runner.version == load_library("trt").version


def test_an_engine_of_any_size_takes_those_of_its_profile(workshop, record_property):
    made = workshop.engine(export={"dynamic": True}, optimization_level=1, **FREE)
    feeds = {one["feed"].partition(",")[0] for one in made.manifest.details["fallbacks"][-1]["numbers"]}
    assert feeds == {"contextnet 32x32", "contextnet 64x96", "contextnet 2x96x128"}
    precision = artifact_from_engine(made.path).precision
    with TrtRunner(made.path) as runner:
        for batch, *size in ((2, 96, 128), (1, 32, 128), (2, 64, 64), (1, 96, 32), (2, 96, 128)):
            inside = workshop.feeds(size=tuple(size), batch=batch)
            workshop.assert_exact(runner, inside, precision)


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


def test_a_cuda_graph_gives_what_the_engine_gives(workshop, made, runner):
    first, second = workshop.feeds()
    expected = [runner.run(feed.inputs) for feed in (first, second)]
    assert not close(*expected)
    with TrtRunner(made.path, options=EngineRunOptions(cuda_graph=True)) as graphed:
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


# ------------------------------------------------------------------------------------------- plans


def test_what_only_looks_like_a_plan_is_an_error_and_no_crash(made, tmp_path):
    """In a process of its own, which TensorRT might take along."""
    path = tmp_path / "m.plan"
    noise = np.random.Generator(np.random.PCG64(0)).bytes(1 << 16)
    path.write_bytes(made.path.read_bytes()[:4] + noise)
    done = run_python("-c", LOAD, path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(rf"TensorRT could not load {re.escape(str(path))} with [\d.]+.*: \S", done.stdout), done.stdout
