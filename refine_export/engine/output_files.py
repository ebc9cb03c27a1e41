"""Where an engine goes: the files beside it, what may be overwritten, and all of it written whole."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from refine_export.engine.engine_manifest import sealed
from refine_export.engine.plan import seems_plan
from refine_export.errors import RequestError
from refine_export.support.files import atomic_path, is_running, write_text
from refine_export.support.manifest import Manifest, manifest_path, text_of_manifest

LONGEST_NAME = 200
"""Bytes, so that the names beside it, and those of temporary files, fit into 255."""
TRTEXEC, POLYGRAPHY, GATHER = ".trtexec.sh", ".polygraphy.sh", ".gather.onnx"
"""What is behind a plan's name in those of the files beside it."""


def check_engine_output(output: Path, *, sources: Sequence[Path], force: bool) -> None:
    """Refuse to overwrite what is no engine, before any work is done; engines are replaced when the new one is whole.

    Args:
        output: the plan.
        sources: files that are read.
        force: overwrite other files.

    Raises:
        RequestError: `output`, or a file beside it, is a source, a folder or a file that is no engine's.
    """
    if not output.name or output.is_dir():
        raise RequestError(f"output is {str(output)!r}, which is a folder; expected the name of the plan to write")
    if len(os.fsencode(output.name)) > LONGEST_NAME:
        raise RequestError(f"the name {output.name[:40]}... is too long; expected at most {LONGEST_NAME} bytes")
    beside = [manifest_path(output), *(output.with_name(output.name + end) for end in (TRTEXEC, POLYGRAPHY, GATHER))]
    engine = seems_plan(output)
    for path in (output, *beside):
        if path.exists() and not path.is_file():
            raise RequestError(f"{path} is no regular file; choose another name with --output")
        for source in sources:
            if same_file(path, source):
                raise RequestError(f"{path} is read, and would be overwritten; give another name with --output")
        if os.path.lexists(path) and not engine and not force:
            what = "is no TensorRT plan" if path == output else f"is there without {output.name}"
            raise RequestError(f"{path} {what}; choose another name with --output, or overwrite it with --force")


def same_file(path: Path, other: Path) -> bool:
    """Whether both are there, and one file by any of its names."""
    return path.exists() and other.exists() and path.samefile(other)


def write_engine(
    output: Path, plan: bytes, manifest: Manifest, scripts: Mapping[str, str], onnx: Path | None = None
) -> Manifest:
    """Write a plan and its manifest: both, or, where the disk is full, neither; then what lies beside them.

    The plan comes first: what a process that is killed between the two leaves is a plan, which the next build replaces.

    Args:
        output: the plan.
        plan: its bytes.
        manifest: without its seal.
        scripts: name to text.
        onnx: a file to be moved beside the plan.

    Returns:
        The manifest as it was written.
    """
    manifest = sealed(manifest)
    with _alone(output.parent):
        with atomic_path(manifest_path(output)) as new_manifest, atomic_path(output) as new_plan:
            for path, content in ((new_plan, plan), (new_manifest, text_of_manifest(manifest).encode())):
                with path.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())  # a disk may be found full as late as here
        for name, text in scripts.items():
            write_text(output.with_name(name), text)
        if onnx is not None:
            onnx.replace(output.with_name(onnx.name))
    return manifest


@contextmanager
def folder_beside(output: Path) -> Iterator[Path]:
    """A private folder on the disk of `output`, gone at the end; what a killed process left, the next one removes.

    Raises:
        RequestError: it can't be made.
    """
    name = f".{output.name}.work-"
    try:
        for left_over in output.parent.glob(f"{glob.escape(name)}*"):
            if not is_running(left_over.name.removeprefix(name).partition("-")[0]):
                shutil.rmtree(left_over, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{name}{os.getpid()}-", dir=output.parent))
    except OSError as error:
        raise RequestError(f"can't write {output}: {error.strerror}; choose a folder that is writable") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One writer of engines at a time in a folder, so that a plan has its own manifest; by flock where that is."""
    if os.name != "posix":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
