"""Speed of interpolating a video and of serving, as a Markdown table; docs/performance.md has the results.

python scripts/benchmark_serving.py [pipeline served transport]

`transport` times a model that gives its input back, so nothing but the protocol, the server and its python backend.
"""

import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import onnx
from measuring import head, medians, row
from onnx import helper
from triton_server import CannotServeError, serve

from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.data.frame_options import SceneOptions
from refine_export.data.images import uint8_from_frame
from refine_export.data.sample_scene import Scene
from refine_export.deploy.triton.deploy_options import TritonOptions
from refine_export.deploy.triton.names import ENSEMBLE
from refine_export.deploy.triton.repository import deploy_triton
from refine_export.deploy.verify.load_test import LoadRequest, measure_load
from refine_export.export.export_file import export_file
from refine_export.export.export_options import ExportOptions
from refine_export.export.reference_network import reference_network
from refine_export.interpolation.backends import cpu_cores
from refine_export.interpolation.interpolate_video import interpolate_video
from refine_export.interpolation.interpolation_options import EncoderOptions, VideoOptions
from refine_export.interpolation.interpolator import Interpolator, LocalInterpolator, ServedInterpolator
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.triton.client import TritonClient
from refine_export.runners.triton.connection_options import ServerOptions
from refine_export.support.progress import Silent

HEIGHT, WIDTH, FRAMES = 256, 448, 25
GRAPH = "interpolator"
TRANSPORT_SIZES = ((256, 448), (1088, 1920))
REQUESTS = 64
ECHO_TYPES = {"UINT8": (onnx.TensorProto.UINT8, np.uint8), "FP32": (onnx.TensorProto.FLOAT, np.float32)}
ECHO_CONFIG = """
name: "{name}"
platform: "onnxruntime_onnx"
input {{ name: "x" data_type: TYPE_{dtype} dims: [ -1, -1, 3 ] }}
output {{ name: "y" data_type: TYPE_{dtype} dims: [ -1, -1, 3 ] }}
instance_group {{ count: 1 kind: KIND_CPU }}
"""


def pictures(count: int = FRAMES) -> list[Any]:
    """Draw the procedural scene, uint8 [H, W, 3]."""
    scene = Scene(SceneOptions(height=HEIGHT, width=WIDTH, motion_px=40.0))
    return [uint8_from_frame(scene.frame(k / max(1, count - 1))) for k in range(count)]


def clip(path: Path) -> Path:
    """Write the scene as H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=WIDTH, height=HEIGHT)
        for picture in pictures():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def network(folder: Path) -> Path:
    """Export the network for frames of any size."""
    checkpoint = seeded_checkpoint("IFNet_m")
    path = folder / f"{GRAPH}.onnx"
    export_file(lambda: reference_network(checkpoint), checkpoint, GRAPH, ExportOptions(dynamic=True), path)
    return path


def opened(*interpolators: Interpolator) -> Any:
    """Make a backend that is open already, one for each thread: loading the network is not part of the rate."""
    free = list(interpolators)

    @contextmanager
    def once(stop: Event | None = None) -> Iterator[Interpolator]:
        interpolator = free.pop()
        yield interpolator
        free.append(interpolator)

    return SimpleNamespace(open=once, share=lambda size: nullcontext(len(interpolators)), identity={})


class Repeat(Interpolator):
    """An interpolator that computes nothing."""

    takes_timestep, provider = True, "nothing"

    def _interpolate(self, frame0: Any, frame1: Any, timestep: float) -> Any:
        return frame0

    def close(self) -> None:
        """Do nothing."""


def processor_s(call: Callable[[], object]) -> float:
    """Return the processor time of a call in seconds, of all threads."""
    started = time.process_time()
    call()
    return time.process_time() - started


def measure_pipeline(folder: Path) -> None:
    """Decode, inference and encode of a clip against inference alone on its frames."""
    source, frames = clip(folder / "in.mp4"), pictures()
    options = VideoOptions(scene_cuts=False), EncoderOptions()

    def whole(backend: Any) -> Callable[[], object]:
        return lambda: interpolate_video(source, folder / "out.mp4", *options, backend, force=True, progress=Silent())

    path = network(folder)
    with LocalInterpolator(OrtRunner(path)) as interpolator:

        def alone() -> None:
            for before, after in itertools.pairwise(frames):
                interpolator.interpolate(before, after, 0.5)

        streams = [LocalInterpolator(OrtRunner(path, threads=1)) for _ in range(cpu_cores())]
        inference, pipeline, in_one = medians(alone, whole(opened(*streams)), whole(opened(interpolator)), rounds=3)
        computing = processor_s(alone)
    what = f"video {HEIGHT}x{WIDTH}: decode, inference, encode / inference alone, rate"
    for name, seconds, limit in (("", pipeline, "≥ 0.95"), (", `--concurrency 1`", in_one, "")):
        rates = [(FRAMES - 1) / each for each in (seconds, inference)]
        row(what + name, f"{inference / seconds:.2f} ({rates[0]:.2f} / {rates[1]:.2f} a second)", limit)
    with Repeat() as repeat:
        others = processor_s(whole(opened(repeat)))
    row("all but inference / inference, processor time", f"{others / computing:.3f} ({others:.1f} s)", "≤ 0.05")


def measure_served(folder: Path) -> None:
    """The ensemble over gRPC against the local runner; the bytes of a request as uint8 and as FP32."""
    path = network(folder)
    deploy_triton([path], folder / "models", TritonOptions(device="cpu", sizes=(f"{HEIGHT}x{WIDTH}",)))
    before, after = pictures(2)
    with serve(folder / "models", [ENSEMBLE], log=folder / "server.log") as server:
        options = ServerOptions(url=server.grpc_url)
        with (
            LocalInterpolator(OrtRunner(path)) as local,
            ServedInterpolator(TritonClient(options)) as served,
        ):
            copied = medians(lambda: [picture.tobytes() for picture in (before, after, before)], rounds=21)[0]
            here, there = medians(
                lambda: local.interpolate(before, after, 0.5), lambda: served.interpolate(before, after, 0.5), rounds=15
            )
        figure = f"{(there - copied) / here:.2f} ({there * 1e3:.0f} / {here * 1e3:.0f} ms, copy {copied * 1e3:.1f} ms)"
        row(f"served ensemble over gRPC less the copy / local runner, {HEIGHT}x{WIDTH}, latency", figure, "≤ 1.25")
        with TritonClient(options) as client:
            client.server()  # connect
            timestep = np.full(1, 0.5, np.float32)
            planes = [np.moveaxis(picture, -1, 0)[None].astype(np.float32) / 255 for picture in (before, after)]
            as_pixels = {"frame0": before, "frame1": after, "timestep": timestep}
            as_planes = {"img0": planes[0], "img1": planes[1], "timestep": timestep.reshape(1, 1, 1, 1)}
            pixels = loopback_bytes(lambda: client.infer(ENSEMBLE, as_pixels))
            floats = loopback_bytes(lambda: client.infer(GRAPH, as_planes))
    figure = f"{pixels / floats:.3f} ({pixels / 2**20:.2f} / {floats / 2**20:.2f} MiB)"
    row("bytes on the wire: ensemble in uint8 / network in FP32", figure, "0.25")


def loopback_bytes(call: Callable[[], object]) -> int:
    """Return the bytes that cross the loopback interface during a call; other programs' bytes count, too."""

    def received() -> int:
        lines = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.lstrip().startswith("lo:")).partition(":")[2].split()[0])

    before = received()
    call()
    return received() - before


def measure_transport(folder: Path) -> None:
    """The cost of transport, by protocol and size."""
    for dtype, (element, _) in ECHO_TYPES.items():
        name = f"echo_{dtype.lower()}"
        ends = [helper.make_tensor_value_info(end, element, ["H", "W", 3]) for end in "xy"]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], name, ends[:1], ends[1:])
        (folder / name / "1").mkdir(parents=True)
        opset = [helper.make_opsetid("", 18)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), folder / name / "1" / "model.onnx")
        (folder / name / "config.pbtxt").write_text(ECHO_CONFIG.format(name=name, dtype=dtype), encoding="ascii")
    ways = list(itertools.product(("grpc", "http"), (False, True)))
    with serve(folder) as server:
        print()
        head("Size each way", "gRPC", "gRPC, shared memory", "HTTP", "HTTP, shared memory")
        for (height, width), dtype in itertools.product(TRANSPORT_SIZES, ECHO_TYPES):
            array = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(ECHO_TYPES[dtype][1])
            what = f"{height}x{width} {dtype}, {array.nbytes / 2**20:.1f} MiB"
            row(what, *(transport_figure(server, dtype, array, *way) for way in ways))


def transport_figure(server: Any, dtype: str, array: Any, protocol: str, shared: bool) -> str:
    """Time requests of one array: median and 95 % of the latency."""

    def problem(answer: Any) -> str | None:
        return None if np.array_equal(answer["y"], array) else "the answer is not the input"

    load = measure_load(
        ServerOptions(url=server.url(protocol), protocol=protocol, shared_memory=shared),  # type: ignore[arg-type]
        f"echo_{dtype.lower()}",
        "",
        [LoadRequest(inputs={"x": array}, why_wrong=problem)],
        array.shape[:2],
        concurrency=1,
        requests=REQUESTS,
    )
    if load.errors:
        raise SystemExit(load.reason)
    return f"{load.latency_ms['p50']:.1f} / {load.latency_ms['p95']:.1f} ms"


MEASURES = {"pipeline": measure_pipeline, "served": measure_served, "transport": measure_transport}


def main() -> None:
    """Print the table."""
    if unknown := set(sys.argv[1:]) - set(MEASURES):
        raise SystemExit(f"{__doc__}\nnot a measure: {', '.join(sorted(unknown))}")
    head("What", "Measured", "Target")
    for name in sys.argv[1:] or MEASURES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                MEASURES[name](Path(folder))
            except CannotServeError as error:
                row(name, f"not measured: {str(error).splitlines()[0]}", "")


if __name__ == "__main__":
    main()
