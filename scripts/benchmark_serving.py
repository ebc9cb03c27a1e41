"""What the way to a Triton server costs, by protocol, size and clients at once, as a Markdown table; see benchmark.py.

python scripts/benchmark_serving.py

The model gives its input back, so that nothing but transport, the server and its python backend is measured.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper
from triton_server import CannotServeError, serve

from refine_export.deploy.verify.load_test import LoadRequest, measure_load
from refine_export.runners.triton.client import ServerOptions

SIZES = ((256, 448), (1088, 1920))
CLIENTS = (1, 4)
REQUESTS = 64
CONFIG = """
name: "{name}"
platform: "onnxruntime_onnx"
input {{ name: "x" data_type: TYPE_{dtype} dims: [ -1, -1, 3 ] }}
output {{ name: "y" data_type: TYPE_{dtype} dims: [ -1, -1, 3 ] }}
instance_group {{ count: 1 kind: KIND_CPU }}
"""
TYPES = {"UINT8": (onnx.TensorProto.UINT8, np.uint8), "FP32": (onnx.TensorProto.FLOAT, np.float32)}


def repository(folder: Path) -> Path:
    """A model for each type that gives its input back."""
    for dtype, (element, _) in TYPES.items():
        name = f"echo_{dtype.lower()}"
        ends = [helper.make_tensor_value_info(end, element, ["H", "W", 3]) for end in "xy"]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], name, ends[:1], ends[1:])
        (folder / name / "1").mkdir(parents=True)
        opset = [helper.make_opsetid("", 18)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), folder / name / "1" / "model.onnx")
        (folder / name / "config.pbtxt").write_text(CONFIG.format(name=name, dtype=dtype))
    return folder


def load_request(array: Any) -> LoadRequest:
    """The array, which is to come back as it is."""
    return LoadRequest(
        inputs={"x": array}, why_wrong=lambda answer: None if np.array_equal(answer["y"], array) else "it is another"
    )


def main() -> None:
    """Print the table."""
    print("| Size each way | clients | gRPC | gRPC, shared memory | HTTP | HTTP, shared memory |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, serve(repository(Path(folder))) as server:
        for height, width in SIZES:
            for dtype, (_, kind) in TYPES.items():
                array = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(kind)
                for clients in CLIENTS:
                    cells = []
                    for protocol in ("grpc", "http"):
                        for shared in (False, True):
                            options = ServerOptions(url=server.url(protocol), protocol=protocol, shared_memory=shared)
                            load = measure_load(
                                options,
                                protocol,
                                f"echo_{dtype.lower()}",
                                "",
                                [load_request(array)],
                                (height, width),
                                concurrency=clients,
                                requests=REQUESTS,
                            )
                            if load.errors:
                                raise SystemExit(load.reason)
                            times = load.latency_ms
                            cells.append(f"{times['p50']:.1f} / {times['p95']:.1f} ms, {load.per_second:.0f} a second")
                    what = f"{height}x{width} {dtype}, {array.nbytes / 2**20:.1f} MiB"
                    print(f"| {what} | {clients} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    try:
        main()
    except CannotServeError as error:
        raise SystemExit(f"not measured: {error}") from error
