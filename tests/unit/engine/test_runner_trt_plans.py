"""Plans are checked against their manifests before TensorRT sees them; those that are not say so; against the fake."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from refine_export.engine import engine_runner as runner_module
from refine_export.engine.engine_runner import TrtRunner
from refine_export.engine.identity import Machine
from refine_export.errors import GraphError, RequestError, UnavailableError
from refine_export.support.manifest import manifest_path
from tests.support.fake_tensorrt import make_fake
from tests.support.host_trt import built, feeds_of, middle, plan_fixture, saved, trt_fixture  # noqa: F401 (fixtures)


def no_loading(trt, monkeypatch):
    def never(*_):
        raise AssertionError("TensorRT saw the plan")

    monkeypatch.setattr(trt.Runtime, "deserialize_cuda_engine", never)


def test_the_manifest_is_checked_before_tensorrt_sees_the_plan(trt, plan, monkeypatch):
    no_loading(trt, monkeypatch)
    here = Machine(
        tensorrt="11.4.1", gpu="NVIDIA L4", compute_capability=(8, 9), cuda=12, system="Linux", architecture="x86_64"
    )
    monkeypatch.setattr(runner_module, "this_machine", lambda module: here)
    with pytest.raises(GraphError, match=rf"built for TensorRT {trt.__version__} on H200 \(9.0\).*, this is 11.4.1 on"):
        TrtRunner(plan)
    content = plan.read_bytes()
    for damaged, words in ((b"", "is empty"), (content[:-5], "truncated"), (b"PK" * 99, "no TensorRT plan")):
        plan.write_bytes(damaged)
        with pytest.raises(GraphError, match=words):
            TrtRunner(plan)
    plan.write_bytes(content)
    manifest_path(plan).unlink()
    with pytest.raises(GraphError, match="is missing"):
        TrtRunner(plan)


def test_an_unchecked_plan_is_said_to_be_one(trt, plan):
    manifest_path(plan).unlink()
    for source in (plan, plan.read_bytes()):
        with TrtRunner(source, unchecked=True) as runner:
            assert runner.provider == "engine, unchecked plan"
            assert np.array_equal(runner.run(feeds_of())["frame"], middle(feeds_of()))
    with pytest.raises(RequestError, match="bytes of a plan have no manifest"):
        TrtRunner(plan.read_bytes())
    with pytest.raises(GraphError, match="no TensorRT plan"):
        TrtRunner(b"nothing of the kind", unchecked=True)


def test_an_unchecked_plan_of_another_version_shows_tensorrts_words(trt, tmp_path):
    other = make_fake("10.13.0")
    with pytest.raises(UnavailableError, match="could not load the plan with .*got 10.13.0"):
        TrtRunner(built(other), unchecked=True)


def test_host_code_is_for_those_who_ask(trt, tmp_path, monkeypatch):
    content = built(trt, flags=("VERSION_COMPATIBLE",))
    path = saved(tmp_path / "m.plan", content, trt.__version__, version_compatible=True)
    with pytest.raises(
        RequestError, match="lean runtime, which is code that runs on this host; expected allow_host_code"
    ):
        TrtRunner(path)
    with pytest.raises(UnavailableError, match="engine_host_code_allowed is False"):
        TrtRunner(path, unchecked=True)
    with TrtRunner(path, allow_host_code=True) as runner:
        assert runner._runtime.engine_host_code_allowed is True
        assert np.array_equal(runner.run(feeds_of())["frame"], middle(feeds_of()))
    lean = built(trt, flags=("VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"))
    options: dict[str, Any] = {"version_compatible": True, "exclude_lean_runtime": True}
    with TrtRunner(saved(path, lean, trt.__version__, **options)) as runner:
        assert runner._runtime.engine_host_code_allowed is False


def test_a_plan_without_its_weights_is_refused(trt, tmp_path, monkeypatch):
    no_loading(trt, monkeypatch)
    path = saved(tmp_path / "m.plan", built(trt, flags=("STRIP_PLAN",)), trt.__version__, strip_weights=True)
    with pytest.raises(GraphError, match="was built without its weights; refit it first"):
        TrtRunner(path)
