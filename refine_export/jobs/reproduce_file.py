"""`reproduce`: the commands that lead from the weights to an ONNX file or engine, printed, or run and compared."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import pydantic

from refine_export.engine.cross_checks import cross_checks
from refine_export.engine.engine_manifest import KIND, engine_details, meant_as_engine, read_engine_manifest
from refine_export.engine.output_files import GATHER
from refine_export.errors import RequestError
from refine_export.jobs.build_engine import build
from refine_export.jobs.commands import Command, MadeBy, made
from refine_export.jobs.export_graphs import export
from refine_export.jobs.job_options import takes_options
from refine_export.jobs.load_inputs import AnyPath, path_of
from refine_export.jobs.lower_onnx import lower
from refine_export.jobs.recipe import Recipe
from refine_export.jobs.recipe_file import recipe_with
from refine_export.jobs.refit_engine import refit
from refine_export.support.files import check_input_file, make_folder
from refine_export.support.manifest import Manifest, manifest_path, read_manifest, sha256_of_file
from refine_export.support.progress import Progress
from refine_export.support.text import dict_from_result

FOLDER: Final = "reproduced"
"""Folder of the commands where none is given."""
_JOBS: Final[Mapping[MadeBy, Any]] = {
    "export": functools.partial(export, None),  # the weights are in the recipe
    "lower": lower,
    "build": build,
    "refit": refit,
}
Outcome = Literal["not run", "same bytes", "same network", "differs"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command, and what became of it."""

    verb: MadeBy
    files: Mapping[str, str]
    """Argument -> path of the file: of an earlier step, or the one that was given."""
    arguments: Mapping[str, Any]
    """Other arguments of the verb's function."""
    options: Mapping[str, Any]
    """Options that differ from the default, by keyword."""
    output: Path
    sha256: str
    """Hash of what was made at first."""
    versions: Mapping[str, str]
    """Versions of the packages that it was made with."""
    outcome: Outcome = "not run"
    """`same network`: an engine of the same types, samplers and layers, whose bytes differ from build to build."""
    reasons: tuple[str, ...] = ()
    """Inputs and versions that differ from those of the first time."""


@dataclass(frozen=True, kw_only=True)
class Reproduced:
    """Commands that make a file again."""

    path: Path
    """The file."""
    steps: tuple[Step, ...]
    """From the weights to the file."""
    cross_checks: Mapping[str, str] = field(repr=False)
    """Shell commands of other tools that build the same engine, by tool."""
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool | None:
        """True if every file was reproduced; None if nothing was run."""
        outcomes = {step.outcome for step in self.steps}
        return None if "not run" in outcomes else "differs" not in outcomes

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return dict_from_result(self)


@takes_options()
def reproduce(
    file: AnyPath, *, run: str | os.PathLike[str] | None = None, progress: Progress | None = None
) -> Reproduced:
    """Return the commands that make a file again, from the weights on; or run them, and compare the files.

    Args:
        file: an ONNX file or an engine with its manifest beside it, or the result of a job.
        run: a new folder in which the commands are run. Without it, none is.
        progress: receives each step.

    Raises:
        RequestError: `missing-manifest`, `damaged-manifest` or `unknown-engine`; `other-file`: the manifest is that of
            another file; `no-command`: it has none; `output-exists`: the folder is there; or what a step raises.
        UnavailableError: what a step raises.
    """
    path = path_of(file)
    check_input_file(path, RequestError, "expected an ONNX file or an engine of this tool")
    engine = meant_as_engine(path)
    manifest = read_engine_manifest(path) if engine else read_manifest(path)
    if manifest.sha256 != sha256_of_file(path):
        problem = f"is that of another file than {path.name}; copy the file's own manifest there"
        raise RequestError.about(manifest_path(path), "other-file", problem)
    if not manifest.commands:
        problem = f"has no command: an earlier version wrote it, or a program; make {path.name} again by a verb"
        raise RequestError.about(manifest_path(path), "no-command", problem)
    folder = Path(FOLDER) if run is None else path_of(run)
    try:
        commands = pydantic.TypeAdapter(list[Command]).validate_python([*manifest.commands[:-1], made(manifest)])
        steps = _steps(commands, folder)
    except (KeyError, TypeError, ValueError, RequestError) as error:
        reason = " ".join(str(error).split())[:300]
        problem = f"has commands that no verb writes ({type(error).__name__}: {reason}); make {path.name} again"
        raise RequestError.about(manifest_path(path), "damaged-manifest", problem) from error
    notes: tuple[str, ...] = ()
    if steps[0].verb != "export":
        given = ", ".join(steps[0].files.values())
        notes = (f"the commands begin at {given}, which this tool did not make, or an earlier version of it",)
    if run is not None:
        if folder.exists():
            raise RequestError.about(folder, "output-exists", "is there; give the name of a new folder")
        make_folder(folder)
        steps = [_run(step, command, progress) for step, command in zip(steps, commands, strict=True)]
    checks = cross_checks(manifest, _built_from(steps[-1], manifest), steps[-1].output) if engine else {}
    return Reproduced(path=path, steps=tuple(steps), cross_checks=checks, notes=notes)


def _steps(commands: Sequence[Command], folder: Path) -> list[Step]:
    """Return the commands as steps, in a folder in which each file has a name of its own.

    A manifest may be a stranger's: its commands write nothing outside of the folder, and overwrite nothing.
    """
    outputs: dict[str, Path] = {}
    steps = []
    for place, command in enumerate(commands):
        files = {name: str(outputs.get(Path(given).name, given)) for name, given in command.files.items()}
        # The verb names its file by the graph.
        name = f"{command.arguments['graph']}.onnx" if command.verb == "export" else command.artifact
        if Path(name).name != name or not name.isprintable():
            raise ValueError(f"{name!r} is not the name of a file")
        output = folder / name
        if output in outputs.values():
            output = output.with_stem(f"{output.stem}.{place}")
        own = {"output": output, "recipe": recipe_with(Recipe(), command.options), "progress": None, "force": False}
        inspect.signature(_JOBS[command.verb]).bind(**files, **command.arguments, **own)
        outputs[command.artifact] = output
        rest = {name: getattr(command, name) for name in ("verb", "arguments", "options", "sha256", "versions")}
        steps.append(Step(files=files, output=output, **rest))
    return steps


def _run(step: Step, command: Command, progress: Progress | None) -> Step:
    """Make the file again, and compare it with what was made at first."""
    recipe = recipe_with(Recipe(), step.options)
    _JOBS[step.verb](**step.files, **step.arguments, output=step.output, recipe=recipe, progress=progress)
    new = read_manifest(step.output)
    if new.sha256 == step.sha256:
        return dataclasses.replace(step, outcome="same bytes")
    reasons = [
        f"{name} was {json.dumps(before.get(name))}, is {json.dumps(after.get(name))}"
        for before, after in ((command.inputs, new.inputs), (command.versions, new.versions))
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    ]
    # TensorRT chooses kernels by their times; TensorRT for RTX 1.7 orders parts of most dynamic engines anew each time.
    if not reasons and new.kind == KIND and made(new)["proof"] == command.proof:
        return dataclasses.replace(step, outcome="same network")
    if not reasons and new.fingerprint != command.fingerprint:
        reasons = ["the code of refine-export, or the machine, is another"]
    return dataclasses.replace(step, outcome="differs", reasons=tuple(reasons))


def _built_from(step: Step, engine: Manifest) -> Path:
    """Return the file that TensorRT read in the last step: the fallback `gather` has one of its own."""
    fallback = engine_details(engine.details).key.fallback
    if fallback == "gather":
        return step.output.with_name(step.output.name + GATHER)
    return Path(step.files.get("fp32", step.files["onnx"]) if fallback == "fp32" else step.files["onnx"])
