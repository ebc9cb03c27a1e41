"""A job in a child process: limits on time and memory, progress, and its last lines where it does not finish.

The job is a module that calls `serve` when it is run with `python -m`. Request and answer are JSON files in a folder of
the caller's; progress comes as lines of JSON over the child's standard output.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NoReturn

from refine_export import errors
from refine_export.errors import InternalError, RefineExportError, RequestError, UnavailableError
from refine_export.support.progress import Progress
from refine_export.support.text import json_safe

Report = Callable[[str, Any], None]
"""A child's message: `stage` (a label), `outcome` (text), `phase` (name, done, steps), `log` (severity, text)."""

_REQUEST, _ANSWER, _STDERR = "request.json", "answer.json", "stderr.txt"
_POLL_S = 0.2
_LAST_LINES = 12


def run_child(
    module: str,
    request: Mapping[str, Any],
    folder: Path,
    progress: Progress,
    *,
    time_limit_s: float,
    memory_limit_mib: int | None = None,
) -> dict[str, Any]:
    """Run `python -m module` and return its answer.

    However this ends, by an exception or Ctrl-C too, the child does not outlive it; where this process itself is
    killed, the child notices, removes the folder and ends.

    Args:
        module: calls `serve`.
        request: JSON.
        folder: private; the child may write files there too.
        progress: of the child's stages and their phases.
        time_limit_s: after which the child is killed.
        memory_limit_mib: of resident host memory, looked at five times a second, above which the child is killed. Not
            by RLIMIT_AS: CUDA reserves addresses for all of the GPU's memory and the host's, and cannot start under it.

    Raises:
        RefineExportError: what the child raised: the same class, message, code and fields.
        UnavailableError: `child-ended`; it crashed, was killed or went over a limit, with its last lines. Or
            `memory-limit-unsupported`.
    """
    if memory_limit_mib is not None and _resident_mib(os.getpid()) is None:
        raise UnavailableError(
            "memory_limit_mib needs /proc, which this system does not have; leave it out, or limit the container",
            code="memory-limit-unsupported",
        )
    (folder / _REQUEST).write_text(json.dumps(request), encoding="utf-8")
    messages = _Messages(progress)
    with (folder / _STDERR).open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)},
            start_new_session=True,  # Ctrl-C goes to this process alone, which ends the child
        )
    with process:
        try:
            exceeded = _watch(process, messages, time_limit_s, memory_limit_mib)
        finally:
            process.kill()
            process.wait()  # `with` waits no longer than 0.25 s after Ctrl-C
            messages.close()
    return _answer(folder, exceeded or _describe_end(process.returncode), messages)


def serve(work: Callable[[Mapping[str, Any], Path, Report], Mapping[str, Any]]) -> NoReturn:
    """Run the child's side: call `work`, write its answer or its error, and end the process.

    Args:
        work: takes the request, the folder and `Report`, which may be called from any thread; returns JSON.
    """
    folder = Path(sys.argv[1])
    channel = os.dup(1)
    os.dup2(2, 1)  # what libraries print is not progress
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    lock = threading.Lock()

    def report(kind: str, content: Any) -> None:
        line = json.dumps([kind, content]).encode() + b"\n"
        with lock:
            try:
                while line:
                    line = line[os.write(channel, line) :]
            except BrokenPipeError:  # the parent has ended, and another thread is about to find that
                _end(folder)

    try:
        request = json.loads((folder / _REQUEST).read_text(encoding="utf-8"))
        answer: dict[str, Any] = {"done": work(request, folder, report)}
    except Exception as error:
        answer = {"error": _transport(error)}
    partial = folder / f"{_ANSWER}.partial"
    try:
        partial.write_text(json.dumps(answer, allow_nan=False), encoding="utf-8")
        partial.replace(folder / _ANSWER)
    except OSError as error:  # a full disk; the pipe needs no room
        report("error", _transport(error))
    sys.stderr.flush()
    os._exit(0)  # without unloading libraries, some of which crash at exit


def _transport(error: Exception) -> dict[str, Any]:
    """An error as JSON; one that is not of this package becomes one with advice."""
    if isinstance(error, OSError):
        named = f" {error.filename}" if error.filename else ""
        error = RequestError(
            f"cannot read or write{named}: {error.strerror or error}; free some space, or choose another folder",
            code="unwritable",
        )
    elif isinstance(error, MemoryError):
        error = UnavailableError(f"the host has too little memory: {error}; close other programs", code="out-of-memory")
    elif not isinstance(error, RefineExportError):
        traceback.print_exc()
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
        error = InternalError(f"an unforeseen error in the child process: {where}; please report it", code="child-bug")
    return {
        "class": type(error).__name__,
        "message": str(error),
        "code": error.code,
        "fields": json_safe(error.fields),
    }


class _Messages:
    """Passes a child's messages on, and keeps its last lines."""

    def __init__(self, progress: Progress) -> None:
        self.log: deque[str] = deque(maxlen=_LAST_LINES)
        self.stage = ""
        self.error: dict[str, Any] | None = None
        self._progress = progress
        self._step = ExitStack()
        self._outcome: Callable[[str], None] = lambda outcome: None

    def receive(self, line: bytes) -> None:
        try:
            kind, content = json.loads(line)
        except ValueError:  # half a line, of a child that died
            return
        if kind == "stage":
            self._step.close()
            self._outcome = self._step.enter_context(self._progress.step(content))
            self.stage = content
        elif kind == "outcome":
            self._outcome(content)
        elif kind == "phase":
            self._progress.within(*content)
        elif kind == "error":
            self.error = content
        else:
            self.log.append(": ".join(content))

    def close(self) -> None:
        self._step.close()


def _watch(
    process: subprocess.Popen[bytes], messages: _Messages, time_limit_s: float, memory_limit_mib: int | None
) -> str | None:
    """Read messages until the child ends, or goes over a limit; then return which, for the error."""
    end = time.monotonic() + time_limit_s
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    assert process.stdout is not None
    # A thread reads, because a pipe cannot be read with a time limit on Windows.
    threading.Thread(target=_read_lines, args=(process.stdout, lines), daemon=True).start()
    line: bytes | None = b""
    while line is not None:
        if time.monotonic() > end:
            return f"took more than time_limit_s = {time_limit_s:g}; raise it, or lower optimization_level"
        if memory_limit_mib is not None and (_resident_mib(process.pid) or 0) > memory_limit_mib:
            return f"took more than memory_limit_mib = {memory_limit_mib} of host memory; raise it, or leave it out"
        try:
            line = lines.get(timeout=_POLL_S)
        except queue.Empty:
            line = b""
        if line:
            messages.receive(line)
    process.wait(timeout=_POLL_S * 50)  # its standard output is closed: it is about to end
    return None


def _describe_end(status: int) -> str:
    if status >= 0:
        return f"ended with exit code {status} and no answer; start it again, and report it if it happens again"
    hint = (
        "was there enough memory? See dmesg" if -status == signal.SIGKILL else "start it again, or try another TensorRT"
    )
    return f"was killed by signal {signal.Signals(-status).name}; {hint}"


def _answer(folder: Path, ending: str, messages: _Messages) -> dict[str, Any]:
    error = messages.error
    if error is None:
        try:
            answer = json.loads((folder / _ANSWER).read_text(encoding="utf-8"))
        except FileNotFoundError:
            printed = (folder / _STDERR).read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
            last = "".join(f"\n  {line}" for line in (*messages.log, *printed)) or " none"
            where = f" in {messages.stage!r}" if messages.stage else ""
            raise UnavailableError(
                f"the child process{where} {ending}; its last lines:{last}", code="child-ended", stage=messages.stage
            ) from None
        if "done" in answer:
            done: dict[str, Any] = answer["done"]
            return done
        error = answer["error"]
    raise getattr(errors, error["class"])(error["message"], code=error["code"], **error["fields"])


def _read_lines(stream: IO[bytes], lines: queue.SimpleQueue[bytes | None]) -> None:
    try:
        for line in stream:
            lines.put(line)
    except (OSError, ValueError):  # closed, where the child was ended
        pass
    lines.put(None)


def _end_with_parent(folder: Path) -> None:
    """Wait for the end of standard input, which is never written to and closes with the parent process."""
    while os.read(0, 1):
        pass
    _end(folder)


def _end(folder: Path) -> NoReturn:
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _resident_mib(pid: int) -> float | None:
    """Memory of a process that is in RAM; None where that is not known."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return None
