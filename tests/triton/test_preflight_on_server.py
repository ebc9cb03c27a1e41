"""A real server behaves as the pre-flight's rules assume."""

import shutil
import urllib.request

import pytest
from triton_setup import CannotServeError

from tests.support.model_repositories import PYTHON, at, found, good_repository, keep_only, merge, write

WARM_UP = 'model_warmup { inputs { key: "x" value { data_type: TYPE_FP32 dims: [4] zero_data: true } } }'
SILENT = {
    "good": ("", set()),
    "batching_of_nothing": ("dynamic_batching { }", {"dynamic-batching"}),
    "no_warm_up": (WARM_UP, {"warmup-batch"}),
    "another_platform": ('platform: "caffe2_netdef"', {"backend"}),
    "absent_version": ("version_policy { specific { versions: [1, 2] } }", {"version-missing"}),
}
"""Field -> rule that finds it; the server accepts it."""


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    return keep_only(good_repository(tmp_path_factory.mktemp("good")), "echo") / "echo"


def test_fields_that_the_server_accepts_in_silence(echo, tmp_path, triton_server):
    root = tmp_path / "models"
    for name, (field, _) in SILENT.items():
        shutil.copytree(echo, root / name)
        config = root / name / "config.pbtxt"
        config.write_text(f"{config.read_text()}{field}\ninstance_group {{ kind: KIND_CPU }}\n")
    findings = found(root)
    for name, (_, rules) in SILENT.items():
        assert {rule for rule, model in findings if model == name} == rules
    server = triton_server(root, ["good"])
    for path in ("v2/health/ready", "v2/health/live", "v2/models/good/ready"):  # the probes of KServe
        with urllib.request.urlopen(f"http://{server.http_url}/{path}", timeout=60) as answer:
            assert answer.status == 200
    for name in SILENT:
        server.load(name)
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
