"""Options to an interpolator: torch on a checkpoint, an ONNX file or an engine, or a server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock, Timer
from typing import Any, cast, get_args

from refine_export.checkpoint.checkpoint import checkpoint_from_options
from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.errors import RequestError, UnavailableError
from refine_export.export.reference_network import GRAPHS_OF, check_graph, reference_network
from refine_export.interpolation.bounded_queue import Stopped
from refine_export.interpolation.interpolator import Interpolator, LocalInterpolator, ServedInterpolator
from refine_export.runners.torch import TorchRunner
from refine_export.runners.triton.client import ServerOptions, TritonClient
from refine_export.signature import GraphName
from refine_export.support.files import user_path
from refine_export.validate.runtimes import artifact_of, candidates_for
from refine_export.validate.validate_options import Runtime, ValidateOptions

GRAPHS: tuple[GraphName, ...] = ("interpolator_m", "interpolator")
SAID_AFTER_S = 3.0
"""Without a first answer it is said that a server is waited for."""
LONG_PAUSE_S = 1.0
"""Likewise before a pause as long as this: they grow, and it comes some 3 s after a server that answered is gone."""


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """What computes the frames between: one of a checkpoint, a file and a server."""

    checkpoint: Path | None = None
    """Weights for torch: .pkl, .pth or .safetensors; without any of the three, the demo weights."""
    file: Path | None = None
    """An ONNX file or an engine of interpolator or interpolator_m."""
    runtime: Runtime | None = None
    """That runs an ONNX file; without it, by the file's types."""
    allow_host_code: bool = False
    """Run an engine that brings code for this host."""
    server: ServerOptions | None = None
    """A Triton server with the ensemble `interpolate`."""
    concurrency: int = 4
    """Most requests to a server at a time."""
    device: str | None = None
    """That torch computes on: `cpu`, which is the default, or such as `cuda:0`."""
    say: Callable[[str], None] | None = None
    """Told once, in any thread, when a server is waited for."""
    _once: Any = field(default_factory=Lock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given = [
            name
            for name, value in (("--checkpoint", self.checkpoint), ("--file", self.file), ("--server", self.server))
            if value is not None
        ]
        if len(given) > 1:
            raise RequestError(f"{' and '.join(given)} are given; expected one of them, since one alone computes")
        if self.runtime is not None and self.file is None:
            raise RequestError("--runtime is given without --file; it says what runs an ONNX file")
        if self.device is not None and given and given != ["--checkpoint"]:
            raise RequestError(f"--device is given with {given[0]}; it says where torch computes: leave it out")
        if not 1 <= self.concurrency <= 64:
            raise RequestError(f"--concurrency is {self.concurrency}; expected 1 to 64")

    @property
    def threads(self) -> int:
        """How many frames are computed at a time; a runner on this machine takes all of it for one."""
        return 1 if self.server is None else self.concurrency

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know before trusting the frames."""
        if self.checkpoint or self.file or self.server:
            return ()
        return ("the demo weights were used: they know small motion on drawn pictures; for footage give --checkpoint",)

    def check_files(self) -> None:
        """Refuse files that are not there, before any work.

        Raises:
            RequestError: the checkpoint or the file does not exist.
        """
        kinds = (
            ("--checkpoint", self.checkpoint, ".pkl, .pth or .safetensors"),
            ("--file", self.file, ".onnx or .plan"),
        )
        for name, path, kind in kinds:
            if path is not None and not user_path(str(path)).exists():
                raise RequestError(f"{name} is {path}, which does not exist; expected a {kind} file: check the path")

    def open(self, stop: Event | None = None) -> AbstractContextManager[Interpolator]:
        """Open it, in the thread that uses it.

        Args:
            stop: when it is set, a server is no longer waited for.

        Raises:
            RequestError: it can't be what computes frames.
            UnavailableError: a package, a device or the server is missing.
        """
        if self.server is not None:
            return _served(self.server, stop or threading.Event(), self._waits)
        if self.file is not None:
            return _of_file(self.file, self)
        return _of_checkpoint(self.checkpoint, self.device or "cpu")

    def _waits(self) -> None:
        if self.say is not None and self.server is not None and self._once.acquire(blocking=False):
            self.say(
                f"no answer from the {self.server.protocol} server at {self.server.url}: it is asked again for "
                f"{self.server.patience_s:g} s (--patience)"
            )


def check_runtime(name: str | None) -> Runtime | None:
    """The runtime of a name.

    Raises:
        RequestError: there is none.
    """
    for known in get_args(Runtime):
        if name == known:
            return cast("Runtime", known)
    if name is not None:
        raise RequestError(f"--runtime is {name!r}; expected one of: {', '.join(get_args(Runtime))}")
    return None


@contextmanager
def _served(options: ServerOptions, stop: Event, waits: Callable[[], None]) -> Iterator[Interpolator]:
    def pause(seconds: float) -> None:
        if seconds >= LONG_PAUSE_S:
            waits()
        if stop.wait(seconds):
            raise Stopped

    client = TritonClient(options, pause=pause)
    with ExitStack() as stack:
        stack.callback(client.close)
        silence = Timer(SAID_AFTER_S, waits)
        silence.daemon = True
        silence.start()
        try:
            interpolator = ServedInterpolator(client)
        except UnavailableError as error:
            raise UnavailableError(f"{error}; nothing was written") from error
        finally:
            silence.cancel()
        yield interpolator


@contextmanager
def _of_file(path: Path, options: ComputeOptions) -> Iterator[Interpolator]:
    artifact = artifact_of(path)
    if artifact.graph not in GRAPHS:
        raise RequestError(
            f"{path} is {artifact.graph}, which makes no frames; expected {' or '.join(GRAPHS)}: export it with "
            f"`refine-export export --graph {GRAPHS[0]}`"
        )
    if artifact.engine is not None and options.runtime is not None:
        raise RequestError(
            f"--runtime is {options.runtime}, and {path} is an engine, which TensorRT runs; leave it out"
        )
    runtimes = (options.runtime,) if options.runtime else ()
    chosen = ValidateOptions(runtimes=runtimes, allow_host_code=options.allow_host_code)
    with candidates_for(path, artifact, chosen) as [candidate]:
        if candidate.runner is None:
            raise UnavailableError(candidate.missing) if candidate.missing else RequestError(str(candidate.refused))
        yield LocalInterpolator(candidate.runner, artifact)


@contextmanager
def _of_checkpoint(path: Path | None, device: str) -> Iterator[Interpolator]:
    checkpoint = checkpoint_from_options(CheckpointOptions(path=None if path is None else str(path)))
    graph = next((graph for graph in GRAPHS if graph in GRAPHS_OF[checkpoint.architecture]), GRAPHS[0])
    check_graph(checkpoint.architecture, graph)
    runner = TorchRunner(reference_network(checkpoint), graph, device=device)
    with LocalInterpolator(runner) as interpolator:
        interpolator.provider += f", {checkpoint.source}"
        yield interpolator
