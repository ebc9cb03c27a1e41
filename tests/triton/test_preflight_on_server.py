"""A real server behaves as the pre-flight's rules assume."""

from __future__ import annotations

import shutil
import urllib.request
from contextlib import suppress

import pytest
from triton_setup import CannotServeError

from tests.support.model_repositories import PYTHON, at, found, good_repository, keep_only, merge, write

pytestmark = pytest.mark.triton

WARM_UP = 'model_warmup {{ {} inputs {{ key: "x" value {{ data_type: TYPE_FP32 dims: {} zero_data: true }} }} }}'
ENSEMBLE = """
platform: "ensemble"
input { name: "x" data_type: TYPE_FP32 dims: [4] }
output { name: "y" data_type: TYPE_FP32 dims: [4] }
ensemble_scheduling { step { model_name: "good" model_version: -1
    input_map { key: "x" value: "x" }
    output_map { key: "x" value: "y" }
} }
"""
STEP = 'ensemble_scheduling {{ step {{ model_name: "good" model_version: -1 {} }} }}'
MAPS = 'input_map {{ key: "x" value: "{}" }} output_map {{ key: "x" value: "{}" }}'
SILENT = {
    "good": ("", set()),
    "batching_of_nothing": ("dynamic_batching { }", {"dynamic-batching"}),
    "no_warm_up": (WARM_UP.format("", [4]), {"warmup-batch"}),
    "another_platform": ('platform: "caffe2_netdef"', {"backend"}),
    "absent_version": ("version_policy { specific { versions: [1, 2] } }", {"version-missing"}),
}
"""Field -> rule that finds it; the server accepts it."""
REFUSED = {
    "warm_up_of_any_size": (WARM_UP.format("batch_size: 1", [-1]), "all variable-size dimensions are specified"),
    "warm_up_of_another_input": (WARM_UP.format("batch_size: 1", [4]).replace('"x"', '"z"'), "missing required input"),
    "warm_up_without_data": (WARM_UP.format("batch_size: 1", [4]).replace("zero_data: true", ""), "UNAVAILABLE"),
    "warm_up_without_file": (
        WARM_UP.format("batch_size: 1", [4]).replace("zero_data: true", 'input_data_file: "absent"'),
        "UNAVAILABLE",
    ),
    "profiles_without_a_plan": ('instance_group { kind: KIND_CPU profile: ["0"] }', "only supported for TensorRT"),
    "gpu_on_cpu": ("instance_group { kind: KIND_CPU gpus: [0] }", "has kind KIND_CPU but specifies one or more GPUs"),
    "preferred_above_max": ("max_batch_size: 4 dynamic_batching { preferred_batch_size: [16] }", "failed to poll"),
    "no_type": ('input { name: "z" dims: [4] }', "failed to poll"),
    "zero_dims": ('input { name: "z" data_type: TYPE_FP32 dims: [0] }', "failed to poll"),
    "reshape": ('input { name: "z" data_type: TYPE_FP32 dims: [4] reshape { shape: [3] } }', "failed to poll"),
    "below_0": ("max_batch_size: -1", "failed to poll"),
    "another_name": ('name: "other"', "failed to poll"),
    "no_schema": ("no_such_field: 1", "failed to poll"),
}
"""Field -> message of the server, which is why there is no rule for most of these."""


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    return keep_only(good_repository(tmp_path_factory.mktemp("good")), "echo") / "echo"


def test_fields_that_the_server_accepts_or_refuses(echo, tmp_path, triton_server):
    root = tmp_path / "models"
    for name, (field, _) in (SILENT | REFUSED).items():
        shutil.copytree(echo, root / name)
        config = root / name / "config.pbtxt"
        kind = "" if "instance_group" in field else "instance_group { kind: KIND_CPU }"
        config.write_text(f"{config.read_text()}{field}\n{kind}\n")
    findings = found(root)
    for name, (_, rules) in SILENT.items():
        assert {rule for rule, model in findings if model == name} == rules
    server = triton_server(root, ["good"])
    for path in ("v2/health/ready", "v2/health/live", "v2/models/good/ready"):  # the probes of KServe
        with urllib.request.urlopen(f"http://{server.http_url}/{path}", timeout=5) as answer:
            assert answer.status == 200
    for name in SILENT:
        server.load(name, timeout_s=10)
    for name, (_, message) in REFUSED.items():
        with pytest.raises(CannotServeError, match=message):
            server.load(name, timeout_s=10)
    server.kill()


def changed(old, new):
    assert old in ENSEMBLE
    return ENSEMBLE.replace(old, new)


ENSEMBLES = {
    "not_mapped": changed('input_map { key: "x" value: "x" }', ""),
    "unknown_input": changed('key: "x" value: "x"', 'key: "z" value: "x"'),
    "nothing_writes": changed('key: "x" value: "x"', 'key: "x" value: "z"'),
    "written_twice": ENSEMBLE + STEP.format(MAPS.format("x", "y")),
    "nothing_reads": ENSEMBLE + STEP.format(MAPS.format("x", "z")),
    "cycle": changed('key: "x" value: "x"', 'key: "x" value: "b"') + STEP.format(MAPS.format("y", "b")),
    "absent_model": changed('"good"', '"absent"'),
    "absent_version": changed("model_version: -1", "model_version: 2"),
    "itself": changed('"good"', '"itself"'),
    "another_type": ENSEMBLE.replace("FP32", "INT8"),
    "another_size": ENSEMBLE.replace("[4]", "[5]"),
    "no_steps": ENSEMBLE.partition("ensemble_scheduling")[0],
    "instances": ENSEMBLE + "instance_group { count: 1 }",
    "warm_up": ENSEMBLE + WARM_UP.format("batch_size: 1", [4]),
    "larger_batch": changed('"good"', '"batched"') + "max_batch_size: 9",
}


def test_ensembles_that_the_server_refuses(echo, tmp_path, triton_server):
    """Flows, models and fields: there is no rule for these."""
    root = tmp_path / "models"
    shutil.copytree(echo, root / "good")
    merge("good", "instance_group { kind: KIND_CPU }")(root)
    shutil.copytree(root / "good", root / "batched")
    merge("batched", "max_batch_size: 8")(root)
    for name, config in {"fine": ENSEMBLE, **ENSEMBLES}.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(config)
    server = triton_server(root, ["fine"])
    accepted = []
    for name in ENSEMBLES:
        with suppress(CannotServeError):
            server.load(name, timeout_s=10)
            accepted.append(name)
    assert accepted == []
    server.kill()


def test_a_model_without_execute_loads(echo, tmp_path, triton_server):
    root = tmp_path / "models"
    shutil.copytree(echo, root / "echo")
    merge("echo", "instance_group { kind: KIND_CPU }")(root)
    at(PYTHON, write("class TritonPythonModel:\n    pass\n"))(root)
    assert ("python-model", "echo") in found(root)
    triton_server(root, ["echo"]).kill()


def test_the_server_takes_hidden_folders_for_models(tmp_path, triton_server):
    (tmp_path / "models" / ".git").mkdir(parents=True)
    with pytest.raises(CannotServeError, match="failed to load all models"):
        triton_server(tmp_path / "models", ["*"])
