"""Start a real Triton server on a model repository, on loopback, for tests and demos on a CPU; see triton_setup.py.

python scripts/triton_server.py --repository REPOSITORY [--model NAME] [--http-port 8000] [--grpc-port 8001]
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from triton_setup import HOME, CannotServeError, Installation, set_up

HOST = "127.0.0.1"
START_S = 60.0
EXIT_S = 2
TRIES = 5  # a free port may be taken before the server opens it
LINES_SHOWN = 12
IN_USE = "already in use"  # message of the log about a port
NOISE = ("CudaDriverHelper", "pinned memory", "CUDA driver version")  # logged as errors wherever there is no GPU
SERVICES = ("GRPCInferenceService", "HTTPService", "Metrics Service")  # before, another server may own the port
HOPELESS = ("failed to start", "creating server: ")

_numbers = itertools.count()


class Server:
    """A server that runs until `stop`; `serve` makes one."""

    def __init__(
        self, installation: Installation, repository: Path, models: Sequence[str], ports: Sequence[int], log: Path
    ) -> None:
        self.repository = repository
        self.models = tuple(models)
        """Loaded at every start."""
        self.log = log
        self._installation = installation
        self._asked = tuple(ports)
        self._ports = self._asked
        self._process: subprocess.Popen[bytes] | None = None
        self._prefix = f"triton_{os.getpid()}_{next(_numbers)}_"  # of its names in shared memory

    @property
    def http_url(self) -> str:
        """HOST:PORT."""
        return f"{HOST}:{self._ports[0]}"

    @property
    def grpc_url(self) -> str:
        """HOST:PORT."""
        return f"{HOST}:{self._ports[1]}"

    @property
    def pid(self) -> int:
        """Process id of the server that runs, or ran last."""
        assert self._process is not None
        return self._process.pid

    def url(self, protocol: str) -> str:
        """HOST:PORT of `grpc` or `http`."""
        return {"grpc": self.grpc_url, "http": self.http_url}[protocol]

    def start(self) -> None:
        """Start it and wait until its models are ready.

        Raises:
            CannotServeError: a model does not load, or a port that was asked for is taken; with the log's lines.
        """
        first = self._process is None  # later starts keep the ports
        for left in reversed(range(TRIES)):
            if first:
                self._ports = tuple(port or free_port() for port in self._asked)
            try:
                self._start()
            except CannotServeError as error:
                if not (first and left and 0 in self._asked and IN_USE in str(error)):
                    raise
            else:
                return

    def restart(self) -> None:
        """Start it again on the same ports, stopped before or not."""
        self.stop()
        self.start()

    def load(self, model: str, timeout_s: float = START_S) -> None:
        """Load a model; one that is loaded and whose files are unchanged stays as it is: see `reload`.

        Raises:
            CannotServeError: the server refuses; with its message.
        """
        self._ask(f"/v2/repository/models/{model}/load", timeout_s)

    def unload(self, model: str) -> None:
        """Unload a model; those that an ensemble is made of stay."""
        self._ask(f"/v2/repository/models/{model}/unload", START_S)

    def reload(self, model: str) -> None:
        """Unload a model and load it: the repair for one whose process was killed."""
        self.unload(model)
        self.load(model)

    def stubs(self, model: str = "") -> list[int]:
        """Process ids of the Python models, or of those of one model."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = path.read_bytes().decode(errors="replace").split("\0")
                ours = "triton_python_backend_stub" in words[0] and any(word.startswith(self._prefix) for word in words)
                if ours and (not model or any(word.startswith(f"{model}_0") for word in words)):
                    found.append(int(path.parent.name))
        return found

    def kill(self) -> None:
        """End it at once, as a crash does, with the processes of its models."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it and remove what it left; no error where it is gone already."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        stubs = self.stubs()
        if self._process.poll() is None:
            self._process.send_signal(how)
        try:
            self._process.wait(EXIT_S + 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stub in set(stubs) & set(self.stubs()):
            with suppress(ProcessLookupError):
                os.kill(stub, signal.SIGKILL)
        for left_over in Path("/dev/shm").glob(f"{self._prefix}*"):
            left_over.unlink(missing_ok=True)

    def _start(self) -> None:
        command = [
            str(self._installation.server),
            f"--model-repository={self.repository}",
            f"--backend-directory={self._installation.backends}",
            f"--backend-config=python,shm-region-prefix-name={self._prefix}",
            "--disable-auto-complete-config",
            "--model-control-mode=explicit",
            *(f"--load-model={model}" for model in self.models),
            "--allow-gpu-metrics=false",
            f"--exit-timeout-secs={EXIT_S}",
        ]
        for name, port in zip(("http", "grpc", "metrics"), self._ports, strict=True):
            command += [f"--{name}-address={HOST}", f"--{name}-port={port}"]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=self._installation.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for this process, which then stops the server
            )
        ends = time.monotonic() + START_S
        while time.monotonic() < ends:
            log_text = self.log.read_text(encoding="utf-8", errors="replace")
            if self._process.poll() is not None or any(sign in log_text for sign in HOPELESS):
                self.kill()  # its own end takes seconds
                raise CannotServeError(f"tritonserver did not start: {self._last_lines()}")
            if all(f"Started {service}" in log_text for service in SERVICES) and self._is_ready():
                return
            time.sleep(0.05)
        self.kill()
        raise CannotServeError(f"tritonserver was not ready within {START_S:.0f} s: {self._last_lines()}")

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self._ports[0], timeout=2)
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _ask(self, path: str, timeout_s: float) -> None:
        connection = http.client.HTTPConnection(HOST, self._ports[0], timeout=timeout_s)
        try:
            connection.request("POST", path, "{}")
            response = connection.getresponse()
            body = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise CannotServeError(f"{path}: no answer ({error}); {self._last_lines()}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise CannotServeError(f"{path}: {response.status} {body}")

    def _last_lines(self) -> str:
        """Return the errors of the log, or its end."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        lines = [line for line in lines if not any(noise in line for noise in NOISE)]
        if taken := [line for line in lines if IN_USE in line]:
            return f"a port is in use, choose others with --http-port and --grpc-port: {taken[0]}"
        wrong = [line for line in lines if line.startswith("E") or "error:" in line.lower() or "failed" in line]
        return "\n".join((wrong or lines)[-LINES_SHOWN:])


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.socket() as asked:
        asked.bind((HOST, 0))
        return int(asked.getsockname()[1])


@contextmanager
def serve(
    repository: Path,
    models: Sequence[str] | None = None,
    *,
    http_port: int = 0,
    grpc_port: int = 0,
    home: Path = HOME,
    log: Path | None = None,
) -> Iterator[Server]:
    """Run a server for the block. Close HTTP clients before its end: the server waits for them.

    Args:
        repository: the folder of models.
        models: models to load at the start. Defaults to all; empty for none.
        http_port: 0 for a free one.
        grpc_port: likewise.
        home: where the server is set up.
        log: file for its output. Defaults to a temporary file.

    Raises:
        CannotServeError: it cannot be set up here, or does not start.
    """
    installation = set_up(home)
    if models is None:
        models = sorted(path.parent.name for path in repository.glob("*/config.pbtxt"))
        if not models:
            raise CannotServeError(f"{repository} has no model: no folder in it has a config.pbtxt; give a repository")
    with tempfile.TemporaryDirectory(prefix="triton-log-") as folder:
        ports = (http_port, grpc_port, 0)
        server = Server(installation, repository.resolve(), models, ports, log or Path(folder, "server.log"))
        try:
            server.start()
            yield server
        finally:
            server.stop()


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, help="model repository; without it, the server is only set up")
    parser.add_argument("--model", action="append", help="loaded at the start; repeat. Default: all")
    parser.add_argument("--http-port", type=int, default=8000, help="0 for a free one")
    parser.add_argument("--grpc-port", type=int, default=8001, help="0 for a free one")
    parser.add_argument("--home", type=Path, default=HOME, help="where the server is set up (300 MB)")
    parser.add_argument("--log", type=Path, help="file for the server's output")
    given = parser.parse_args()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda *_: sys.exit(0))
    try:
        if given.repository is None:
            print(f"ready: {set_up(given.home).server}")
            return
        ports = {"http_port": given.http_port, "grpc_port": given.grpc_port}
        with serve(given.repository, given.model, home=given.home, log=given.log, **ports) as server:
            print(f"serves {', '.join(server.models)}", flush=True)
            print(f"HTTP {server.http_url}, gRPC {server.grpc_url}, pid {server.pid}; Ctrl-C stops it", flush=True)
            with suppress(KeyboardInterrupt):
                signal.pause()
    except CannotServeError as error:
        sys.exit(f"no server: {error}")


if __name__ == "__main__":
    main()
