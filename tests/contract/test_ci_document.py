"""The workflows in docs/ci.md are complete, and call verbs and options that there are."""

import re
import shlex

import pytest
import yaml

from refine_export.cli.main import load_verb
from tests.support.paths import ROOT

DOCUMENT = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)


def documented_commands():
    """Every command line of the workflows and of the examples."""
    for text in blocks("yaml"):
        workflow = yaml.safe_load(text)
        for job in workflow.get("jobs", workflow).values():
            if isinstance(job, dict):
                for step in job.get("steps", []):
                    yield from step.get("run", "").splitlines()
                for part in ("before_script", "script"):
                    yield from job.get(part, [])
    for text in blocks("sh"):
        yield from text.splitlines()


def test_the_workflows_are_complete():
    github, gitlab = (yaml.safe_load(text) for text in blocks("yaml")[-2:])
    assert set(github) == {"name", True, "permissions", "jobs"}  # YAML 1.1 reads `on` as true
    (job,) = github["jobs"].values()
    assert job["timeout-minutes"]
    assert all(step.keys() & {"run", "uses"} for step in job["steps"])
    (job,) = (part for part in gitlab.values() if "script" in part)
    assert job["artifacts"]["reports"]["junit"] == "gate.xml"
    assert job["artifacts"]["when"] == "always"
    assert job["cache"]["paths"]


def test_the_examples_of_the_action_and_the_component_give_inputs_that_there_are():
    github, gitlab = (yaml.safe_load(text) for text in blocks("yaml")[:2])
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    spec, _ = yaml.safe_load_all((ROOT / "templates" / "accuracy-gate.yml").read_text(encoding="utf-8"))
    assert github["steps"][-1]["with"].keys() <= action["inputs"].keys()
    assert gitlab["include"][0]["inputs"].keys() <= spec["spec"]["inputs"].keys()


@pytest.mark.parametrize("line", sorted({line for line in documented_commands() if "refine-export " in line}))
def test_every_command_has_known_verbs_and_options(line):
    words = shlex.split(line, comments=True)
    if words[0] != "refine-export":
        return
    known = {option for one in load_verb(words[1]).params for option in (*one.opts, *one.secondary_opts)}
    assert {word for word in words if word.startswith("-")} <= known
