"""Each rule of the pre-flight fails on changes to a good repository, which has no findings."""

import json
import os
import shutil
import sys
from pathlib import Path

import onnx
import pytest

from refine_export.artifacts import artifact_from_file
from refine_export.deploy.preflight.findings import RULES
from refine_export.deploy.preflight.preflight import check_repository
from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.repository import deploy_triton
from refine_export.errors import RequestError, UnavailableError
from tests.support.deploy_files import with_external_data, write_average, write_declared, write_plan
from tests.support.model_repositories import (
    MODEL_PY,
    NETWORK,
    PLAN,
    PLAN_PROFILE,
    PYTHON,
    at,
    edit,
    fifo,
    found,
    good_repository,
    merge,
    new_plan,
    replace,
    save_manifest,
    second_plan,
    set_json,
    write,
)
from tests.support.refusals import refused


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return good_repository(tmp_path_factory.mktemp("good"))


@pytest.fixture
def repository(good, tmp_path):
    return Path(shutil.copytree(good, tmp_path / "models"))


def lose_weights(root):
    with_external_data(root / NETWORK).with_name("weights.bin").unlink()


def nearest_sampler(path):
    """Add a GridSample with the mode of opset 20, which TensorRT reads as nearest."""
    model = onnx.load(path)
    model.opset_import[0].version = 20
    model.graph.node.append(onnx.helper.make_node("Transpose", ["img1"], ["grid"], perm=[0, 2, 3, 1]))
    sampler = onnx.helper.make_node("GridSample", ["img0", "grid"], ["more"], mode="linear", padding_mode="border")
    model.graph.node.append(sampler)
    onnx.save(model, path)


def replace_text(old, new):
    return lambda path: path.write_text(path.read_text().replace(old, new))


def parameter(name, value):
    return replace("interpolator", "string_value", value, "parameters", f"refine_export.{name}")


WARM_UP = (
    'model_warmup {{ batch_size: {} inputs {{ key: "x" value {{ data_type: TYPE_{} dims: {} zero_data: true }} }} }}'
)
CHANGES = {
    "unreadable": [
        ("echo", at(PYTHON, fifo)),
        ("echo", at(PYTHON, write(b"\xff"))),
        ("echo", at("echo/config.pbtxt", lambda path: os.truncate(path, 2**40))),
    ],
    "symlink": [("echo", lambda root: (root / "echo" / "more").symlink_to("/etc"))],
    "config-missing": [("echo", at("echo/config.pbtxt", Path.unlink))],
    "config-parse": [
        ("echo", at("echo/config.pbtxt", write("no_such_field: 1"))),
    ],
    "version-name": [
        ("echo", at("echo/02", Path.mkdir)),
    ],
    "version-missing": [
        ("echo", at("echo/1", shutil.rmtree)),
        ("echo", merge("echo", "version_policy { specific { versions: [1, 2] } }")),
        ("echo", merge("echo", "version_policy { latest { num_versions: 0 } }")),
    ],
    "version-empty": [("interpolate", at("interpolate/1/README.txt", Path.unlink))],
    "backend": [
        ("echo", replace("echo", "platform", "caffe2_netdef")),
        ("contextnet", replace("contextnet", "backend", "onnxruntime")),
        ("interpolate", replace("interpolate", "backend", "python")),
    ],
    "backend-unknown": [
        ("echo", replace("echo", "backend", "dali")),
    ],
    "model-file": [
        ("contextnet", at(PLAN, Path.unlink)),
        ("interpolator", at(NETWORK, lambda path: os.truncate(path, 2**40))),
        ("interpolate_pre", replace("interpolate_pre", "default_model_filename", "../../../secret.onnx")),
        ("interpolate_pre", replace("interpolate_pre", "default_model_filename", "a\0b")),
        ("contextnet", edit("contextnet", lambda config: config.cc_model_filenames.update({"8.9": "other.plan"}))),
    ],
    "python-without-model": [("echo", at(PYTHON, Path.unlink))],
    "python-model": [
        ("echo", at(PYTHON, write("import\n"))),
        ("echo", at(PYTHON, write("import numpy as np\n"))),
        ("echo", at(PYTHON, write(MODEL_PY.replace("def execute", "def run")))),
    ],
    "python-returns-nothing": [
        ("echo", at(PYTHON, write(MODEL_PY.replace("return [", "answers = [")))),
        ("echo", at(PYTHON, write(MODEL_PY[: MODEL_PY.index("return")] + "return None\n"))),
    ],
    "python-numpy": [("echo", at(PYTHON, write(MODEL_PY.replace("np.__version__", '"1"'))))],
    "tensors": [("contextnet", replace("contextnet", "name", "image", "input", 1))],
    "dynamic-batching": [("echo", merge("echo", "dynamic_batching { }"))],
    "instance-group": [("echo", merge("echo", "instance_group { count: -3 }"))],
    "response-cache": [("interpolator", replace("interpolator", "enable", True, "response_cache"))],
    "not-served": [
        ("echo", merge("echo", "sequence_batching { }")),
        ("echo", merge("echo", "model_transaction_policy { decoupled: true }")),
    ],
    "accelerator-fp16": [
        ("interpolator", at("interpolator/config.pbtxt", replace_text('"FP32"', '"FP16"'))),
    ],
    "warmup-batch": [
        ("interpolator", replace("interpolator", "batch_size", None, "model_warmup", 0)),
        ("interpolator", replace("interpolator", "batch_size", 9, "model_warmup", 0)),
        ("echo", merge("echo", WARM_UP.format(3, "FP32", [4]))),
    ],
    "warmup-tensor": [
        ("echo", merge("echo", WARM_UP.format(1, "FP32", [-1]))),
        ("echo", merge("echo", WARM_UP.format(1, "FP32", [5]))),
        ("echo", merge("echo", WARM_UP.format(1, "INT32", [4]))),
    ],
    "onnx-file": [
        ("interpolator", at(NETWORK, write(b""))),
        ("interpolator", lose_weights),
    ],
    "gridsample-nearest": [("interpolator", at(NETWORK, nearest_sampler))],
    "plan-file": [
        ("contextnet", at(PLAN, write(b"not a plan at all, but long enough for a header"))),
    ],
    "plan-manifest": [
        ("contextnet", at(PLAN, lambda path: path.write_bytes(path.read_bytes() + b"more"))),
    ],
    "plan-unknown": [("contextnet", at(f"{PLAN}.json", Path.unlink))],
    "plan-release": [("contextnet", lambda root: new_plan(root, tensorrt="10.9.0.34"))],
    "plan-release-unknown": [("contextnet", lambda root: new_plan(root, tensorrt="11.1.0.106"))],
    "plan-gpu": [
        ("contextnet", lambda root: second_plan(root, "8.9", (8, 0))),
        ("contextnet", lambda root: second_plan(root, "ada", (8, 9))),
    ],
    "plan-profile": [
        ("contextnet", replace("contextnet", "max_batch_size", 5)),
        ("contextnet", replace("contextnet", "profile", ["1"], "instance_group", 0)),
        ("contextnet", replace("contextnet", "dims", [3, 1024, -1], "input", 0)),
        ("contextnet", replace("contextnet", "dims", [3, 64, 544], "model_warmup", 0, "inputs", "image")),
    ],
    "manifest": [
        ("interpolator", at(f"{NETWORK}.json", set_json("sha256", "0" * 64))),
        ("interpolator", at(f"{NETWORK}.json", write("{"))),
    ],
    "parameters": [
        (
            "interpolate_pre",
            merge("interpolate_pre", 'parameters { key: "refine_export.graph" value { string_value: "unet" } }'),
        ),
        ("interpolator", parameter("checkpoint_sha256", "d" * 64)),
        ("interpolator", parameter("precision", "fp16")),
        (
            "contextnet",
            at(PLAN, lambda path: write_plan(path, path.parents[3] / "c.onnx", PLAN_PROFILE, capability=(8, 9))),
        ),
    ],
    "ensemble-type": [
        ("interpolate", replace("interpolate", "data_type", 6, "input", 0)),
        ("interpolate", replace("interpolate", "dims", [-1, -1, 4], "input", 0)),
        ("interpolate", replace("interpolator", "max_batch_size", 0)),
    ],
}
CASES = [(rule, number) for rule, changes in CHANGES.items() for number in range(len(changes))]


def test_a_good_repository_has_no_findings(good):
    checked = check_repository(good, release="26.06")
    assert checked.findings == ()
    assert checked.passed
    assert set(checked.models) == {
        *("contextnet", "echo", "interpolate", "interpolate_post", "interpolate_pre", "interpolator"),
    }


@pytest.mark.parametrize(("rule", "number"), CASES, ids=[f"{rule}-{number}" for rule, number in CASES])
def test_a_change_is_found(repository, rule, number):
    model, change = CHANGES[rule][number]
    write_declared(repository.parent / "c.onnx", "contextnet")
    change(repository)
    release = {"plan-release": "26.06", "plan-release-unknown": "26.04"}.get(rule)
    assert (rule, model) in found(repository, release=release)


def test_every_rule_is_seen_to_fail():
    assert set(RULES) - set(CHANGES) == {"no-models", "deployment"}, "these have tests of their own"


@pytest.mark.parametrize(
    ("options", "with_plan"),
    [
        ({}, True),
        ({"backend": "python", "ensemble": False}, False),
        ({"device": "cpu", "max_batch": 4, "sizes": ("64x96",)}, False),
    ],
)
def test_what_deploy_triton_writes_has_no_findings(tmp_path, options, with_plan):
    paths = [write_average(tmp_path / "half.onnx", dtype="float16")]
    if with_plan:
        profile = ((1, 64, 96), (4, 256, 448), (8, 1088, 1920))
        paths.append(write_plan(tmp_path / "c.plan", write_declared(tmp_path / "c.onnx", "contextnet"), profile))
    deploy_triton(paths, tmp_path / "models", TritonOptions(**options))
    assert check_repository(tmp_path / "models", release="26.06").findings == ()


@pytest.mark.parametrize(
    "change",
    [
        at("README.md", write("other")),
        at("README.md", Path.unlink),
        at("deployment.json", write("{")),
    ],
)
def test_deployment_json_is_of_this_repository(repository, change):
    assert "deployment" not in {one.rule for one in check_repository(repository).findings}
    change(repository)
    assert "deployment" in {one.rule for one in check_repository(repository).findings}


@pytest.mark.parametrize(
    ("tensorrt", "options", "rules"),
    [
        ("11.0.0.114", {}, set()),
        ("10.16.1.11", {}, {"plan-release"}),
        ("10.16.1.11", {"version_compatible": True}, set()),
        ("11.1.0.106", {"version_compatible": True}, {"plan-release"}),
    ],
)
def test_another_release_and_a_compatible_plan(repository, tensorrt, options, rules):
    new_plan(repository, tensorrt=tensorrt, **options)
    assert {name for name, _ in found(repository, release="26.06")} == rules


def test_a_plan_for_each_kind_of_gpu(repository):
    (repository / PLAN).rename(repository / "contextnet/1/h200.plan")
    (repository / f"{PLAN}.json").rename(repository / "contextnet/1/h200.plan.json")
    edit("contextnet", lambda config: config.cc_model_filenames.update({"9.0": "h200.plan"}))(repository)
    assert found(repository) == set()
    second_plan(repository, "8.9", (8, 0), hardware_compatibility="ampere_plus")
    assert found(repository) == set(), "one that runs from 8.0 on"


def test_weights_in_a_file_of_their_own(repository):
    with_external_data(repository / NETWORK)
    save_manifest(repository / NETWORK)
    parameter("artifact_sha256", artifact_from_file(repository / NETWORK).sha256)(repository)
    assert found(repository) == set()


def test_not_a_repository(tmp_path, good):
    for root, release, code in ((tmp_path / "nothing", None, "not-a-repository"), (good, "19.01", "unknown-release")):
        with refused(code, RequestError):
            check_repository(root, release=release)
    assert found(tmp_path) == {("no-models", "")}


def test_without_tritonclient_its_package_is_named(good, monkeypatch):
    monkeypatch.setitem(sys.modules, "tritonclient.grpc.model_config_pb2", None)
    with refused("missing-package", UnavailableError, extra="triton"):
        check_repository(good)


def test_folders_that_triton_takes_for_models_and_that_are_not_read(repository, tmp_path):
    (repository / ".git").mkdir()
    (tmp_path / "elsewhere" / "1").mkdir(parents=True)
    (tmp_path / "elsewhere" / "config.pbtxt").write_text("not read")
    (repository / "linked").symlink_to(tmp_path / "elsewhere")
    assert found(repository) == {("config-missing", ".git"), ("symlink", "linked")}


def test_a_python_model_with_an_environment_of_its_own(repository):
    at(PYTHON, write(MODEL_PY.replace("np.__version__", '"1"')))(repository)
    merge("echo", 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "env.tar.gz" } }')(repository)
    assert found(repository) == set()


def test_a_backend_is_recognised_by_the_model_file(repository):
    """As Triton completes a config that has neither backend nor platform."""
    replace("echo", "backend", None)(repository)
    replace("interpolator", "platform", None)(repository)
    assert found(repository) == set()


def test_the_command_line(repository, command):
    assert command("deploy", "check", repository, "--triton-release", "26.06")[0] == 0
    replace("interpolator", "enable", True, "response_cache")(repository)
    (repository / "deployment.json").unlink()
    assert command("deploy", "check", repository)[0] == 0, "a warning"
    replace("contextnet", "max_batch_size", 5)(repository)
    code, out, _ = command("deploy", "check", repository)
    assert code == 1
    assert "plan-profile" in out
    assert {"contextnet: 1 error, 0 warnings", "interpolator: 0 errors, 1 warning"} <= {
        line.rpartition("/")[2] for line in out.splitlines()
    }
    code, out, _ = command("deploy", "check", repository, "--json")
    checked = json.loads(out)
    assert (code, checked["passed"], len(checked["models"])) == (1, False, 6)
    assert {(one["rule"], one["model"], one["severity"]) for one in checked["findings"]} == {
        ("response-cache", "interpolator", "warning"),
        ("plan-profile", "contextnet", "error"),
    }
    assert command("deploy", "check", repository / "nothing")[0] == 2


def test_names_cannot_steer_the_terminal(repository, command):
    (repository / "a\x1b[2J\n[red]b").mkdir()
    at("echo/config.pbtxt", write('no_such_field: "\x1b[2J"'))(repository)
    code, out, _ = command("deploy", "check", repository)
    assert code == 1
    assert "\x1b[2J" not in out
    assert "\\x1b[2J" in out
