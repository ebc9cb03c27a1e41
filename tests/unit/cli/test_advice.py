"""The advice of messages works: each piece that the package gives is followed as it is written."""

import ast
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.advice import ADVICE, follow
from tests.support.advice_cases import FOLLOWED, FOLLOWED_SLOWLY, NOT_FOLLOWED
from tests.support.advice_situations import here_fixture  # noqa: F401 (fixture)
from tests.support.commands import COMMANDS, options_of_command
from tests.support.interpolation_clips import clip
from tests.support.paths import ROOT
from tests.support.real_ffmpeg import needs_ffmpeg

FOREIGN_PROGRAMS = re.compile(r"docker |pip |ffmpeg |trtexec|polygraphy", re.IGNORECASE)
OTHER_OPTIONS = {"--force-reinstall", "--help", "--gpus", "--upgrade"}
"""Options of pip and docker."""


@pytest.mark.parametrize(("advice", "number"), [(name, k) for name in FOLLOWED for k in range(len(FOLLOWED[name]))])
def test_advice_helps_where_it_is_followed(advice, number, command, here, request, capfd):
    case = FOLLOWED[advice][number]
    case.prepare(request)
    capfd.readouterr()
    follow(advice, case, command)


def test_each_piece_of_advice_is_followed_or_has_a_reason():
    assert sorted([*FOLLOWED, *FOLLOWED_SLOWLY, *NOT_FOLLOWED]) == sorted(ADVICE)


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
