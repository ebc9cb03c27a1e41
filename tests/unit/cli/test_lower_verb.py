"""`lower` prints reasons or JSON, and its exit code is the verdict."""

import json

import onnx
import pytest

from tests.support.foreign import plain_model
from tests.support.lower_files import here_fixture, saved, tiny  # noqa: F401 (a fixture)


@pytest.fixture
def lower(here, command):
    (here / "scene.toml").write_text('[frames]\nsample = "scene"\n')

    def call(model, *arguments):
        return command("lower", saved(model), "-o", "out.onnx", "--force", "--recipe", "scene.toml", *arguments)

    return call


def test_explain_and_json(lower):
    """--explain prints each node with its type and reason; --json prints JSON and nothing else."""
    code, out, err = lower(tiny(), "--explain", "--quiet")
    assert (code, err) == (0, "")
    code, printed, err = lower(tiny(), "--json")
    assert (code, err) == (0, "")
    result = json.loads(printed)
    assert result["reused"]
    lines = [f"{node['type']:<9} {node['operator']} {node['node']}: {node['reason']}" for node in result["nodes"]]
    assert out.splitlines()[: len(lines)] == lines


@pytest.mark.parametrize(("target", "code"), [("100", 0), ("399", 1)])
def test_a_search_decides_the_exit_code(lower, target, code):
    arguments = ("--size", "64x96", "--without-warp", "--target-psnr", target)
    found, out, _ = lower(plain_model(), *arguments)
    assert found == code
    assert "region" in out
    assert lower(plain_model(), *arguments)[0] == code  # reused


@pytest.mark.parametrize("arguments", [["--size", "100by200"], ["--precision", "int8"], ["--calibrate", "absent.npz"]])
def test_bad_requests(lower, arguments):
    code, out, err = lower(tiny(), *arguments)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("error: ")


def test_a_file_for_a_cpu_says_so_and_is_not_for_a_gpu(lower, here):
    code, out, _ = lower(tiny(), "--precision", "fp32", "--tune", "cpu")
    assert code == 0
    assert "nodes written in others for a CPU" in out
    code, out, _ = lower(onnx.load(here / "out.onnx"), "-o", "gpu.onnx")
    assert code == 0
    assert "tuned for a CPU" in out
    assert "tuned for a CPU" not in lower(tiny())[1]
