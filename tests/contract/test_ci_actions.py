"""The GitHub action and the GitLab component: their commands are run with inputs as the CI system hands them over."""

import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from refine_export.cli.main import load_verb
from tests.support.paths import ROOT

ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
SPEC, COMPONENT = yaml.safe_load_all((ROOT / "templates" / "accuracy-gate.yml").read_text(encoding="utf-8"))
JOB = COMPONENT["accuracy-gate"]
STEPS = ACTION["runs"]["steps"]
INPUTS = {"github": ACTION["inputs"], "gitlab": SPEC["spec"]["inputs"]}
STUB = """#!{python}
import json, os, pathlib, sys
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]) + "\\n")
if "--report" in sys.argv and not os.environ.get("NO_REPORT"):
    folder = pathlib.Path(sys.argv[sys.argv.index("--report") + 1])
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_text("new")
sys.exit(int(os.environ.get("STATUS_" + sys.argv[1].strip("-"), 0)))
"""
HOSTILE = "$(touch pwned) `touch pwned` '\"; touch pwned #.onnx"


def scripts(system):
    """Every script with the names of the inputs that its environment has."""
    if system == "github":
        return [(step["run"], step["env"]) for step in STEPS]
    environment = {name: one["value"] for name, one in JOB["variables"].items()}
    return [(text, environment) for text in (*JOB["before_script"], *JOB["script"])]


def run(system, folder, *, environment=None, **inputs):
    """Run the scripts of a system in order until one fails: what they called, and the last exit code."""
    binaries = folder / "bin"
    binaries.mkdir(exist_ok=True)
    for name in ("refine-export", "python"):
        (binaries / name).write_text(STUB.format(python=sys.executable))
        (binaries / name).chmod(0o755)
    given = {name: inputs.get(name, one.get("default", "")) for name, one in INPUTS[system].items()}
    calls = folder / "calls"
    calls.write_text("")
    code = 0
    for text, names in scripts(system):
        values = {key: given[re.search(r"inputs\.(\w+)", value)[1]] for key, value in names.items()}
        if system == "github":
            values["PACKAGE"] = values.get("PACKAGE") or str(ROOT)  # what `||` in the action does
        known = {
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "CALLS": str(calls),
            "GITHUB_OUTPUT": str(folder / "outputs"),
        }
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", text],
            cwd=folder,
            env=known | values | (environment or {}),
            check=False,
        )
        if code := done.returncode:
            break
    return [json.loads(line) for line in calls.read_text().splitlines()], code


@pytest.mark.parametrize("system", INPUTS)
def test_inputs_become_arguments_and_nothing_else(system, tmp_path):
    """Spaces, quotes and commands in an input stay one argument; an input that is not given leaves its option out."""
    calls, code = run(system, tmp_path, files=f"a.onnx, b c.onnx,{HOSTILE},", checkpoint=HOSTILE, frames="a.png,b.png")
    install, validate, gate = calls
    assert code == 0
    assert install[:4] == ["python", "-m", "pip", "install"]
    assert install[4].endswith("[torch,ort]")
    assert validate[validate.index("--") + 1 :] == ["a.onnx", "b c.onnx", HOSTILE]
    assert validate[validate.index("--checkpoint") + 1] == HOSTILE
    assert validate[validate.index("--frames") + 1 :][:2] == ["a.png", "b.png"]
    assert "--recipe" not in validate
    assert gate[-2:] == ["--", "accuracy-report/report.json"]
    assert gate[gate.index("--require") + 1] == "torch,ort"
    assert not (tmp_path / "pwned").exists()
    for _, verb, *words in (validate, gate):
        known = {option for one in load_verb(verb).params for option in one.opts}
        assert {word for word in words if word.startswith("--") and word != "--"} <= known


@pytest.mark.parametrize("system", INPUTS)
def test_the_package_may_have_no_extras(system, tmp_path):
    calls, _ = run(system, tmp_path, files="a.onnx", package="./own path", extras="")
    assert calls[0][-1] == "./own path"


@pytest.mark.parametrize("system", INPUTS)
def test_the_gate_decides_where_there_is_a_report(system, tmp_path):
    calls, code = run(system, tmp_path, files="a.onnx", environment={"STATUS_validate": "1", "STATUS_gate": "3"})
    assert ([call[1] for call in calls[1:]], code) == (["validate", "gate"], 3)
    # A report of an earlier run is not judged where this one writes none.
    calls, code = run(system, tmp_path, files="a.onnx", environment={"STATUS_validate": "2", "NO_REPORT": "1"})
    assert ([call[1] for call in calls[1:]], code) == (["validate"], 2)
    assert not (tmp_path / "accuracy-report" / "report.json").exists()


@pytest.mark.parametrize("system", INPUTS)
def test_no_input_is_part_of_a_script(system):
    for text, names in scripts(system):
        assert "inputs." not in text
        assert "${{" not in text
        assert set(re.findall(r"\$\{?([A-Z]+)\b", text)) <= {*names, "GITHUB_OUTPUT"}
    assert all(one["expand"] is False for one in JOB["variables"].values())


def test_both_have_the_same_inputs_and_compare_alike():
    assert set(INPUTS["gitlab"]) - set(INPUTS["github"]) == {"stage", "image"}
    assert set(INPUTS["github"]) <= set(INPUTS["gitlab"])
    compare = scripts("github")[1][0].rstrip().rpartition("\n")[0]
    assert compare == scripts("gitlab")[1][0].rstrip()


@pytest.mark.slow
def test_the_action_with_the_real_command_line(exports, tmp_path):
    """A good file passes; the summary of the step has the table of verdicts."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[checkpoint]\nweights = "seeded"\n[frames]\nscene_frames = 2\n[scene]\nheight = 64\nwidth = 96\n'
        '[validate]\nsizes = []\nflows = ["subpixel"]\n'
    )
    file = exports.fp32("contextnet", size="64x96")
    (tmp_path / "refine-export").write_text(
        f"#!{sys.executable}\nfrom refine_export.cli.main import program\nprogram()\n"
    )
    (tmp_path / "refine-export").chmod(0o755)
    summary = tmp_path / "summary.md"
    known = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_OUTPUT": str(tmp_path / "outputs")}
    known |= {"PYTHONPATH": f"{ROOT}:{ROOT / 'models'}", "GITHUB_STEP_SUMMARY": str(summary)}
    given = {"FILES": str(file), "RECIPE": str(recipe), "OUTPUT": "out", "REQUIRE": "torch,ort"}
    for step in STEPS[1:]:
        values = {name: given.get(name, "") for name in step["env"]}
        subprocess.run(["bash", "-eo", "pipefail", "-c", step["run"]], cwd=tmp_path, env=known | values, check=True)
    assert "passed" in summary.read_text()
    assert file.name in summary.read_text()
    assert (tmp_path / "out" / "gate.xml").is_file()
    assert (tmp_path / "outputs").read_text() == "report=out/report.json\n"
