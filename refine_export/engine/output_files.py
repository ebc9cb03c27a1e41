"""Output files of a build: the engine and the files beside it, what may be overwritten, and writing all or nothing."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from refine_export.engine.engine_manifest import seems_engine
from refine_export.errors import RequestError
from refine_export.support.files import atomic_path, private_folder, same_file
from refine_export.support.manifest import Manifest, manifest_path
from refine_export.support.text import json_text

GATHER = ".gather.onnx"
"""Suffix, behind an engine's name, of the file with its samplers written out."""


def check_engine_output(output: Path, *, sources: Sequence[Path], force: bool) -> None:
    """Refuse to overwrite files that are not an engine's, before any work is done.

    An engine that is there is replaced when the new one is whole.

    Args:
        output: the engine.
        sources: files that are read.
        force: overwrite other files.

    Raises:
        RequestError: `unwritable`, `output-is-input` or `output-exists`; `output`, or a file beside it, is a folder, a
            source or a file that is not an engine's. `wrong-suffix`: its name is that of another kind of file.
    """
    if not output.name or output.is_dir():
        message = f"output is {str(output)!r}, which is a folder; expected the name of the engine to write"
        raise RequestError(message, code="unwritable", path=output)
    beside = [manifest_path(output), output.with_name(output.name + GATHER)]
    engine = seems_engine(output)
    for path in (output, *beside):
        if path.exists() and not path.is_file():
            raise RequestError.about(path, "unwritable", "is not a regular file; choose another name with --output")
        if any(same_file(path, source) for source in sources):
            problem = "is read, and would be overwritten; give another name with --output"
            raise RequestError.about(path, "output-is-input", problem)
        if os.path.lexists(path) and not engine and not force:
            what = "is not a TensorRT engine" if path == output else f"is there without {output.name}"
            problem = f"{what}; choose another name with --output, or overwrite it with --force"
            raise RequestError.about(path, "output-exists", problem)
    if output.suffix.lower() in (".onnx", ".json"):
        problem = "is not a name for an engine; expected one that ends in .plan, .rtx or .engine"
        raise RequestError.about(output, "wrong-suffix", problem)


def write_engine(output: Path, engine: bytes, manifest: Manifest, onnx: Path | None) -> None:
    """Write an engine and its manifest: both, or, where the disk is full, neither; then the file beside them.

    The engine comes first: a process that is killed between the two leaves an engine without a manifest of its own,
    which the next build replaces.

    Args:
        output: the engine.
        engine: its bytes.
        manifest: its manifest.
        onnx: a file to be moved beside the engine.
    """
    with atomic_path(manifest_path(output)) as new_manifest, atomic_path(output) as new_engine:
        new_engine.write_bytes(engine)
        new_manifest.write_text(json_text(dataclasses.asdict(manifest)), encoding="utf-8")
        for path in (new_engine, new_manifest):  # a disk may be found full as late as here: before the first rename
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    if onnx is not None:
        onnx.replace(output.with_name(onnx.name))


@contextmanager
def folder_beside(output: Path) -> Iterator[Path]:
    """Make a private folder on the disk of `output`, removed at the end; also remove those of killed processes.

    Raises:
        RequestError: `unwritable`.
    """
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(private_folder(output.parent, f".{output.name}.work-"))
        except OSError as error:
            problem = f"cannot write {output}: {error.strerror}; choose a folder that is writable"
            raise RequestError(problem, code="unwritable", path=output) from error
        yield folder
