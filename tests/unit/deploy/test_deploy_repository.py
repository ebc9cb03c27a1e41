"""A repository is whole or not there, holds what it says, and is refused where something does not go together."""

from __future__ import annotations

import json
import os
import shutil

import onnx
import pytest

from refine_export.artifacts import artifact_from_file
from refine_export.cli.main import main
from refine_export.deploy.triton import repository
from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.replace_folder import folder_in_place
from refine_export.deploy.triton.repository import PYTHON_MODEL, deploy_triton
from refine_export.engine.plan import artifact_from_plan
from refine_export.errors import GraphError, RequestError
from refine_export.support.manifest import manifest_path, sha256_of_file
from tests.support.deploy_files import CHECKPOINT, with_external_data, write_average, write_declared, write_plan

PROFILE = ((1, 64, 96), (4, 256, 448), (8, 1088, 1920))


@pytest.fixture
def source(tmp_path):
    return write_average(tmp_path / "in" / "m.onnx")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out" / "models"


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def deployed(paths, output, force=False, **options):
    return deploy_triton(paths, output, TritonOptions(**options), force=force)


def test_what_is_in_it(source, output):
    manifest_path(source).write_text(json.dumps({"sha256": sha256_of_file(source)}))
    made = deployed([source], output)
    assert files(output) == [
        "README.md",
        "deployment.json",
        "interpolate/1/README.txt",
        "interpolate/config.pbtxt",
        "interpolate_post/1/model.onnx",
        "interpolate_post/config.pbtxt",
        "interpolate_pre/1/model.onnx",
        "interpolate_pre/config.pbtxt",
        "interpolator_m/1/model.onnx",
        "interpolator_m/1/model.onnx.json",
        "interpolator_m/config.pbtxt",
    ]
    assert (output / "interpolator_m/1/model.onnx").read_bytes() == source.read_bytes()
    assert (output / "interpolator_m/1/model.onnx.json").read_bytes() == manifest_path(source).read_bytes()
    said = json.loads((output / "deployment.json").read_text())
    assert said == made.deployment
    assert said["schema"] == 1
    assert said["ensemble_over"] == "interpolator_m"
    assert set(said["files"]) == set(files(output)) - {"deployment.json"}
    for name, file in said["files"].items():
        assert file == {"sha256": sha256_of_file(output / name), "size_bytes": (output / name).stat().st_size}
    [network, *others] = said["models"]
    assert (network["name"], network["backend"], network["versions"]) == ("interpolator_m", "onnxruntime", [1])
    [artifact] = network["artifacts"]
    assert artifact["sha256"] == artifact_from_file(source).sha256
    assert artifact["checkpoint_sha256"] == CHECKPOINT
    assert [one["name"] for one in others] == ["interpolate_pre", "interpolate_post", "interpolate"]


def test_the_same_again_is_the_same(source, output):
    deployed([source], output)
    before = {name: (output / name).read_bytes() for name in files(output)}
    deployed([source], output, force=True)
    assert {name: (output / name).read_bytes() for name in files(output)} == before


def test_versions_in_the_order_given(source, output):
    second = write_average(source.with_name("second.onnx"), gain=0.5)
    made = deployed([second, source], output, version_policy="2")
    assert (output / "interpolator_m/1/model.onnx").read_bytes() == second.read_bytes()
    assert (output / "interpolator_m/2/model.onnx").read_bytes() == source.read_bytes()
    assert made.deployment["models"][0]["versions"] == [1, 2]
    assert artifact_from_file(source).sha256 in (output / "interpolator_m/config.pbtxt").read_text()


def test_graphs_become_models(source, output):
    context = write_declared(source.with_name("c.onnx"), "contextnet")
    fixed = write_average(source.with_name("i.onnx"), "interpolator", size=(64, 96), batch=1)
    made = deployed([source, context, fixed], output)
    names = ["contextnet", "interpolator", "interpolator_m", "interpolate_pre", "interpolate_post", "interpolate"]
    assert [model["name"] for model in made.deployment["models"]] == names
    assert {path.name for path in output.iterdir() if path.is_dir()} == set(names)


def test_no_ensemble(source, output):
    deployed([source], output, ensemble=False)
    assert [path.name for path in output.iterdir() if path.is_dir()] == ["interpolator_m"]
    pairs = write_average(source.with_name("pairs.onnx"), batch=2)
    made = deployed([pairs], output, force=True)
    assert made.notes == ("no ensemble: interpolator_m takes batches of 2, the ensemble has one pair",)
    assert not (output / "interpolate").exists()


def test_python_models_bring_their_code(source, output):
    deployed([source], output, backend="python")
    for model in ("interpolator_m", "interpolate_pre", "interpolate_post"):
        assert (output / model / "1" / "model.py").read_bytes() == PYTHON_MODEL.read_bytes()
        assert (output / model / "1" / "model.onnx").is_file()
        assert 'backend: "python"' in (output / model / "config.pbtxt").read_text()


def test_external_data_comes_along(source, output):
    (source.parent / "sub").mkdir()
    with_external_data(source, "sub/w.bin")
    deployed([source], output)
    copy = output / "interpolator_m" / "1" / "model.onnx"
    assert (copy.parent / "sub" / "w.bin").is_file()
    assert artifact_from_file(copy).sha256 == artifact_from_file(source).sha256
    onnx.load(copy)
    with_external_data(write_average(source), "model.py")
    with pytest.raises(RequestError, match="a name that the repository needs itself"):
        deployed([source], output, force=True)


def test_a_plan_is_readable_where_it_lies(source, output):
    plan = write_plan(source.with_name("m.plan"), source, PROFILE)
    made = deployed([plan], output)
    copy = output / "interpolator_m" / "1" / "model.plan"
    assert artifact_from_plan(copy).sha256 == artifact_from_plan(plan).sha256
    [artifact] = made.deployment["models"][0]["artifacts"]
    assert artifact["engine"]["tensorrt"] == "11.0.0.114"
    assert artifact["profile"] == [list(sizes) for sizes in PROFILE]


def test_the_readme_names_the_release_of_a_plan(source, output):
    plan = write_plan(source.with_name("m.plan"), source, PROFILE, version_compatible=True)
    deployed([plan], output)
    text = (output / "README.md").read_text()
    assert "nvcr.io/nvidia/tritonserver:26.06-py3" in text
    assert "--triton-release 26.06" in text
    assert "--backend-config=tensorrt,version-compatible=true" in text
    write_plan(source.with_name("n.plan"), source, PROFILE, tensorrt="11.9.0.1")
    deployed([source.with_name("n.plan")], output, force=True)
    text = (output / "README.md").read_text()
    assert "This tool knows no release of Triton with that TensorRT" in text
    assert "tritonserver:YY.MM-py3" in text
    assert "--triton-release" not in text
    assert "version-compatible=true" not in text


@pytest.mark.parametrize(
    ("options", "there", "not_there"),
    [
        ({}, ["--gpus all ", "leave `--gpus all` out", '"name": "timestep"', "26.08-py3"], ["pip install 'numpy<2'"]),
        (
            {"device": "cpu", "backend": "python"},
            ["pip install 'numpy<2' onnxruntime\n"],
            ["--gpus", "onnxruntime-gpu"],
        ),
        ({"device": "gpu", "accelerator": "tensorrt"}, ["-e NVIDIA_TF32_OVERRIDE=0"], ["leave `--gpus all` out"]),
        ({"ensemble": False}, ['tensor("timestep", np.zeros((1, 1, 1, 1), np.float32))'], ["interpolate A.png"]),
    ],
)
def test_the_readme_fits_the_options(source, output, options, there, not_there):
    deployed([source], output, **options)
    text = (output / "README.md").read_text()
    assert [words for words in there if words not in text] == []
    assert [words for words in not_there if words in text] == []
    code = text.split("```python\n")[1].split("```")[0]
    compile(code, "README.md", "exec")


def test_the_readme_says_which_pictures_fit(source, output):
    deployed([write_average(source.with_name("s.onnx"), size=(64, 96), batch=1)], output)
    assert (
        "It takes pictures of 33x65 to 64x96 (height x width) and refuses others." in (output / "README.md").read_text()
    )


def test_what_may_not_be_replaced(source, output):
    output.mkdir(parents=True)
    deployed([source], output)  # an empty folder
    with pytest.raises(RequestError, match="is there already; replace it with --force"):
        deployed([source], output)
    (output / "deployment.json").unlink()
    before = files(output)
    with pytest.raises(RequestError, match="is not empty, and no repository of this tool"):
        deployed([source], output, force=True)
    assert files(output) == before
    file = output.parent / "file"
    file.write_text("mine")
    link = output.parent / "link"
    link.symlink_to(output)
    for path in (file, link):
        with pytest.raises(RequestError, match="is no folder"):
            deployed([source], path, force=True)
    with pytest.raises(RequestError, match="expected the name of a folder"):
        deployed([source], output.parent / "a\nb")


def test_a_failure_leaves_the_old_one_and_nothing_else(source, output, monkeypatch):
    deployed([source], output)
    before = {name: (output / name).read_bytes() for name in files(output)}
    second = write_average(source.with_name("second.onnx"), gain=0.5)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(repository, "readme_text", full)
    with pytest.raises(RequestError, match="No space left on device; free some space"):
        deployed([second], output, force=True)
    monkeypatch.setattr(repository, "readme_text", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        deployed([second], output, force=True)
    assert {name: (output / name).read_bytes() for name in files(output)} == before
    assert [path.name for path in output.parent.iterdir()] == ["models"]


def test_killed_between_the_two_renames_nothing_is_lost(source, output):
    deployed([source], output)
    gone = 2**22 + 1  # above the largest process id of Linux
    output.rename(output.with_name(f".models.replaced-{gone}"))
    with pytest.raises(RequestError, match="is there already"):
        deployed([source], output)
    assert artifact_from_file(output / "interpolator_m/1/model.onnx").sha256 == artifact_from_file(source).sha256
    shutil.copytree(output, output.with_name(f".models.replaced-{gone}"))
    deployed([source], output, force=True)
    assert [path.name for path in output.parent.iterdir()] == ["models"]


def test_a_rename_that_fails_is_undone(source, output, monkeypatch):
    deployed([source], output)
    (output / "mark").write_text("old")
    rename = type(output).rename

    def failing(self, target):
        if self.parent.name.startswith(".models.work-"):
            raise OSError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(type(output), "rename", failing)
    with pytest.raises(RequestError, match="Permission denied"), folder_in_place(output):
        pass
    assert (output / "mark").read_text() == "old"


def test_an_interrupt_between_the_two_renames_is_undone(source, output, monkeypatch):
    """Ctrl-C as early as at the first rename's return."""
    deployed([source], output)
    rename = type(output).rename

    def interrupted(self, target):
        rename(self, target)
        if ".replaced-" in target.name:
            raise KeyboardInterrupt
        return target

    monkeypatch.setattr(type(output), "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), folder_in_place(output):
        pass
    monkeypatch.undo()
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    assert (output / "deployment.json").is_file()


@pytest.mark.parametrize("damaged", [False, True])
def test_files_of_others_are_not_deleted(source, output, damaged):
    deployed([source], output)
    (output / "interpolator_m/1/__pycache__").mkdir()
    (output / "interpolator_m/1/__pycache__/model.pyc").touch()  # of the server
    deployed([source], output, force=True)
    (output / "mine").mkdir()
    (output / "mine/config.pbtxt").write_text("mine")
    if damaged:
        (output / "deployment.json").write_text("[]")
    with pytest.raises(RequestError, match="files that this tool did not write, such as .*--force would delete them"):
        deployed([source], output, force=True)
    assert (output / "mine/config.pbtxt").read_text() == "mine"


def test_an_artifact_that_changes_meanwhile_or_has_anothers_manifest(source, output, monkeypatch):
    copyfile = shutil.copyfile

    def changing(file, copy):
        copyfile(write_average(source, gain=0.25) if file == source else file, copy)

    monkeypatch.setattr(repository.shutil, "copyfile", changing)
    with pytest.raises(GraphError, match="changed while it was copied"):
        deployed([source], output)
    monkeypatch.undo()
    for content, words in (('{"sha256": "0"}', "is of another file"), ("{", "is damaged"), ("[1]", "is damaged")):
        manifest_path(source).write_text(content)
        with pytest.raises(GraphError, match=words):
            deployed([source], output)
    assert not output.exists()


def test_a_plan_of_a_lying_manifest(source, output):
    plan = write_plan(source.with_name("m.plan"), source, PROFILE)
    plan.write_bytes(plan.read_bytes() + b"x")
    with pytest.raises(GraphError, match="was changed"):
        deployed([plan], output)
    with pytest.raises(RequestError, match="no artifact is given"):
        deployed([], output)


def run(capsys, *arguments):
    """The command line, and what it says."""
    with pytest.raises(SystemExit) as ended:
        main(["deploy", "triton", *map(str, arguments)])
    return ended.value.code, capsys.readouterr()


def test_the_command_says_what_was_made(source, output, capsys):
    code, said = run(capsys, source, "-o", output, "--max-batch", "2", "--size", "64x96", "--size", "64x64")
    assert code == 0
    assert "interpolator_m: onnxruntime, version 1; batches up to 2; warmed up at 64x96, 64x64\n" in said.out
    assert "interpolate: ensemble, version 1\n" in said.out
    assert f"next: refine-export deploy check {output}" in said.out
    code, said = run(capsys, source, "-o", output)
    assert (code, said.out) == (2, "")
    assert said.err.startswith("error: ")
    code, said = run(capsys, source, "-o", output, "--force", "--json", "--no-ensemble")
    assert code == 0
    content = json.loads(said.out)
    assert content["path"] == os.fspath(output)
    assert [model["name"] for model in content["models"]] == ["interpolator_m"]
