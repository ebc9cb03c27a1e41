"""Speed of interpolation, as a Markdown table; see benchmark.py.

python scripts/benchmark_video.py [pipeline served]
"""

import itertools
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
from benchmark import in_turn, row
from triton_server import CannotServeError, serve

from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.data.frame_options import SceneOptions
from refine_export.data.sample_scene import Scene
from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.names import ENSEMBLE
from refine_export.deploy.triton.repository import deploy_triton
from refine_export.export.export_file import export_file
from refine_export.export.export_options import ExportOptions
from refine_export.export.reference_network import reference_network
from refine_export.interpolation.interpolate_files import interpolate_video
from refine_export.interpolation.interpolation_options import EncoderOptions, VideoOptions
from refine_export.interpolation.interpolator import Interpolator, LocalInterpolator, ServedInterpolator
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.triton.client import TritonClient
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.support.progress import Silent

HEIGHT, WIDTH, FRAMES = 256, 448, 25
GRAPH = "interpolator_m"


def pictures(count: int = FRAMES) -> list[Any]:
    """A procedural scene, uint8 [H, W, 3]."""
    scene = Scene(SceneOptions(height=HEIGHT, width=WIDTH, motion_px=40.0))
    return [np.uint8(np.rint(np.moveaxis(scene.frame(k / max(1, count - 1))[0], 0, -1) * 255)) for k in range(count)]


def clip(path: Path) -> Path:
    """The scene as H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=WIDTH, height=HEIGHT)
        for picture in pictures():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def network(folder: Path) -> Path:
    """An ONNX file of the network that any size can be fed to."""
    checkpoint = seeded_checkpoint("IFNet_m")
    path = folder / f"{GRAPH}.onnx"
    export_file(lambda: reference_network(checkpoint), checkpoint, GRAPH, ExportOptions(dynamic=True), path)
    return path


def opened(interpolator: Interpolator) -> Any:
    """Make a backend that is open already: loading the network is not part of the rate."""

    @contextmanager
    def once(stop: Event | None = None) -> Iterator[Interpolator]:
        yield interpolator

    return SimpleNamespace(open=once, threads=1, notes=())


class Repeat(Interpolator):
    """An interpolator that computes nothing."""

    any_time, provider = True, "nothing"

    def _interpolate(self, frame0: Any, frame1: Any, timestep: float) -> Any:
        return frame0

    def close(self) -> None:
        """Do nothing."""


def processor_s(call: Callable[[], object]) -> float:
    """Seconds of processor time, of all threads."""
    started = time.process_time()
    call()
    return time.process_time() - started


def measure_pipeline(folder: Path) -> None:
    """Decode, inference and encode of a clip against inference alone on its frames."""
    source, frames = clip(folder / "in.mp4"), pictures()

    def whole(backend: Any) -> None:
        options = VideoOptions(scene_cuts=False), EncoderOptions()
        interpolate_video(source, folder / "out.mp4", *options, backend, force=True, progress=Silent())

    with LocalInterpolator(OrtRunner(network(folder))) as interpolator:

        def alone() -> None:
            for before, after in itertools.pairwise(frames):
                interpolator.interpolate(before, after, 0.5)

        inference, pipeline = in_turn(alone, lambda: whole(opened(interpolator)), rounds=3)
        computing = processor_s(alone)
    rates = [(FRAMES - 1) / seconds for seconds in (pipeline, inference)]
    figure = f"{inference / pipeline:.2f} ({rates[0]:.2f} / {rates[1]:.2f} a second)"
    row(f"video {HEIGHT}x{WIDTH}: decode, inference, encode / inference alone, rate", figure, "≥ 0.95")
    with Repeat() as repeat:
        others = processor_s(lambda: whole(opened(repeat)))
    row("all but inference / inference, processor time", f"{others / computing:.3f} ({others:.1f} s)", "≤ 0.05")


def measure_served(folder: Path) -> None:
    """The ensemble over gRPC against the local runner; the bytes of a request as uint8 and as FP32."""
    path = network(folder)
    deploy_triton([path], folder / "models", TritonOptions(device="cpu", sizes=(f"{HEIGHT}x{WIDTH}",)))
    before, after = pictures(2)
    try:
        with serve(folder / "models", [ENSEMBLE], log=folder / "server.log") as server:
            _measure_served(path, server.grpc_url, before, after)
    except CannotServeError as error:
        row("served ensemble", f"not measured: {error}", "")


def _measure_served(path: Path, url: str, before: Any, after: Any) -> None:
    with (
        LocalInterpolator(OrtRunner(path)) as local,
        ServedInterpolator(TritonClient(ServerOptions(url=url))) as served,
    ):
        copied = in_turn(lambda: [picture.tobytes() for picture in (before, after, before)], rounds=21)[0]
        here, there = in_turn(
            lambda: local.interpolate(before, after, 0.5), lambda: served.interpolate(before, after, 0.5), rounds=15
        )
    figure = f"{(there - copied) / here:.2f} ({there * 1e3:.0f} / {here * 1e3:.0f} ms, copy {copied * 1e3:.1f} ms)"
    row(f"served ensemble over gRPC less the copy / local runner, {HEIGHT}x{WIDTH}, latency", figure, "≤ 1.25")
    with Counter(url) as counter, TritonClient(ServerOptions(url=counter.url)) as client:
        client.server()  # connect
        time_ = np.full(1, 0.5, np.float32)
        images = [np.moveaxis(picture, -1, 0)[None].astype(np.float32) / 255 for picture in (before, after)]
        pixels = counter.of(lambda: client.infer(ENSEMBLE, {"frame0": before, "frame1": after, "timestep": time_}))
        planes = counter.of(
            lambda: client.infer(GRAPH, {"img0": images[0], "img1": images[1], "timestep": time_.reshape(1, 1, 1, 1)})
        )
    figure = f"{pixels / planes:.3f} ({pixels / 2**20:.2f} / {planes / 2**20:.2f} MiB)"
    row("bytes on the wire: ensemble in uint8 / network in FP32", figure, "0.25")


class Counter:
    """Passes connections on to a server, and counts bytes both ways."""

    def __init__(self, url: str) -> None:
        host, _, port = url.rpartition(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self._bytes = 0
        self.url = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> "Counter":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._sockets:
            one.close()

    def of(self, call: Any) -> int:
        """Bytes that a call sends and receives."""
        before = self._bytes
        call()
        time.sleep(0.2)
        return self._bytes - before

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            self._sockets += [client, server]
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while chunk := source.recv(2**16):
                self._bytes += len(chunk)
                target.sendall(chunk)
        except OSError:
            return


def main() -> None:
    """Print the table."""
    measures = {"pipeline": measure_pipeline, "served": measure_served}
    print("| What | Measured | Target |\n|---|---|---|")
    for name in sys.argv[1:] or measures:
        with tempfile.TemporaryDirectory() as folder:
            measures[name](Path(folder))


if __name__ == "__main__":
    main()
