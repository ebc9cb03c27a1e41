"""Print the commands that make a file again as a shell script, with a heading in a comment for each."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from refine_export.cli.main import load_verb
from refine_export.cli.render.screen import Screen

if TYPE_CHECKING:
    from refine_export.jobs.reproduce_file import Reproduced, Step

_NAMES: Mapping[str, str] = {"feeds": "calibrate", "graph": "graphs"}
"""Arguments of functions that their verbs have by another name."""
_POSITIONAL = ("engine", "onnx")


def print_reproduced(found: Reproduced) -> None:
    """Print the commands; where they were run, what came out the same and why something differs."""
    screen = Screen()
    if found.passed is None:
        for line in "\n".join(_script(found)).splitlines():
            screen.line(line)
        return
    screen.notes(found.notes)
    for step in found.steps:
        screen.line(f"{step.output}: {step.outcome}", "failed" if step.outcome == "differs" else "passed")
        for reason in step.reasons:
            screen.line(f"  {reason}")


def _script(found: Reproduced) -> list[str]:
    lines = ["set -e", *(_comment(note) for note in found.notes)]
    for step in found.steps:
        lines += ["", _comment(f"{step.output.name}, sha256 {step.sha256}"), *command_lines(step)]
    for tool, text in found.cross_checks.items():
        lines += ["", _comment(f"The same engine by {tool}, for a cross-check."), text]
    return lines


def _comment(text: str) -> str:
    """Return a comment of one line: a second line of a stranger's text would be a command."""
    return f"# {' '.join(text.split())}"


def command_lines(step: Step) -> list[str]:
    """Return a command as lines of shell; options that the verb has no flag for are in a recipe, written before."""
    parameters = {one.name: one for one in load_verb(step.verb).params}
    words = ["refine-export", step.verb, *(step.files[name] for name in _POSITIONAL if name in step.files)]
    words += ["--output", str(step.output.parent if step.verb == "export" else step.output)]
    others: dict[str, Any] = {}
    for name, value in {**step.files, **step.arguments, **step.options}.items():
        parameter = parameters.get(_NAMES.get(name, name))
        if parameter is None and name not in _POSITIONAL:
            others[name] = value
        elif parameter is None:
            continue
        elif isinstance(value, bool):
            words.append((parameter.opts if value else parameter.secondary_opts)[0])
        elif isinstance(value, list) and parameter.nargs == 1:
            words += [word for one in value for word in (parameter.opts[0], str(one))]
        else:
            words += [parameter.opts[0], *map(str, value if isinstance(value, list) else [value])]
    if not others:
        return [shlex.join(words)]
    recipe = f"{step.output}.toml"
    folder = shlex.join(["mkdir", "-p", str(step.output.parent)])
    return [
        folder,
        f"cat > {shlex.quote(recipe)} <<'END'",
        *_toml(others),
        "END",
        shlex.join([*words, "--recipe", recipe]),
    ]


def _toml(options: Mapping[str, Any]) -> list[str]:
    from refine_export.jobs.job_options import options_by_keyword  # pydantic's, which --help does without

    known = options_by_keyword()
    sections = dict.fromkeys(known[name].section for name in options)
    lines = []
    for section in sections:
        lines.append(f"[{section}]")
        lines += [
            f"{known[name].name} = {json.dumps(value)}"
            for name, value in options.items()
            if known[name].section == section
        ]
    return lines
