"""The table of docs/validation.md: right files and known-bad ones under the limits, by network and size.

python scripts/calibrate.py OUT.jsonl [--weights rife-4.0] [--size 256x448] [--frames A B] [--precision fp16] ...

Without options it makes the whole table: three released networks, five sizes, FP32 and FP16, on the default pictures
and the drawn scene; hours on two cores, so what OUT has already is not measured again.
`--table OUT.jsonl` prints what was measured. `--rounding` prints at once, for files in FP32, how far float64,
rounded arithmetic and the file in ONNX Runtime are from the reference: the second has to stand for the first.
"""

import argparse
import json
import tempfile
from collections import defaultdict
from operator import itemgetter
from pathlib import Path
from typing import Any

import onnx
from measuring import head, row
from precision_subjects import lowered

from refine_export.accuracy.metrics import compare
from refine_export.artifacts import artifact_from_file
from refine_export.checkpoint.checkpoint import checkpoint_from_options
from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.data.feeds import CALIBRATION_KINDS, PROBE_SIZE, feeds_for, probe_for
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.data.frame_source import Source, source_from_options
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.export.reference_network import reference_network, signature_of_network
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.torch import TorchRunner
from refine_export.self_test.self_test import self_test
from refine_export.signature import SIGNATURES, parse_size
from refine_export.support.text import size_text
from refine_export.validate.validate_options import ValidateOptions

WEIGHTS = ("rife-4.0", "rife-4.0 without refinement", "hdv3")
SIZES = ("64x96", "256x448", "736x1280", "1088x1920", "2176x3840")
PLAIN = " without refinement"


def checkpoint_options(weights: str) -> CheckpointOptions:
    """Return the options for a name of `WEIGHTS`, or a path."""
    return CheckpointOptions(path=weights.removesuffix(PLAIN), refine=not weights.endswith(PLAIN))


def make_file(folder: Path, network: Any, graph: str, precision: str, source: Source) -> Path:
    """Export the graph for any size, and lower it with the ranges that `source` shows."""
    signature = signature_of_network(network, graph)
    model = onnx_from_network(network, graph, ExportOptions())
    if precision == "fp16":
        feeds = feeds_for(network, signature, source.pair, kinds=CALIBRATION_KINDS)
        model = lowered(model, signature, feeds=((feed.name, feed.inputs) for feed in feeds))
    path = folder / f"{graph}.{precision}.onnx"
    onnx.save(model, path)
    return path


def sources_of(options: argparse.Namespace) -> list[Source]:
    """Return the pairs of frames, and the scene."""
    scene = source_from_options(FramesOptions(sample="scene"), SceneOptions())
    pairs = [FramesOptions(pair=tuple(pair)) for pair in options.frames] or [FramesOptions()]
    return [*(source_from_options(pair, SceneOptions()) for pair in pairs), scene]


def measure(options: argparse.Namespace) -> None:
    """Try every file at every size, and add a line as soon as one is done."""
    out = Path(options.out)
    done = {tuple(line["key"]) for line in read(out)} if out.exists() else set()
    sources = sources_of(options)
    validate = ValidateOptions(**({"timesteps": tuple(options.timestep)} if options.timestep else {}))
    for weights in options.weights:
        network = reference_network(checkpoint_from_options(checkpoint_options(weights)))
        signature = signature_of_network(network, options.graph)
        for precision in options.precision:
            with tempfile.TemporaryDirectory() as folder:
                path = make_file(Path(folder), network, options.graph, precision, sources[-1])
                artifact = artifact_from_file(path)
                for size, source in ((size, source) for size in options.size for source in sources):
                    key = (options.graph, weights, precision, size_text(size), source.at(size).name)
                    if key in done:  # the default pictures are the scene at larger sizes
                        continue
                    done.add(key)
                    feeds = [
                        *feeds_for(network, signature, source.at(size), timesteps=validate.timesteps),
                        *probe_for(network, signature, PROBE_SIZE),
                    ]
                    tested = self_test(
                        path, artifact, network, feeds, options=validate, faults=options.fault, every_feed=True
                    )
                    line = {"key": key, **tested.to_dict()}
                    with out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
                    print(*key, tested.status, *tested.problems, f"({tested.seconds:.0f} s)", sep=", ", flush=True)


def measure_rounding(options: argparse.Namespace) -> None:
    """Print the distances from the reference: of float64, of rounded arithmetic, of the file."""
    head("graph", "weights", "size", "feed", "output", "float64", "rounded", "ONNX Runtime", "largest error: each")
    for weights in options.weights:
        network = reference_network(checkpoint_from_options(checkpoint_options(weights)))
        signature = signature_of_network(network, options.graph)
        model = onnx_from_network(network, options.graph, ExportOptions()).SerializeToString()
        for size, source in ((size, one) for size in options.size for one in sources_of(options)):
            for feed in feeds_for(network, signature, source.at(size)):
                with TorchRunner(network, options.graph) as reference:
                    expected = reference.run(feed.inputs)
                found = []
                for other in (
                    TorchRunner(network, options.graph, dtype="float64"),
                    TorchRunner(network, options.graph, rounded_to="fp32"),
                    OrtRunner(model),
                ):
                    with other as runner:
                        found.append(runner.run(feed.inputs))
                for spec in signature.outputs:
                    all_metrics = [compare(expected[spec.name], one[spec.name], spec.quantity) for one in found]
                    levels = (metrics.psnr_db or "equal" for metrics in all_metrics)
                    errors = ", ".join(f"{metrics.max_of_peak:.1e}" for metrics in all_metrics)
                    row(options.graph, weights, size_text(size), feed.name, spec.name, *levels, errors)


def read(path: Path) -> list[dict[str, Any]]:
    """Return what was measured."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(path: Path) -> None:
    """Print a line for each file: at each size the right file's worst error and that of the fault nearest to 1."""
    lines: dict[tuple[str, ...], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for line in read(path):
        lines[tuple(line["key"][:3])][line["key"][3]].append(line)
    head("graph", "weights", "file", *SIZES)
    tried: list[str] = []
    for key, sizes in lines.items():
        cells = []
        for found in (sizes.get(size, []) for size in SIZES):
            faults = [one for line in found for one in line["mutants"] if one["outcome"] in ("passed", "failed")]
            tried += [one["outcome"] for one in faults]
            right = max((line["good"]["margin"] for line in found), default=None)
            nearest = min((one for one in faults if one["margin"] is not None), key=itemgetter("margin"), default=None)
            cells.append("" if right is None else f"{right:.2f}")
            cells[-1] += f"; {nearest['name']} {nearest['margin']:.1f}" if nearest else ""
        row(*key, *cells)
    print(f"\n{tried.count('failed')} of {len(tried)} faults stopped")


def main() -> None:
    """Measure, or print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", default="calibration.jsonl")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--rounding", action="store_true")
    parser.add_argument(
        "--fault", action="append", metavar="NAME", help="of the known-bad files, or none; default: all"
    )
    parser.add_argument("--timestep", action="append", type=float, default=[])
    parser.add_argument("--graph", choices=list(SIGNATURES), default="interpolator")
    parser.add_argument("--precision", action="append", choices=("fp32", "fp16"), default=[])
    parser.add_argument("--size", action="append", type=parse_size, default=[])
    parser.add_argument("--weights", action="append", default=[], help=f"{', '.join(WEIGHTS)}, or a file")
    parser.add_argument("--frames", action="append", nargs=2, default=[])
    options = parser.parse_args()
    options.precision = options.precision or ["fp32", "fp16"]
    options.size = options.size or [parse_size(size) for size in SIZES]
    options.weights = options.weights or list(WEIGHTS)
    if options.table:
        table(Path(options.out))
    elif options.rounding:
        measure_rounding(options)
    else:
        measure(options)


if __name__ == "__main__":
    main()
