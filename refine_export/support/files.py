"""Paths as people write them, input files, and output files that are either complete or absent."""

import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refine_export.errors import RequestError


def user_path(text: str, *, read: bool = True) -> Path:
    """Return a path with `~` as the home folder.

    Args:
        text: as given by the user.
        read: refuse a file that is there and cannot be read; an output may be write-only.

    Raises:
        RequestError: `bad-path`; it is empty, or has no such user, or a character that no path has. `cannot-read`; a
            name is too long, or the user may not read it or enter a folder on the way.
    """
    try:
        os.fsencode(text)
        if not text or "\0" in text:
            raise ValueError("it has a NUL character" if text else "it is empty")
        path = Path(text).expanduser()
    except (RuntimeError, ValueError) as error:
        raise RequestError(f"{text!r} is not a path: {error}; write it out", code="bad-path", path=text) from error
    try:
        path.lstat()  # Path.exists, which comes first elsewhere, raises what is not the absence of a file
        if read and path.exists() and not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        problem = f"cannot be used: {error.strerror}; check the path and its permissions"
        raise RequestError.about(path, "cannot-read", problem) from error
    return path


def check_input_file(path: Path, error: type[RequestError], expected: str) -> None:
    """Refuse a path that is not a regular file; a pipe or a device could block or never end.

    Args:
        path: as given by the user.
        error: class to raise.
        expected: end of the message, such as `give a picture file`.

    Raises:
        error: `not-found`, `is-directory` or `not-a-file`; or `cannot-read`, a name is too long.
    """
    try:
        exists = path.exists()
    except OSError as cause:
        raise error.about(path, "cannot-read", f"cannot be read: {cause.strerror}; {expected}") from cause
    if not exists:
        code, problem = "not-found", "does not exist"
    elif path.is_dir():
        code, problem = "is-directory", "is a directory"
    elif not path.is_file():
        code, problem = "not-a-file", "is not a regular file"
    else:
        return
    raise error.about(path, code, f"{problem}; {expected}")


def same_file(path: Path, other: Path) -> bool:
    """Return whether both exist and are one file, by whatever name."""
    return path.exists() and other.exists() and path.samefile(other)


def make_folder(path: Path) -> None:
    """Create an output folder and its parents; call it before long work, so that the work is not done in vain.

    Raises:
        RequestError: `cannot-write`.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error, "choose another folder") from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename it to `path` if the block ends without an exception.

    Until then whatever was at `path` stays. A process that is killed leaves `.NAME.partial-PID`, which is never read;
    the next writer of the same file removes it when that process is gone.

    Raises:
        RequestError: `cannot-write`; the folder cannot be created or written, or the disk is full.
        RequestError: `is-directory` or `not-a-file`; `path` is there and is not a regular file. A device such as
            /dev/null would be replaced by a file, for all programs of the machine.
    """
    if path.exists():
        check_input_file(path, RequestError, "give the path of a file to write")
    temporary = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left_over in _left_overs(path.parent, f".{path.name}.partial-"):
            left_over.unlink(missing_ok=True)
        temporary.touch()
    except OSError as error:
        raise cannot_write(path, error, "choose a writable folder") from error
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())  # a full disk may show as late as here
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error, "free some space, or choose another folder") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; errors as in `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a file as UTF-8, atomically; errors as in `atomic_path`.

    Bytes of file names that are not UTF-8 are written as Python shows them, such as `\\udcff`.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))


@contextmanager
def private_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder `PREFIXPID-*`, which is removed at the end; those of processes that were killed go first.

    Raises:
        OSError: it cannot be made.
    """
    for left_over in _left_overs(parent, prefix):
        shutil.rmtree(left_over, ignore_errors=True)
    name = f"{prefix}{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=name, dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _left_overs(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield what processes that are gone have left at `PREFIXPID`, with anything behind a hyphen."""
    for path in parent.glob(f"{glob.escape(prefix)}*"):
        if not is_running(path.name.removeprefix(prefix).partition("-")[0]):
            yield path


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder, which takes the place of `path` if the block ends without an exception.

    Until then whatever was at `path` stays. A process that is killed between the two renames at the end leaves the old
    folder at `.NAME.work-PID-*/old`, from where the next writer of the same folder brings it back.

    Raises:
        RequestError: `cannot-write`; the folder cannot be created or written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{path.name}.work-"
        for left_over in _left_overs(path.parent, prefix):
            if (left_over / "old").is_dir() and not path.exists():
                (left_over / "old").rename(path)
        with private_folder(path.parent, prefix) as beside:
            new, old = beside / "new", beside / "old"
            new.mkdir()
            yield new
            for file in new.rglob("*"):
                if file.is_file():
                    with file.open("rb+") as written:
                        os.fsync(written.fileno())  # a full disk may show as late as here
            try:
                if path.exists():
                    path.rename(old)
                new.rename(path)
            except BaseException:  # Ctrl-C too: the folder is never left without its name
                if old.exists() and not path.exists():
                    old.rename(path)
                raise
    except OSError as error:
        raise cannot_write(path, error, "free some space, or choose another folder") from error


def is_running(pid: str) -> bool:
    """Return whether a process exists; True where that cannot be found out."""
    if os.name != "posix" or not pid.isdecimal():
        return True
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def cannot_write(path: Path, error: OSError, advice: str) -> RequestError:
    """Build the error `cannot-write` of a folder that is read-only, or a disk that is full."""
    return RequestError.about(path, "cannot-write", f"cannot be written: {error.strerror}; {advice}")
