"""Timing caches on disk: one per TensorRT version and GPU, checksummed, merged, never trusted silently.

A file is one line of JSON (what the cache is of, its SHA-256) and TensorRT's bytes behind it, so trtexec and Polygraphy
don't read it. Nothing here fails a build: what went wrong comes back as a sentence, and the cache is built anew.
Checked for TensorRT 10.12 to 11.4. (Optimization level 0 doesn't look at timing caches at all.)
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from refine_export.engine.bindings import content_of, succeeded
from refine_export.errors import RequestError
from refine_export.support.files import write_bytes

if TYPE_CHECKING:
    import tensorrt as trt

    from refine_export.engine.bindings import Log

FORMAT: Final = "refine-export timing cache 1"
LOCK_WAIT_S: Final = 30.0
STALE_S: Final = 300.0
"""A lock file that is older was left behind; only where the system has no locks of its own."""


@dataclass(frozen=True, kw_only=True)
class CacheKey:
    """What kernel timings hold for."""

    tensorrt: str
    """Full version."""
    gpu: str
    """Name of the GPU."""
    compute_capability: str
    """`9.0`"""

    @property
    def file_name(self) -> str:
        """Readable, and different for every key."""
        text = json.dumps(dataclasses.astuple(self))
        readable = re.sub(r"[^A-Za-z0-9.]+", "-", f"{self.tensorrt}-{self.gpu}-sm{self.compute_capability}")
        return f"{readable[:80]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.timing"


Merge = Callable[[bytes, bytes], tuple[bytes, str]]
"""Two caches to one with the timings of both (the first one's where both have them), and why that failed, or nothing.
Where it failed, what comes back is the first."""


def read_cache(folder: Path, key: CacheKey) -> tuple[bytes, list[str]]:
    """TensorRT's bytes, empty where there are none to be trusted, and what there is to say about them."""
    path = folder / key.file_name
    try:
        head, _, content = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return b"", [f"no timing cache of {key.tensorrt} on {key.gpu} yet: the first build takes longer"]
    except OSError as error:
        return b"", [f"the timing cache {path} can't be read and is rebuilt: {error.strerror}"]
    fault = _fault(head, content, key)
    return (b"", [f"the timing cache {path} is not used and is rebuilt: {fault}"]) if fault else (content, [])


def write_cache(
    folder: Path, key: CacheKey, content: bytes, *, began_with: bytes = b"", merge: Merge | None = None
) -> list[str]:
    """Write what a build has measured, together with what other builds have written meanwhile.

    Args:
        folder: of the caches; made where it is missing.
        key: of the build.
        content: TensorRT's bytes.
        began_with: what `read_cache` gave to this build; what is on disk and is not that, others wrote meanwhile.
        merge: from `merge_by`; without one, what others wrote is replaced.

    Returns:
        What there is to say, such as that nothing was saved and why; empty where all went well.
    """
    path = folder / key.file_name
    if not content:
        return ["the build has no timing cache: nothing was saved"]
    try:
        with _lock(path):
            other, notes = read_cache(folder, key) if path.exists() else (b"", [])
            if other not in (b"", began_with, content):
                content, failed = merge(content, other) if merge else (content, "TensorRT was not asked to merge them")
                if failed:
                    notes.append(f"the timing cache {path} was written by another build and is replaced: {failed}")
            _write(path, key, content)
    except (OSError, RequestError) as error:  # TimeoutError is an OSError
        return [f"the timing cache {path} was not saved: {error}"]
    return notes


def merge_by(config: trt.IBuilderConfig, log: Log) -> Merge:
    """Merge by TensorRT. Checked for 10.12 to 11.4: `create_timing_cache` (None: rejected), `ITimingCache.combine`
    (False: of another TensorRT or GPU), `serialize`.

    Args:
        config: any; it is not modified.
        log: where TensorRT says why it refuses.
    """

    def merge(ours: bytes, other: bytes) -> tuple[bytes, str]:
        before = len(log.errors())
        mine, theirs = config.create_timing_cache(ours), config.create_timing_cache(other)
        if mine is None or theirs is None or not succeeded(mine.combine(theirs, ignore_mismatch=False)):
            return ours, "; ".join(log.errors()[before:]) or "TensorRT rejects it and gives no reason"
        return content_of(mine.serialize()), ""

    return merge


def _fault(head: bytes, content: bytes, key: CacheKey) -> str:
    try:
        header = json.loads(head)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        return "it is no timing cache of this tool"
    wanted = dataclasses.asdict(key)
    if other := [
        f"{name} {header.get(name)}, not {value}" for name, value in wanted.items() if header.get(name) != value
    ]:
        return f"it is of {', '.join(other)}"
    if not content or header.get("sha256") != hashlib.sha256(content).hexdigest():
        return "it is damaged (its checksum differs)"
    return ""


def _write(path: Path, key: CacheKey, content: bytes) -> None:
    header = {"format": FORMAT, **dataclasses.asdict(key), "sha256": hashlib.sha256(content).hexdigest()}
    write_bytes(path, json.dumps(header).encode() + b"\n" + content)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Let one process of this machine at a time change `path`.

    Raises:
        OSError: the folder can't be written, or (TimeoutError) another process holds it for `LOCK_WAIT_S`.
    """
    lock = path.with_name(f".{path.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with _system_lock(lock) if os.name == "posix" else _file_lock(lock):
        yield


@contextmanager
def _system_lock(lock: Path) -> Iterator[None]:
    """By flock: the system gives it back when the process ends, however it ends. The file stays, empty."""
    import fcntl

    with lock.open("ab") as file:
        for _ in _attempts(lock):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                continue
        yield


@contextmanager
def _file_lock(lock: Path) -> Iterator[None]:
    """By a file that only one process can make; one that is too old was left behind by a process that died."""
    for _ in _attempts(lock):
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
        except FileExistsError:
            try:
                if time.time() - lock.stat().st_mtime > STALE_S:
                    lock.unlink()
            except FileNotFoundError:
                continue
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _attempts(lock: Path) -> Iterator[None]:
    end = time.monotonic() + LOCK_WAIT_S
    while time.monotonic() < end:
        yield
        time.sleep(0.05)
    raise TimeoutError(f"another process has held {lock} for {LOCK_WAIT_S:g} s; end it, or remove that file")
