"""The advice of a message works: the option or command is taken from the message and followed."""

import ast
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from refine_export.jobs.recipe import Recipe
from refine_export.jobs.recipe_file import recipe_from_file
from tests.support.commands import COMMANDS, options_of_command
from tests.support.data_sets import drawn_triplet
from tests.support.deploy_files import write_average
from tests.support.foreign import Foreign, foreign_model, plain_model
from tests.support.interpolation_clips import Sound, clip
from tests.support.lower_files import tiny
from tests.support.paths import ROOT
from tests.support.real_ffmpeg import needs_ffmpeg

RECIPE = """
[checkpoint]
weights = "seeded"
[frames]
sample = "scene"
[scene]
height = 64
width = 96
[export]
dynamic = false
size = "64x96"
"""
FOREIGN_PROGRAMS = re.compile(r"docker |pip |ffmpeg |trtexec|polygraphy", re.IGNORECASE)
OTHER_OPTIONS = {"--force-reinstall", "--help", "--gpus", "--upgrade"}
"""Options of pip and docker."""


@pytest.fixture(name="here")
def here_fixture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.toml").write_text(RECIPE)
    for name, picture in zip(("a.png", "m.png", "b.png"), drawn_triplet(), strict=True):
        Image.fromarray(picture).save(name)
    write_average(tmp_path / "average.onnx")
    onnx.save(plain_model(), "plain.onnx")
    onnx.save(tiny(), "tiny.onnx")
    onnx.save(foreign_model(Foreign()), "dynamic.onnx")
    onnx.save(foreign_model(Foreign(size=(64, 96))), "static.onnx")
    (tmp_path / "there.onnx").write_text("mine")
    (tmp_path / "there.png").write_text("mine")
    for number in (1, 2, 5):
        Image.fromarray(drawn_triplet()[0]).save(f"gap_{number}.png")
    return tmp_path


def counted():
    model = tiny()
    model.graph.input.append(onnx.helper.make_tensor_value_info("k", onnx.TensorProto.INT64, [1]))
    model.graph.node.append(onnx.helper.make_node("Cast", ["k"], ["kf"], to=1))
    model.graph.node.append(onnx.helper.make_node("Add", ["y", "kf"], ["z"]))
    model.graph.output[0].name = "z"
    onnx.save(model, "counted.onnx")
    arrays = {"x": (1, 3, 16, 24), "g": (1, 16, 24, 2)}
    made = {name: np.full(shape, 0.5, np.float32) for name, shape in arrays.items()}
    np.savez("x.npz", k=np.ones(1, np.int64), **made)


FOLLOWED = {
    "a graph that does not warp": (
        None,
        "lower plain.onnx -o o.onnx --recipe r.toml --size 64x96",
        "--without-warp",
        "",
    ),
    "a size that is not known": (None, "lower dynamic.onnx -o o.onnx --recipe r.toml", "--size", "64x96"),
    "an input of integers": (counted, "lower counted.onnx -o o.onnx --recipe r.toml", "--calibrate", "x.npz"),
    "an output of another program": (None, "lower tiny.onnx -o there.onnx --recipe r.toml", "--force", ""),
    "an output that is read": (None, "lower tiny.onnx -o tiny.onnx --force --recipe r.toml", "--output", "o.onnx"),
    "a picture that is there": (None, "interpolate a.png b.png --file average.onnx -o there.png", "--force", ""),
    "gaps in numbers": (None, "interpolate gap_%d.png --file average.onnx -o o.mkv", "--allow-missing", ""),
    "sound that a container lacks": (
        lambda: clip(Path("pcm.mkv"), 3, sounds=[Sound("pcm_s16le", 0.1)]),
        "interpolate pcm.mkv --file average.onnx -o o.webm",
        "--no-audio",
        "",
    ),
    "a graph that no weights make": (
        None,
        "bisect dynamic.onnx --size 64x96 --recipe r.toml",
        "--against",
        "dynamic.onnx",
    ),
    "a repository that is there": (
        lambda: COMMANDS["deploy triton"](["average.onnx", "-o", "models"], standalone_mode=False),
        "deploy triton average.onnx -o models",
        "--force",
        "",
    ),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_an_option_that_a_message_names_helps(name, command, here):
    prepare, line, option, value = FOLLOWED[name]
    if prepare is not None:
        prepare()
    code, _, err = command(*line.split())
    assert code == 2, err
    assert option in re.findall(r"--[a-z][a-z-]+", err), err
    code, out, err = command(*line.split(), option, *value.split())
    assert code == 0, out + err


def test_a_command_that_a_message_names_is_run(command, here):
    """The recipe is missing."""
    code, _, err = command("export", "--recipe", "new.toml")
    assert code == 2
    [advised] = re.findall(r"`(refine-export [^`]+)`", err)
    assert command(*shlex.split(advised)[1:])[0] == 0
    assert recipe_from_file(Path("new.toml")) == Recipe()


@needs_ffmpeg
def test_the_ffmpeg_command_for_two_frames_at_one_time(command, here):
    """Its output can be interpolated."""
    clip(Path("it's.mkv"), 6, times=[0, 1, 2, 2, 3, 4])
    code, _, err = command("interpolate", "it's.mkv", "--file", "average.onnx", "-o", "o.mkv")
    assert code == 2
    [advised] = re.findall(r"ffmpeg -i .+?even\.mkv", err)
    subprocess.run([*shlex.split(advised), "-loglevel", "error"], check=True)
    assert command("interpolate", "even.mkv", "--file", "average.onnx", "-o", "o.mkv")[0] == 0


def literals():
    """Yield the texts of the package that name options, as they are joined, and where they are."""
    for path in sorted((ROOT / "refine_export").rglob("*.py")):
        if path.name in ("cross_checks.py", "wheels.py"):  # command lines of other programs
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{path.name}:{node.lineno}", node.value


def test_options_and_verbs_that_texts_name_exist():
    known = {flag for verb in COMMANDS for flag in options_of_command(verb)} | OTHER_OPTIONS
    wrong = []
    for place, text in literals():
        if not FOREIGN_PROGRAMS.search(text):
            wrong += [
                f"{place}: {flag}" for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text) if flag not in known
            ]
        verbs = re.findall(r"`refine-export ([a-z-]+(?: (?:triton|check|kserve|verify|get|list))?)", text)
        wrong += [f"{place}: refine-export {verb}" for verb in verbs if verb not in COMMANDS | {"weights list": None}]
    assert not wrong
