"""A folder that is whole or not there, and takes the place of another in one step."""

from __future__ import annotations

import glob
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refine_export.deploy.triton.names import DEPLOYMENT_FILE
from refine_export.engine.output_files import folder_beside
from refine_export.errors import RequestError
from refine_export.support.files import is_running

_OLD = ".{}.replaced-"


def check_output(output: Path, *, force: bool) -> None:
    """Refuse an output that is no repository of this tool, before any work is done.

    Raises:
        RequestError: it is a file, a folder of anything else, or a repository and `force` is not given.
    """
    if not output.name or not output.name.isprintable():
        raise RequestError(f"output is {str(output)!r}; expected the name of a folder to write")
    _bring_back(output)
    if not os.path.lexists(output):
        return
    if output.is_symlink() or not output.is_dir():
        raise RequestError(f"{output} is no folder; expected one that is not there yet, or a repository to replace")
    if not any(output.iterdir()):
        return
    if not (output / DEPLOYMENT_FILE).is_file():
        raise RequestError(
            f"{output} is not empty, and no repository of this tool (it has no {DEPLOYMENT_FILE}); choose "
            "another folder"
        )
    if not force:
        raise RequestError(f"{output} is there already; replace it with --force, or choose another folder")
    if foreign := _foreign_files(output):
        raise RequestError(
            f"{output} has {len(foreign)} files that this tool did not write, such as {foreign[0]}, and --force "
            "would delete them; move them away, or choose another folder"
        )


@contextmanager
def folder_in_place(output: Path) -> Iterator[Path]:
    """A new folder beside `output` that takes its place when the block ends without an exception.

    What was there is set aside for that moment and then deleted; a process that is killed in between leaves it under
    a hidden name, from which the next call for the same output brings it back.

    Raises:
        RequestError: it can't be written, or the disk is full.
    """
    with folder_beside(output) as work:
        new = work / output.name
        try:
            new.mkdir()
            yield new
            _sync(new)
            _take_place(new, output)
        except OSError as error:
            raise RequestError(
                f"can't write {output}: {error.strerror}; free some space, or choose another folder"
            ) from error


def _take_place(new: Path, output: Path) -> None:
    if not output.exists():
        new.rename(output)
        return
    old = output.with_name(f"{_OLD.format(output.name)}{os.getpid()}")
    try:
        output.rename(old)
        new.rename(output)
    except BaseException:
        if old.exists() and not output.exists():
            old.rename(output)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _bring_back(output: Path) -> None:
    """Undo what a killed process left half done."""
    name = _OLD.format(output.name)
    for old in sorted(output.parent.glob(f"{glob.escape(name)}*")):
        if is_running(old.name.removeprefix(name)):
            continue
        if os.path.lexists(output):
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(output)


def _foreign_files(output: Path) -> list[str]:
    """Files of a repository that its deployment.json does not list; all of them where it can't be read."""
    try:
        content = json.loads((output / DEPLOYMENT_FILE).read_text(encoding="utf-8"))
        known = {*content["files"], DEPLOYMENT_FILE}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        known = {DEPLOYMENT_FILE}
    there = (path.relative_to(output) for path in output.rglob("*") if not path.is_dir())
    return sorted(str(path) for path in there if path.as_posix() not in known and "__pycache__" not in path.parts)


def _sync(folder: Path) -> None:
    """Files to the disk before their folder gets its name: a disk may be found full as late as here."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
