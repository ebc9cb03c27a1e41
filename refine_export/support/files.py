"""Paths as people write them, and files that are either whole or not there."""

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refine_export.errors import RequestError


def user_path(text: str) -> Path:
    """A path with `~` as the home folder.

    Raises:
        RequestError: no such user, or a character that no path has.
    """
    try:
        os.fsencode(text)
        if "\0" in text:
            raise ValueError("it has a NUL character")
        return Path(text).expanduser()
    except (RuntimeError, ValueError) as error:
        raise RequestError(f"{text!r} is no path: {error}; write it out") from error


def make_folder(path: Path) -> None:
    """Make a folder for output, with those above it; before long work, so that it is not done in vain.

    Raises:
        RequestError: it can't be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"can't make the folder {path}: {error.strerror}; choose another") from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends without an exception.

    Whatever was at `path` stays until then. A process that is killed leaves `.NAME.partial-PID` behind, which
    is never read and which the next writer of the same file removes, once that process is gone.

    Raises:
        RequestError: the folder can't be made or written, the disk is full, or `path` is a directory.
    """
    if path.is_dir():
        raise RequestError(f"{path} is a directory; give the path of a file to write")
    temporary = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left_over in path.parent.glob(f".{glob.escape(path.name)}.partial-*"):
            if not is_running(left_over.name.rpartition("-")[2]):
                left_over.unlink(missing_ok=True)
        temporary.touch()
    except OSError as error:
        raise RequestError(f"can't write {path}: {error.strerror}; choose a folder that is writable") from error
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise RequestError(
            f"can't write {path}: {error.strerror}; free some space, or choose another folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def is_running(pid: str) -> bool:
    """Whether there is such a process; true where that can't be told."""
    if os.name != "posix" or not pid.isdecimal():
        return True  # not known: leave the file alone
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
