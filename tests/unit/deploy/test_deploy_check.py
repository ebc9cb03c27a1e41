"""Each rule of the pre-flight is seen to fail on one change to a good repository, which passes with no findings."""

from __future__ import annotations

import json
import os
import shutil
import sys
import urllib.request
from pathlib import Path

import pytest
from onnx import TensorProto as Type

from refine_export.artifacts import artifact_from_file
from refine_export.cli.main import main
from refine_export.deploy.preflight.preflight import check_repository
from refine_export.deploy.preflight.rules_text import RULES
from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.repository import deploy_triton
from refine_export.errors import RequestError, UnavailableError
from tests.support.deploy_mutations import MUTATIONS, NETWORK, PLAN, bias, fifo, new_plan, second_plan
from tests.support.deploy_repository import (
    PYTHON,
    add,
    at,
    edit,
    found,
    good_repository,
    lie,
    record,
    save_manifest,
    save_network,
    save_plan,
    step,
    tensors,
    warm_up,
    write,
)


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    return good_repository(tmp_path_factory)


@pytest.fixture
def repository(good, tmp_path):
    return Path(shutil.copytree(good, tmp_path / "models", symlinks=True))


def test_a_good_repository_has_no_findings(good):
    checked = check_repository(good, release="26.06")
    assert checked.findings == ()
    assert checked.passed
    assert checked.models == (
        *("contextnet", "echo", "interpolate", "interpolate_post", "interpolate_pre", "interpolator_m"),
    )


CASES = [(rule, number) for rule, cases in MUTATIONS.items() for number in range(len(cases))]


@pytest.mark.parametrize(("rule", "number"), CASES, ids=[f"{rule}-{number}" for rule, number in CASES])
def test_a_change_is_found(repository, rule, number):
    change, model = MUTATIONS[rule][number]
    change(repository)
    release = {"plan-release": "26.06", "plan-release-unknown": "26.04"}.get(rule)
    assert (rule, model) in found(repository, release=release)


def test_weights_in_a_file_of_their_own(repository):
    old = artifact_from_file(repository / NETWORK).sha256
    bias(repository / NETWORK)
    save_manifest(repository / NETWORK)
    edit("interpolator_m", old, artifact_from_file(repository / NETWORK).sha256)(repository)
    assert found(repository) == set()


def test_every_rule_is_seen_to_fail():
    assert set(RULES) - set(MUTATIONS) == {"no-models", "deployment"}, "these have tests of their own"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('value: "time" }', 'value: "img0" }', "'img0' is written more than once"),
        ('key: "img1" value: "img1" }', 'key: "img1" value: "img9" }', "'img1' is read, and nothing writes it"),
        ('key: "img1" value: "img1" }', 'key: "img1" value: "img9" }', "'img9' is written, and nothing reads it"),
        (
            'key: "timestep" value: "timestep"',
            'key: "timestep" value: "middle"',
            "step 'interpolate_pre' waits for its",
        ),
        (
            'key: "timestep" value: "time"',
            'key: "when" value: "time"',
            "interpolator_m has no input 'when'; it has img0, ",
        ),
        ('key: "timestep" value: "time"', 'key: "when" value: "time"', "'timestep' of interpolator_m is not mapped"),
        ('key: "picture"', 'key: "image"', "interpolate_post has no output 'image'; it has picture"),
    ],
)
def test_what_is_wrong_between_the_steps_is_named(repository, old, new, words):
    edit("interpolate", old, new)(repository)
    assert any(words in one.message for one in check_repository(repository).findings if one.model == "interpolate")


@pytest.mark.parametrize(
    ("options", "extra"),
    [
        ({}, []),
        ({"backend": "python"}, []),
        ({"device": "cpu", "max_batch": 4, "sizes": ("64x96",)}, []),
        ({"accelerator": "tensorrt"}, ["contextnet.plan"]),
        ({"ensemble": False}, ["half.onnx"]),
    ],
)
def test_what_deploy_triton_makes_has_no_findings(tmp_path, options, extra):
    save_network(tmp_path / "network.onnx")
    save_manifest(tmp_path / "network.onnx")
    save_network(tmp_path / "half.onnx", dtype=Type.FLOAT16)
    save_plan(tmp_path / "contextnet.plan")
    files = [name for name in ("network.onnx", *extra) if name != "network.onnx" or "half.onnx" not in extra]
    deploy_triton([tmp_path / name for name in files], tmp_path / "models", TritonOptions(**options))
    assert check_repository(tmp_path / "models", release="26.06").findings == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (at("README.md", write("other")), "README.md was changed"),
        (at("README.md", Path.unlink), "README.md: it is missing"),
        (at("README.md", fifo), "README.md: it is no regular file"),
        (at("deployment.json", write("{")), "it is no manifest"),
        (at("deployment.json", write("[" * 99999)), "it is no manifest"),
        (at("deployment.json", write('{"files": {"../outside": {}}}')), "../outside: it is outside of the repository"),
        (at("deployment.json", write('{"files": {"README.md": 1}}')), "README.md was changed"),
        (
            lambda root: new_plan(root, version="10.16.1.11") or record(root),
            "by TensorRT 11.0.0.114, it says; the plan",
        ),
        (lambda root: lie(root / "deployment.json", "models", [None, {"artifacts": [1, {"engine": {}}]}]), None),
    ],
)
def test_deployment_json_is_of_this_repository(repository, change, words):
    change(repository)
    messages = [one.message for one in check_repository(repository).findings if one.rule == "deployment"]
    assert any(words in message for message in messages) if words else not messages


def test_another_release_and_a_compatible_plan(repository):
    for version, options, rule in (
        ("11.0.0.114", {}, None),
        ("10.16.1.11", {}, "plan-release"),
        ("10.16.1.11", {"version_compatible": True}, None),
        ("11.1.0.106", {"version_compatible": True}, "plan-release"),
    ):
        new_plan(repository, version=version, **options)
        rules = {name for name, _ in found(repository, release="26.06")}
        assert rules == ({rule} if rule else set()), (version, options)


def test_a_plan_for_each_kind_of_gpu(repository):
    (repository / PLAN).rename(repository / "contextnet/1/h200.plan")
    (repository / f"{PLAN}.json").rename(repository / "contextnet/1/h200.plan.json")
    add("contextnet", 'cc_model_filenames { key: "9.0" value: "h200.plan" }')(repository)
    assert found(repository) == set()
    second_plan(repository, "8.9", (8, 0), hardware_compatibility="ampere_plus")
    assert found(repository) == set(), "one that runs from 8.0 on"


def test_no_repository(tmp_path, good):
    with pytest.raises(RequestError, match="is no folder; expected a model repository"):
        check_repository(tmp_path / "nothing")
    with pytest.raises(RequestError, match=r"Triton 19.01 is not known here; expected one of 25.01, "):
        check_repository(good, release="19.01")
    assert found(tmp_path) == {("no-models", "")}


def test_without_tritonclient_the_extra_is_named(good, monkeypatch):
    monkeypatch.setitem(sys.modules, "tritonclient.grpc.model_config_pb2", None)
    with pytest.raises(UnavailableError, match=r"pip install 'refine-export\[triton\]'"):
        check_repository(good)


def test_a_folder_that_can_not_be_listed(repository, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "1" and Path(path).parent.name == "echo":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    [one] = check_repository(repository).findings
    assert (one.rule, one.model, one.where) == ("unreadable", "echo", "1")
    assert one.message == "can't list it: Permission denied"


def test_a_file_that_the_lint_can_not_take(repository, monkeypatch):
    monkeypatch.setattr("refine_export.graph.linter.lint_file", lambda path: {}["no such value"])
    assert found(repository) == {("onnx-file", "interpolator_m")}


def test_a_folder_of_hidden_files_is_a_model_to_triton(repository):
    (repository / ".git").mkdir()
    assert found(repository) == {("config-missing", ".git")}


def test_a_folder_that_is_a_link_out_is_not_read(repository, tmp_path):
    (tmp_path / "elsewhere" / "1").mkdir(parents=True)
    (tmp_path / "elsewhere" / "config.pbtxt").write_text("not read")
    (repository / "linked").symlink_to(tmp_path / "elsewhere")
    assert {rule for rule, _ in found(repository)} == {"symlink"}


def test_a_python_model_with_an_environment_of_its_own(repository):
    at("echo/1/model.py", write(PYTHON.replace("np.__version__", '"1"')))(repository)
    add("echo", 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "env.tar.gz" } }')(repository)
    assert found(repository) == set()


def test_a_config_of_many_steps_is_read_in_a_moment(repository):
    links = ((f"t{number + 1}", f"t{number}") for number in reversed(range(1000)))
    steps = "".join(step("echo", {"x": read}, {"x": written}) for written, read in links)
    text = f'platform: "ensemble"\n{tensors("input", ("t0", "FP32", 4))}\n{tensors("output", ("t1000", "FP32", 4))}'
    at("interpolate/config.pbtxt", write(f"{text}\nensemble_scheduling {{ {steps} }}"))(repository)
    assert found(repository) == set()


def run(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["deploy", "check", *map(str, arguments)])
    return caught.value.code, *capsys.readouterr()


def test_the_command_line(repository, capsys):
    code, said, _ = run([repository, "--triton-release", "26.06"], capsys)
    assert (code, said.count("nothing found")) == (0, 7)
    add("interpolator_m", "response_cache { enable: true }")
    edit("interpolator_m", "enable: false", "enable: true")(repository)
    record(repository)
    assert run([repository], capsys)[0] == 0, "a warning"
    edit("contextnet", "max_batch_size: 4", "max_batch_size: 5")(repository)
    record(repository)
    code, said, _ = run([repository], capsys)
    assert code == 1
    assert (
        "config.pbtxt: max_batch_size: max_batch_size is 5; 1/model.plan: profile 0 takes batches from 1 to 4" in said
    )
    assert "(plan-profile)" in said
    code, said, _ = run([repository, "--json"], capsys)
    checked = json.loads(said)
    assert (code, checked["passed"], len(checked["models"])) == (1, False, 6)
    assert {(one["rule"], one["model"], one["severity"]) for one in checked["findings"]} == {
        ("response-cache", "interpolator_m", "warning"),
        ("plan-profile", "contextnet", "error"),
    }
    assert run([repository / "nothing"], capsys)[0] == 2


def test_names_can_not_steer_the_terminal(repository, capsys):
    name = "a\x1b[2J\n[red]b"
    (repository / name).mkdir()
    add("echo", 'metric_tags { key: "\\033[2J" value: "" } no_such_field: "\x1b[2J"')(repository)
    code, said, _ = run([repository], capsys)
    assert code == 1
    assert "\x1b[2J" not in said
    assert "\\x1b[2J" in said


TRAPS = {
    "good": None,
    "batching of nothing": ("dynamic_batching { }", "dynamic-batching", None),
    "no warm-up": (warm_up(("x", 4)).replace("batch_size: 1", ""), "warmup-batch", None),
    "a version that is not there": ("version_policy { specific { versions: [1, 2] } }", "version-missing", None),
    "warm-up of any size": (warm_up(("x", -1)), "warmup-tensor", "all variable-size dimensions are specified"),
    "profiles without a plan": ('instance_group { kind: KIND_CPU profile: ["0"] }', "instance-group", "only supported"),
    "no schema": ("no_such_field: 1", "config-parse", "failed to poll"),
}


@pytest.mark.triton
def test_what_the_real_server_says(good, tmp_path, triton_server):
    """It refuses what it can see at once, and takes silently what makes requests slow or wrong."""
    from triton_setup import CannotServeError

    root = tmp_path / "models"
    names = {trap: trap.replace(" ", "_") for trap in TRAPS}
    for trap, name in names.items():
        shutil.copytree(good / "echo", root / name)
        if TRAPS[trap]:
            add(name, TRAPS[trap][0])(root)
        if "instance_group" not in (root / name / "config.pbtxt").read_text():
            add(name, "instance_group { kind: KIND_CPU }")(root)
    expected = {(case[1], names[trap]) for trap, case in TRAPS.items() if case}
    assert found(root) == expected
    server = triton_server(root, ["good"])
    for path in ("v2/health/ready", "v2/health/live", "v2/models/good/ready"):  # what the probes of KServe ask
        with urllib.request.urlopen(f"http://{server.http_url}/{path}", timeout=5) as answer:
            assert answer.status == 200
    for trap, name in names.items():
        refusal = TRAPS[trap][2] if TRAPS[trap] else None
        if refusal is None:
            server.load(name, timeout_s=10)
        else:
            with pytest.raises(CannotServeError, match=refusal):
                server.load(name, timeout_s=10)


@pytest.mark.triton
def test_the_real_server_takes_hidden_folders_for_models(tmp_path, triton_server):
    from triton_setup import CannotServeError

    (tmp_path / "models" / ".git").mkdir(parents=True)
    with pytest.raises(CannotServeError, match="failed to load all models"):
        triton_server(tmp_path / "models", ["*"])
