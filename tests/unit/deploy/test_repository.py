"""A repository is complete or absent, holds what its record lists, and replaces only one of this tool."""

import json
import os

import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from refine_export.artifacts import artifact_from_file
from refine_export.deploy.triton import repository
from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.repository import PYTHON_MODEL, deploy_triton
from refine_export.engine.engine_manifest import artifact_from_engine
from refine_export.errors import RequestError
from refine_export.support.manifest import manifest_path, sha256_of_file
from tests.support.deploy_files import CHECKPOINT, with_external_data, write_average, write_declared, write_plan
from tests.support.model_repositories import save_manifest
from tests.support.refusals import refused


@pytest.fixture
def source(tmp_path):
    return write_average(tmp_path / "in" / "m.onnx")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out" / "models"


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def deployed(paths, output, force=False, **options):
    return deploy_triton(paths, output, TritonOptions(**options), force=force)


def test_content(source, output):
    save_manifest(source)
    result = deployed([source], output)
    files = contents(output)
    ensemble = [f"{model}/{file}" for model in ("interpolate_post", "interpolate_pre") for file in ("1/model.onnx",)]
    models = ("interpolator", "interpolate", "interpolate_pre", "interpolate_post")
    assert set(files) == {
        *("README.md", "deployment.json", "interpolate/1/README.txt", *ensemble),
        *("interpolator/1/model.onnx", "interpolator/1/model.onnx.json"),
        *(f"{model}/config.pbtxt" for model in models),
    }
    assert files["interpolator/1/model.onnx"] == source.read_bytes()
    assert files["interpolator/1/model.onnx.json"] == manifest_path(source).read_bytes()
    record = json.loads(files["deployment.json"])
    assert record == result.deployment
    assert result.to_dict() == {"path": str(output), "notes": [], **record}
    assert (record["schema"], record["ensemble_over"]) == (1, "interpolator")
    assert record["files"] == {
        name: {"sha256": sha256_of_file(output / name), "size_bytes": len(content)}
        for name, content in files.items()
        if name != "deployment.json"
    }
    [network, *others] = record["models"]
    assert (network["name"], network["backend"], network["versions"]) == ("interpolator", "onnxruntime", [1])
    [artifact] = network["artifacts"]
    assert artifact["sha256"] == artifact_from_file(source).sha256
    assert artifact["checkpoint_sha256"] == CHECKPOINT
    assert [one["name"] for one in others] == ["interpolate_pre", "interpolate_post", "interpolate"]


def test_the_same_input_gives_the_same_bytes(source, output):
    deployed([source], output)
    before = contents(output)
    deployed([source], output, force=True)
    assert contents(output) == before


def test_versions_in_the_order_given(source, output):
    second = write_average(source.with_name("second.onnx"), gain=0.5)
    result = deployed([second, source], output, version_policy="2")
    assert (output / "interpolator/1/model.onnx").read_bytes() == second.read_bytes()
    assert (output / "interpolator/2/model.onnx").read_bytes() == source.read_bytes()
    assert result.deployment["models"][0]["versions"] == [1, 2]
    assert artifact_from_file(source).sha256 in (output / "interpolator/config.pbtxt").read_text()


def test_graphs_become_models(source, output):
    context = write_declared(source.with_name("c.onnx"), "contextnet")
    result = deployed([source, context], output)
    names = ["contextnet", "interpolator", "interpolate_pre", "interpolate_post", "interpolate"]
    assert [model["name"] for model in result.deployment["models"]] == names
    assert {path.name for path in output.iterdir() if path.is_dir()} == set(names)


def test_no_ensemble(source, output):
    deployed([source], output, ensemble=False)
    assert [path.name for path in output.iterdir() if path.is_dir()] == ["interpolator"]
    pairs = write_average(source.with_name("pairs.onnx"), batch=2)
    assert len(deployed([pairs], output, force=True).notes) == 1
    assert not (output / "interpolate").exists()


def test_python_models_bring_their_code(source, output):
    deployed([source], output, backend="python")
    for model in ("interpolator", "interpolate_pre", "interpolate_post"):
        assert (output / model / "1" / "model.py").read_bytes() == PYTHON_MODEL.read_bytes()
        assert (output / model / "1" / "model.onnx").is_file()
        assert 'backend: "python"' in (output / model / "config.pbtxt").read_text()


def test_external_data_comes_along(source, output):
    (source.parent / "sub").mkdir()
    with_external_data(source, "sub/w.bin")
    deployed([source], output)
    copy = output / "interpolator" / "1" / "model.onnx"
    assert (copy.parent / "sub" / "w.bin").is_file()
    assert artifact_from_file(copy).sha256 == artifact_from_file(source).sha256
    onnx.load(copy)
    with_external_data(write_average(source), "model.py")
    with refused("reserved-name", RequestError):
        deployed([source], output, force=True)


def test_a_plan_is_copied_with_its_manifest(source, output):
    plan = write_plan(source.with_name("m.plan"), source)
    result = deployed([plan], output)
    copy = output / "interpolator" / "1" / "model.plan"
    assert artifact_from_engine(copy).sha256 == artifact_from_engine(plan).sha256
    [artifact] = result.deployment["models"][0]["artifacts"]
    assert artifact["engine"]["tensorrt"] == "11.0.0.114"
    assert artifact["profile"] == [[1, 64, 96], [4, 256, 448], [8, 1088, 1920]]


@pytest.mark.parametrize(
    ("plan", "present", "absent"),
    [
        (
            {"version_compatible": True},
            ["tritonserver:26.06-py3", "--triton-release 26.06", "--backend-config=tensorrt,version-compatible=true"],
            ["YY.MM-py3"],
        ),
        ({"tensorrt": "11.9.0.1"}, ["tritonserver:YY.MM-py3"], ["--triton-release", "version-compatible=true"]),
    ],
)
def test_the_readme_has_the_release_of_a_plan(source, output, plan, present, absent):
    deployed([write_plan(source.with_name("m.plan"), source, **plan)], output)
    commands = (output / "README.md").read_text().split("## Send requests")[0]
    assert [text for text in present if text not in commands] == []
    assert [text for text in absent if text in commands.partition("```sh")[2]] == []


@pytest.mark.parametrize(
    ("options", "present", "absent"),
    [
        ({}, ["--gpus all ", 'tensor("timestep"', "26.08-py3"], ["pip install 'numpy<2'"]),
        ({"device": "cpu", "backend": "python"}, ["pip install 'numpy<2' onnxruntime\n"], ["--gpus", "runtime-gpu"]),
        ({"device": "gpu", "accelerator": "tensorrt"}, ["-e NVIDIA_TF32_OVERRIDE=0"], []),
        ({"ensemble": False}, ['tensor("timestep", np.zeros((1, 1, 1, 1), np.float32))'], ["interpolate A.png"]),
    ],
)
def test_the_readme_fits_the_options(source, output, options, present, absent):
    deployed([source], output, **options)
    text = (output / "README.md").read_text()
    assert [words for words in present if words not in text] == []
    assert [words for words in absent if words in text] == []
    code = text.split("```python\n")[1].split("```")[0]
    compile(code, "README.md", "exec")


def test_the_readme_has_the_pictures_that_fit(source, output):
    deployed([write_average(source.with_name("s.onnx"), size=(64, 96), batch=1)], output)
    assert "33x65 to 64x96" in (output / "README.md").read_text()


def test_what_may_not_be_replaced(source, output):
    output.mkdir(parents=True)
    deployed([source], output)  # an empty folder
    with refused("output-exists", RequestError):
        deployed([source], output)
    (output / "deployment.json").unlink()
    before = contents(output)
    with refused("not-a-repository", RequestError):
        deployed([source], output, force=True)
    assert contents(output) == before
    (output.parent / "file").write_text("mine")
    (output.parent / "link").symlink_to(output)
    for name in ("file", "link"):
        with refused("not-a-repository", RequestError):
            deployed([source], output.parent / name, force=True)
    with refused("bad-path", RequestError):
        deployed([source], output.parent / "a\nb")
    with refused("no-artifact", RequestError):
        deployed([], output.parent / "new")


@pytest.mark.parametrize("damaged", [False, True])
def test_files_of_others_are_not_deleted(source, output, damaged):
    deployed([source], output)
    (output / "interpolator/1/__pycache__").mkdir()
    (output / "interpolator/1/__pycache__/model.pyc").touch()  # the server writes it
    deployed([source], output, force=True)
    (output / "mine").mkdir()
    (output / "mine/config.pbtxt").write_text("mine")
    if damaged:
        (output / "deployment.json").write_text("[]")
    with refused("foreign-files", RequestError):
        deployed([source], output, force=True)
    assert (output / "mine/config.pbtxt").read_text() == "mine"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_one_and_nothing_else(source, output, monkeypatch, error):
    deployed([source], output)
    before = contents(output)

    def fail(*arguments):
        raise error

    monkeypatch.setattr(repository, "readme_text", fail)
    with pytest.raises((RequestError, KeyboardInterrupt)) as caught:
        deployed([write_average(source.with_name("second.onnx"), gain=0.5)], output, force=True)
    assert getattr(caught.value, "code", "cannot-write") == "cannot-write"
    assert contents(output) == before
    assert [path.name for path in output.parent.iterdir()] == ["models"]


def test_a_manifest_of_another_file(source, output):
    save_manifest(source)
    write_average(source, gain=0.5)
    with refused("hash-differs", RequestError):
        deployed([source], output)
    manifest_path(source).write_text("{")
    with refused("damaged-manifest", RequestError):
        deployed([source], output)
    plan = write_plan(source.with_name("m.plan"), source)
    plan.write_bytes(plan.read_bytes() + b"x")
    with refused("unknown-engine", RequestError):
        deployed([plan], output)
    assert not output.exists()


def test_the_command_line(source, output, command):
    deploy = ("deploy", "triton", source, "-o")
    code, out, _ = command(*deploy, output, "--max-batch", "2", "--size", "64x96", "--size", "64x64")
    assert code == 0
    assert "64x96, 64x64" in out
    assert f"refine-export deploy check {output}" in out
    assert command(*deploy, output)[:2] == (2, "")
    assert command(*deploy, output.parent / "new", "--instances", "0")[0] == 2
    code, out, _ = command(*deploy, output, "--force", "--json", "--no-ensemble")
    content = json.loads(out)
    assert (code, content["path"]) == (0, os.fspath(output))
    assert [model["name"] for model in content["models"]] == ["interpolator"]


def test_metadata_of_any_script_reach_the_config(source, output):
    model = onnx.load(source)
    model.metadata_props[0].value = "é" * 64
    onnx.save(model, source)
    deployed([source], output)
    config = (output / "interpolator" / "config.pbtxt").read_text(encoding="utf-8")
    parameters = text_format.Parse(config, model_config_pb2.ModelConfig()).parameters
    assert "é" * 64 in {value.string_value for value in parameters.values()}
