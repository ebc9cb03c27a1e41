"""Options to interpolators: torch on a checkpoint, an ONNX file or an engine, or a server."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from threading import Event, Lock, Timer
from typing import TYPE_CHECKING

from refine_export.artifacts import model_source
from refine_export.checkpoint.checkpoint import checkpoint_from_options
from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.checkpoint.released_weights import RELEASED
from refine_export.engine.engine_manifest import artifact_from_path, meant_as_engine
from refine_export.engine.engine_runner import TrtRunner
from refine_export.errors import RequestError
from refine_export.export.reference_network import check_graph, reference_network
from refine_export.interpolation.interpolation_options import ComputeOptions
from refine_export.interpolation.interpolator import Interpolator, LocalInterpolator, ServedInterpolator
from refine_export.interpolation.stream import Stopped
from refine_export.interpolation.tiles import TiledInterpolator
from refine_export.runners.base import Runner
from refine_export.runners.open_onnx_runner import default_runtime, open_onnx_runner
from refine_export.runners.pair_runner import pair_runner
from refine_export.runners.torch import TorchRunner, torch_threads
from refine_export.runners.triton.client import TritonClient
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.support.files import check_input_file
from refine_export.support.manifest import sha256_of_file

if TYPE_CHECKING:  # torch is optional, and this module is imported without it
    from torch import nn

SILENCE_S = 3.0
"""Seconds without a first answer after which a report says that a server is waited for."""
LONG_PAUSE_S = 1.0
"""The same for a pause of the client: they grow, and this one comes some 3 s after a server was lost."""
MOST_STREAMS = 8
"""Most pairs to compute at a time on a CPU: each has a copy of the weights."""
STREAM_PIXELS = 2176 * 3840
"""Most pixels of pairs computed at a time on a CPU: those of one pair of 4K, which needs some 4 GiB."""
SERVER_REQUESTS = 4
"""Requests to a server at a time."""


def cpu_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


class Backend:
    """Opens interpolators, one in each thread that computes.

    Args:
        options: a checkpoint, a file or a server.
        on_wait: called once, in any thread, with a sentence when a server is waited for.

    Raises:
        RequestError: the checkpoint or the file does not exist.
    """

    def __init__(self, options: ComputeOptions, on_wait: Callable[[str], None] | None = None) -> None:
        self._options = options
        self._on_wait = on_wait
        self._reported = Lock()
        self._pairs = 1
        self._threads: int | None = None  # for each of them; see `share`
        self._loading = Lock()
        for path in (options.checkpoint, options.file):
            if path is not None and str(path) not in RELEASED:
                expected = f"give weights (a file, or {' or '.join(RELEASED)}), an ONNX file or an engine"
                check_input_file(path, RequestError, expected)

    @contextmanager
    def share(self, size: tuple[int, int]) -> Iterator[int]:
        """Divide the processor among pairs of frames that are computed at a time, each by an interpolator of its own.

        A pair on one core takes less processor time than on several, whose threads wait for one another after each
        node, and the encoder of a video delays one of them rather than all.

        Args:
            size: height and width of the frames.

        Returns:
            A context of the number of pairs.
        """
        options = self._options
        on_cpu = options.server is None and self._on_cpu
        cores = cpu_cores()
        if options.concurrency is not None:
            count = options.concurrency
        elif on_cpu:
            pixels = size[0] * size[1] if options.tile is None else options.tile**2
            count = max(1, min(cores, MOST_STREAMS, STREAM_PIXELS // pixels))
        else:
            count = 1 if options.server is None else SERVER_REQUESTS
        self._pairs = count
        if not on_cpu or count == 1:
            yield count
            return
        self._threads = max(1, cores // count)
        with torch_threads(self._threads) if options.file is None else nullcontext():
            yield count

    @property
    def _on_cpu(self) -> bool:
        options = self._options
        if options.file is None:
            return options.device in (None, "cpu")
        return not meant_as_engine(options.file) and options.runtime in (None, "onnxruntime-cpu", "half")

    def open(self, stop: Event | None = None) -> AbstractContextManager[Interpolator]:
        """Open an interpolator, in the thread that uses it.

        Args:
            stop: ends the wait for a server when it is set.

        Raises:
            RequestError: a checkpoint or file that computes no frames.
            UnavailableError: a package, a device or the server is missing.
        """
        if self._options.tile is not None:
            return self._tiled(self._options.tile, stop)
        return self._open(stop)

    @property
    def identity(self) -> dict[str, str]:
        """Names of what computes, hashes of its files, and the options that change its frames."""
        options = self._options
        found = {name: str(getattr(options, name)) for name in ("scale", "refine", "tile")}
        for name, path in (("checkpoint", options.checkpoint), ("file", options.file)):
            found[name] = sha256_of_file(path) if path is not None and path.is_file() else str(path)
        return found | {"server": str(options.server and options.server.url)}

    @contextmanager
    def _tiled(self, tile: int, stop: Event | None) -> Iterator[Interpolator]:
        with self._open(stop) as interpolator:
            yield TiledInterpolator(interpolator, tile)

    def _open(self, stop: Event | None) -> AbstractContextManager[Interpolator]:
        if self._options.server is not None:
            return self._served(self._options.server, stop or Event())
        if self._options.file is not None:
            return _from_file(self._options.file, self._options, self._threads)
        return self._from_checkpoint()

    @contextmanager
    def _from_checkpoint(self) -> Iterator[Interpolator]:
        with self._loading:
            network, source = self._network
        runner = TorchRunner(network, "interpolator", device=self._options.device or "cpu")
        with LocalInterpolator(runner, multiple_of=runner.signature.multiple_of) as interpolator:
            interpolator.provider += f", {source}"
            yield interpolator

    @cached_property
    def _network(self) -> tuple[nn.Module, str]:
        """The reference network, one for all threads, and where its weights are from."""
        options = self._options
        path = None if options.checkpoint is None else str(options.checkpoint)
        checkpoint = checkpoint_from_options(CheckpointOptions(path=path, refine=options.refine))
        if checkpoint.architecture == "refinement":
            check_graph(checkpoint, "interpolator")  # raises: a refinement alone makes no frames
        network = reference_network(checkpoint, options.scale)
        from refine_export.interpolation.remembered_features import remember_features  # needs torch at import

        return remember_features(network, self._pairs), checkpoint.source

    @contextmanager
    def _served(self, options: ServerOptions, stop: Event) -> Iterator[Interpolator]:
        def report() -> None:
            # the lock is never released: all threads together report it once
            if self._on_wait is not None and self._reported.acquire(blocking=False):
                self._on_wait(
                    f"no answer from the {options.protocol} server at {options.url}: it is asked again for "
                    f"{options.patience_s:g} s (--patience)"
                )

        def pause(seconds: float) -> None:
            if seconds >= LONG_PAUSE_S:
                report()
            if stop.wait(seconds):
                raise Stopped

        with TritonClient(options, pause=pause) as client:
            silence = Timer(SILENCE_S, report)
            silence.daemon = True
            silence.start()
            try:
                interpolator = ServedInterpolator(client)
            finally:
                silence.cancel()
            yield interpolator


@contextmanager
def _from_file(path: Path, options: ComputeOptions, threads: int | None) -> Iterator[Interpolator]:
    artifact = artifact_from_path(path)
    if artifact.graph != "interpolator":
        problem = f"is {artifact.graph}, which makes no frames; expected interpolator"
        raise RequestError.about(path, "makes-no-frames", problem)
    if artifact.engine is not None and options.runtime is not None:
        problem = f"is an engine, which TensorRT runs; leave the runtime {options.runtime} out"
        raise RequestError.about(path, "options-do-not-fit", problem, option="runtime")
    if artifact.engine is not None:
        runner: Runner = TrtRunner(path, options=options)
    else:
        runtime = options.runtime or default_runtime(artifact)
        runner = open_onnx_runner(model_source(path, artifact), runtime, threads=threads)
    with pair_runner(runner) as opened:
        yield LocalInterpolator(opened, artifact)
