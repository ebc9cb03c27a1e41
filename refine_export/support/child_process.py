"""A job in a child process: limits, progress, and what it said last where it did not come to an end.

The job is a module that calls `serve` when it is run with `python -m`. Request and answer are JSON files in a private
folder, which is gone afterwards whatever happens; progress comes in lines of JSON over the child's standard output.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

from refine_export import errors
from refine_export.errors import InternalError, RefineExportError, RequestError, UnavailableError
from refine_export.support.progress import Progress

Phases = Callable[[str, int, int], None]
"""Told the phase, the steps done, and the steps in all."""
Tell = Callable[[str, Any], None]
"""A child's word: `stage` (a label), `said` (how it went), `phase` (as `Phases`), `log` (severity, text), `error`."""

_REQUEST, _ANSWER, _STDERR = "request.json", "answer.json", "stderr.txt"
_SPACE = "free some space, or choose another folder"
_POLL_S = 0.2
_LAST_LINES = 12


@contextmanager
def run_child(
    module: str,
    request: Mapping[str, Any],
    beside: Path,
    progress: Progress,
    *,
    time_limit_s: float,
    memory_limit_mib: int | None = None,
    phases: Phases | None = None,
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Run `python -m module`, and give its private folder and its answer; both are gone at the end of the block.

    However this ends, by an exception or Ctrl-C too, the child does not outlive it; where this process itself is
    killed, the child notices, removes the folder and ends.

    Args:
        module: calls `serve`.
        request: JSON.
        beside: an output, which is not touched; the folder lies beside it, so on the disk that has room for it.
        progress: told of each stage.
        time_limit_s: after which the child is killed.
        memory_limit_mib: of resident host memory, looked at five times a second, after which the child is killed. Not
            by RLIMIT_AS: CUDA reserves addresses for all of the GPU's memory and the host's, and can't start under it.
        phases: told of the steps of a stage.

    Raises:
        RefineExportError: what the child raised, of the same class and with the same words.
        UnavailableError: it crashed, was killed or went over a limit, with its last lines; or the limit is one that
            this system can't watch.
        RequestError: the folder can't be made.
    """
    if memory_limit_mib is not None and _resident_mib(os.getpid()) is None:
        raise UnavailableError(
            "memory_limit_mib needs /proc, which this system has not; leave it out, or limit the container"
        )
    folder = _folder(beside)
    try:
        (folder / _REQUEST).write_text(json.dumps(request), encoding="utf-8")
        listener = _Listener(progress, phases)
        with (folder / _STDERR).open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)},
                start_new_session=True,  # Ctrl-C is for us, who end the child
            )
        try:
            ended = _watched(process, listener, time_limit_s, memory_limit_mib)
        finally:
            process.kill()
            process.wait()
            listener.close()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        yield folder, _answered(folder, ended or _ending(process.returncode), listener)
    except OSError as error:
        raise RequestError(f"can't write {folder}: {error.strerror}; {_SPACE}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def serve(work: Callable[[Mapping[str, Any], Path, Tell], Mapping[str, Any]]) -> NoReturn:
    """The child's side: hand the request to `work`, and its answer, or what it raised, back; then end.

    Args:
        work: takes the request, the private folder and whom to tell; gives JSON. It may be called from any thread, and
            what it prints to standard output is no progress.
    """
    folder = Path(sys.argv[1])
    channel = os.dup(1)
    os.dup2(2, 1)
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    lock = threading.Lock()

    def tell(kind: str, content: Any) -> None:
        line = json.dumps([kind, content]).encode() + b"\n"
        with lock:
            while line:
                line = line[os.write(channel, line) :]

    try:
        request = json.loads((folder / _REQUEST).read_text(encoding="utf-8"))
        answer: dict[str, Any] = {"done": dict(work(request, folder, tell))}
    except RefineExportError as error:
        answer = {"error": [_known(type(error)), str(error)]}
    except OSError as error:
        named = error.filename or folder
        answer = {"error": ["RequestError", f"can't read or write {named}: {error.strerror or error}; {_SPACE}"]}
    except MemoryError as error:
        answer = {"error": ["UnavailableError", f"the host has too little memory: {error}; close other programs"]}
    except Exception as error:
        traceback.print_exc()
        last = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
        answer = {"error": ["InternalError", f"the child process met what nobody foresaw: {said}; please report it"]}
    whole = folder / f"{_ANSWER}.partial"
    try:
        whole.write_text(json.dumps(answer, allow_nan=False), encoding="utf-8")
        whole.replace(folder / _ANSWER)
    except OSError as error:  # a full disk; what comes over the pipe needs no room
        tell("error", f"can't write {folder}: {error.strerror}; {_SPACE}")
    sys.stderr.flush()
    os._exit(0)  # what libraries do when they are unloaded can't harm an answer that is there


class _Listener:
    """Hands a child's words on, and keeps its last lines."""

    def __init__(self, progress: Progress, phases: Phases | None) -> None:
        self.log: deque[str] = deque(maxlen=_LAST_LINES)
        self.stage = ""
        self.error: str | None = None
        """Why there is no answer, where the child could say it."""
        self._progress, self._phases = progress, phases
        self._step = ExitStack()
        self._say: Callable[[str], None] = lambda outcome: None

    def hear(self, line: bytes) -> None:
        try:
            kind, content = json.loads(line)
        except ValueError:  # half a line, of a child that died
            return
        if kind == "stage":
            self._step.close()
            self._say = self._step.enter_context(self._progress.step(content))
            self.stage = content
        elif kind == "said":
            self._say(content)
        elif kind == "error":
            self.error = content
        elif kind == "log":
            self.log.append(": ".join(content))
        elif self._phases is not None:
            self._phases(*content)

    def close(self) -> None:
        self._step.close()


def _watched(
    process: subprocess.Popen[bytes], listener: _Listener, time_limit_s: float, memory_limit_mib: int | None
) -> str | None:
    """Listen until the child ends, or goes over a limit: then which, in words."""
    end = time.monotonic() + time_limit_s
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    assert process.stdout is not None
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=max(min(_POLL_S, end - time.monotonic()), 0.001))
        except queue.Empty:
            line = b""
        if line is None:
            break
        if line:
            listener.hear(line)
        if time.monotonic() > end:
            return _too_long(time_limit_s)
        if memory_limit_mib is not None and (_resident_mib(process.pid) or 0) > memory_limit_mib:
            return f"took more than memory_limit_mib = {memory_limit_mib} of host memory; raise it, or leave it out"
    try:
        process.wait(timeout=max(end - time.monotonic(), 1.0))
    except subprocess.TimeoutExpired:
        return _too_long(time_limit_s)
    return None


def _too_long(time_limit_s: float) -> str:
    return f"took more than time_limit_s = {time_limit_s:g}; raise it, or lower optimization_level"


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with exit code {status} and no answer; start it again, and report it if it happens again"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = "was there enough memory? See dmesg" if name == "SIGKILL" else "start it again; then try another TensorRT"
    return f"was killed by {name}; {hint}"


def _answered(folder: Path, ending: str, listener: _Listener) -> dict[str, Any]:
    try:
        answer = json.loads((folder / _ANSWER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        if listener.error is not None:
            raise RequestError(listener.error) from None
        printed = (folder / _STDERR).read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
        said = "".join(f"\n  {line}" for line in (*listener.log, *printed)) or " nothing"
        where = f" in {listener.stage!r}" if listener.stage else ""
        raise UnavailableError(f"the child process{where} {ending}; its last lines:{said}") from None
    if "error" in answer:
        name, message = answer["error"]
        raise getattr(errors, name, InternalError)(message)
    done: dict[str, Any] = answer["done"]
    return done


def _known(kind: type[RefineExportError]) -> str:
    """The name of an error, or of the nearest one above it, in `errors`."""
    names: list[str] = [base.__name__ for base in kind.__mro__ if getattr(errors, base.__name__, None) is base]
    return names[0]


def _read(stream: IO[bytes], lines: queue.SimpleQueue[bytes | None]) -> None:
    try:
        for line in stream:
            lines.put(line)
    except (OSError, ValueError):  # closed, where the child was ended
        pass
    lines.put(None)


def _end_with_parent(folder: Path) -> None:
    """Standard input is never written to, and ends with the process that has the other end."""
    while os.read(0, 1):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _folder(beside: Path) -> Path:
    try:
        beside.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{beside.name}.build-", dir=beside.parent))
    except OSError as error:
        raise RequestError(f"can't write {beside}: {error.strerror}; choose a folder that is writable") from error


def _resident_mib(pid: int) -> float | None:
    """Memory of a process that is in RAM; None where that can't be told."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return None
