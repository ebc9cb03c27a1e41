"""Options to interpolators: torch on a checkpoint, an ONNX file or an engine, or a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Event, Lock, Timer

from refine_export.artifacts import model_source
from refine_export.checkpoint.checkpoint import checkpoint_from_options
from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.checkpoint.released_weights import RELEASED
from refine_export.engine.engine_runner import TrtRunner
from refine_export.engine.plan import artifact_from_path
from refine_export.errors import RequestError
from refine_export.export.reference_network import check_graph, reference_network
from refine_export.interpolation.interpolation_options import ComputeOptions
from refine_export.interpolation.interpolator import Interpolator, LocalInterpolator, ServedInterpolator
from refine_export.interpolation.stream import Stopped
from refine_export.interpolation.tiles import TiledInterpolator
from refine_export.runners.base import Runner
from refine_export.runners.open_onnx_runner import default_runtime, open_onnx_runner
from refine_export.runners.pair_runner import pair_runner
from refine_export.runners.torch import TorchRunner
from refine_export.runners.triton.client import TritonClient
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.support.files import check_input_file
from refine_export.support.manifest import sha256_of_file

SILENCE_S = 3.0
"""Seconds without a first answer after which a report says that a server is waited for."""
LONG_PAUSE_S = 1.0
"""The same for a pause of the client: they grow, and this one comes some 3 s after a server was lost."""


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
        for path in (options.checkpoint, options.file):
            if path is not None and str(path) not in RELEASED:
                expected = f"give weights (a file, or {' or '.join(RELEASED)}), an ONNX file or an engine"
                check_input_file(path, RequestError, expected)

    @property
    def threads(self) -> int:
        """Number of frames to compute at a time; a runner on this machine takes all of it for one."""
        return 1 if self._options.server is None else self._options.concurrency

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
            return _from_file(self._options.file, self._options)
        return _from_checkpoint(self._options)

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
def _from_file(path: Path, options: ComputeOptions) -> Iterator[Interpolator]:
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
        runner = open_onnx_runner(model_source(path, artifact), options.runtime or default_runtime(artifact))
    with pair_runner(runner) as opened:
        yield LocalInterpolator(opened, artifact)


@contextmanager
def _from_checkpoint(options: ComputeOptions) -> Iterator[Interpolator]:
    path = None if options.checkpoint is None else str(options.checkpoint)
    checkpoint = checkpoint_from_options(CheckpointOptions(path=path, refine=options.refine))
    if checkpoint.architecture == "refinement":
        check_graph(checkpoint, "interpolator")  # raises: a refinement alone makes no frames
    network = reference_network(checkpoint, options.scale)
    from refine_export.interpolation.remembered_features import remember_features  # needs torch at import

    runner = TorchRunner(remember_features(network), "interpolator", device=options.device or "cpu")
    with LocalInterpolator(runner, multiple_of=runner.signature.multiple_of) as interpolator:
        interpolator.provider += f", {checkpoint.source}"
        yield interpolator
