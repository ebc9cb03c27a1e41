"""Print what each version of TensorRT for RTX makes of small ONNX graphs, and of given files; no GPU is needed.

python scripts/rtx_versions.py [--environments FOLDER] [FILE.onnx ...]

Each version gets a virtual environment of its own, which is kept. Each graph is parsed and built in a process of its
own, since a build can crash. Free sizes of files are taken as 1, 256 and 448.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from measuring import head, row
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor, make_tensor_value_info

VERSIONS = ("1.4.0.76", "1.5.0.114", "1.6.1.120", "1.7.1.116")
FLOAT, HALF, BF16, UINT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.UINT8

# Run by each environment's own python, which has nothing but the library.
PROGRAM = """
import json, sys, time
import tensorrt_rtx as trt

errors = []

class Logger(trt.ILogger):
    def __init__(self):
        trt.ILogger.__init__(self)

    def log(self, severity, text):
        if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
            errors.append(text)

logger = Logger()
builder = trt.Builder(logger)
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
parser = trt.OnnxParser(network, logger)
if not parser.parse(open(sys.argv[1], "rb").read()):
    sys.exit(json.dumps({"verdict": "not parsed", "why": parser.get_error(0).desc()}))
kinds = []
for layer in map(network.get_layer, range(network.num_layers)):
    if layer.type == trt.LayerType.GRID_SAMPLE:
        layer.__class__ = trt.IGridSampleLayer
        kinds.append(layer.interpolation_mode.name)
    elif layer.type == trt.LayerType.RESIZE:
        layer.__class__ = trt.IResizeLayer
        kinds.append(f"{layer.resize_mode.name} {layer.coordinate_transformation.name}")
config, profile = builder.create_builder_config(), builder.create_optimization_profile()
for tensor in map(network.get_input, range(network.num_inputs)):
    shape = [size if size >= 0 else free for size, free in zip(tensor.shape, (1, 1, 256, 448))]
    if list(tensor.shape) != shape:
        profile.set_shape(tensor.name, shape, shape, shape)
config.add_optimization_profile(profile)
started = time.perf_counter()
plan = builder.build_serialized_network(network, config)
found = {"kinds": sorted(set(kinds)), "layers": network.num_layers, "why": errors[0] if errors else ""}
if plan is None:
    sys.exit(json.dumps({"verdict": "not built", **found}))
sys.exit(json.dumps({"verdict": "built", "seconds": time.perf_counter() - started, "bytes": plan.nbytes, **found}))
"""


def graph(
    nodes: list[onnx.NodeProto], inputs: Mapping[str, tuple[int, list[int]]], result: int, opset: int, *more: Any
) -> onnx.ModelProto:
    """Make a model with the output `y`; `more` are its initializers."""
    given = [make_tensor_value_info(name, dtype, shape) for name, (dtype, shape) in inputs.items()]
    made = make_graph(nodes, "probe", given, [make_tensor_value_info("y", result, None)], more)
    return make_model(made, opset_imports=[make_opsetid("", opset)], ir_version=10)


def sampler(opset: int, x: int = FLOAT, grid: int = FLOAT, **mode: str) -> onnx.ModelProto:
    """Make a GridSample, with the types of its inputs."""
    node = make_node("GridSample", ["x", "grid"], ["y"], padding_mode="border", align_corners=1, **mode)
    return graph([node], {"x": (x, [1, 4, 32, 32]), "grid": (grid, [1, 32, 32, 2])}, x, opset)


def convolution(operator: str, dtype: int) -> onnx.ModelProto:
    """Make a convolution whose input and weights have one type."""
    weights = make_tensor("w", dtype, [4, 4, 4, 4], [0.5] * 256)
    node = make_node(operator, ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1])
    return graph([node], {"x": (dtype, [1, 4, 32, 32])}, dtype, 18, weights)


def resize(mode: str, transformation: str, *, sizes: str = "", **more: int) -> onnx.ModelProto:
    """Make a Resize to the double, by constant scales or by `sizes`: constant, or computed from the input's shape."""
    values = [
        make_tensor("scales", FLOAT, [4], [1, 1, 2, 2]),
        make_tensor("two", TensorProto.INT64, [4], [1, 1, 2, 2]),
        make_tensor("constant", TensorProto.INT64, [4], [1, 4, 64, 64]),
    ]
    inputs = ["x", "", "", sizes] if sizes else ["x", "", "scales"]
    node = make_node("Resize", inputs, ["y"], mode=mode, coordinate_transformation_mode=transformation, **more)
    shape = [make_node("Shape", ["x"], ["shape"]), make_node("Mul", ["shape", "two"], ["computed"])]
    nodes = [*shape, node] if sizes == "computed" else [node]
    return graph(nodes, {"x": (FLOAT, [1, 4, 32, 32])}, FLOAT, 18, *values)


def uint8_frames() -> onnx.ModelProto:
    """Make a graph that takes and returns bytes, and computes in FP16."""
    nodes = [
        make_node("Cast", ["x"], ["half"], to=HALF),
        make_node("Relu", ["half"], ["result"]),
        make_node("Cast", ["result"], ["y"], to=UINT8),
    ]
    return graph(nodes, {"x": (UINT8, [1, 3, 32, 32])}, UINT8, 18)


PROBES: Mapping[str, onnx.ModelProto] = {
    "GridSample, opset 16, `bilinear`": sampler(16, mode="bilinear"),
    "GridSample, opset 18, `bilinear`": sampler(18, mode="bilinear"),
    "GridSample, opset 20, `linear`": sampler(20, mode="linear"),
    "GridSample, opset 22, `linear`": sampler(22, mode="linear"),
    "GridSample, opset 20, no mode": sampler(20),
    "GridSample, FP16 picture, FP32 grid": sampler(18, HALF, FLOAT, mode="bilinear"),
    "GridSample, FP32 picture, FP16 grid": sampler(18, FLOAT, HALF, mode="bilinear"),
    "GridSample, both FP16": sampler(18, HALF, HALF, mode="bilinear"),
    "Conv, BF16": convolution("Conv", BF16),
    "ConvTranspose, FP16": convolution("ConvTranspose", HALF),
    "ConvTranspose, BF16": convolution("ConvTranspose", BF16),
    "Resize, linear, half_pixel": resize("linear", "half_pixel"),
    "Resize, linear, pytorch_half_pixel": resize("linear", "pytorch_half_pixel"),
    "Resize, linear, align_corners": resize("linear", "align_corners"),
    "Resize, nearest, asymmetric": resize("nearest", "asymmetric"),
    "Resize, cubic, half_pixel": resize("cubic", "half_pixel"),
    "Resize, constant sizes": resize("linear", "half_pixel", sizes="constant"),
    "Resize, sizes from Shape": resize("linear", "half_pixel", sizes="computed"),
    "Resize, antialias": resize("linear", "half_pixel", antialias=1),
    "uint8 in and out": uint8_frames(),
}


def python_of(version: str, environments: Path) -> Path:
    """Return the interpreter of a version's environment, which is made where it is missing."""
    folder = environments / version
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    ready = folder / "ready"
    if not ready.exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"tensorrt-rtx=={version}"], check=True)
        ready.touch()
    return python


def result_of(python: Path, file: Path) -> dict[str, Any]:
    """Parse and build a file in a process of its own."""
    done = subprocess.run([python, "-c", PROGRAM, file], capture_output=True, text=True, check=False)
    last = done.stderr.strip().rpartition("\n")[2]
    if not last.startswith("{"):
        return {"verdict": f"crashed ({done.returncode})", "why": last}
    result: dict[str, Any] = json.loads(last)
    return result


def cell_of(result: Mapping[str, Any], *, with_figures: bool) -> str:
    """Write a result in a few words."""
    words = [result["verdict"], *result.get("kinds", [])]
    if with_figures and result["verdict"] == "built":
        words = [f"{result['seconds']:.1f} s", f"{result['bytes'] / 1e6:.1f} MB", f"{result['layers']} layers"]
    return ", ".join(words)


def main() -> None:
    """Print the table, then the reasons of failures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.onnx")
    parser.add_argument("--environments", type=Path, default=Path(tempfile.gettempdir()) / "rtx_versions")
    given = parser.parse_args()
    pythons = {version: python_of(version, given.environments) for version in VERSIONS}
    reasons: list[str] = []
    head("Graph", *VERSIONS)
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "probe.onnx"
        for name, subject in (*PROBES.items(), *((f"`{file.name}`", file) for file in given.files)):
            if not isinstance(subject, Path):
                onnx.save(subject, probe)
            file = subject if isinstance(subject, Path) else probe
            results = {version: result_of(python, file) for version, python in pythons.items()}
            row(name, *(cell_of(result, with_figures=file is not probe) for result in results.values()))
            failed = [(version, result["why"]) for version, result in results.items() if result["verdict"] != "built"]
            if failed:  # the reasons of the newest version
                reasons.append(f"{name} ({failed[-1][0]}): {' '.join(failed[-1][1].split())[:300]}")
    print("", *reasons, sep="\n")


if __name__ == "__main__":
    main()
