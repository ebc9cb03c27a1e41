"""The figures of docs/validation.md: how far good files and known-bad ones are from FP32 torch, feed by feed.

python scripts/calibrate.py OUT.jsonl --graph refine --precision fp16 --size 256x448 [--weights demo|kaiming|FILE] \
    [--frames A B] [--flow subpixel] [--fault fp16-coordinates] [--probe]

A line of JSON for each file, feed and output is added to OUT; `--table OUT.jsonl...` prints the worst of each.
"""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from precision_subjects import kaiming_network

from refine_export.accuracy.metrics import compare, signal_to_noise
from refine_export.checkpoint.checkpoint import checkpoint_from_file, demo_checkpoint, seeded_checkpoint
from refine_export.data.feeds import CALIBRATION_KINDS, Feed, feeds_for, probe_for
from refine_export.data.frame_options import FLOW_KINDS, FramesOptions, SceneOptions
from refine_export.data.frame_source import source_from_options
from refine_export.data.images import FramePair
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.export.reference_network import reference_network
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import calibrated, lower, prepare_model
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.strict_fp16 import HalfRunner
from refine_export.runners.torch import TorchRunner
from refine_export.self_test.mutants import Mutant, attempts_of
from refine_export.signature import SIGNATURES, parse_size


def files(options: argparse.Namespace, reference: Any) -> Iterator[tuple[str, onnx.ModelProto]]:
    """The good file, dynamic, and the known-bad ones made of it."""
    graph = options.graph
    model = onnx_from_network(reference, graph, ExportOptions())
    if options.precision == "fp16":
        pair = source_from_options(FramesOptions(), SceneOptions()).pair
        feeds = [(feed.name, feed.inputs) for feed in feeds_for(reference, graph, pair, kinds=CALIBRATION_KINDS)]
        prepared = prepare_model(ir.from_proto(model), LowerOptions(), graph, without_warp=graph == "unet")
        model = lower(calibrated(prepared, feeds), LowerOptions()).model
    yield "good", model
    for attempt in attempts_of(model, graph):
        if isinstance(attempt, Mutant) and (not options.fault or attempt.name in options.fault):
            yield attempt.name, attempt.model


def pairs(options: argparse.Namespace) -> Iterator[tuple[str, FramePair]]:
    """At each size, the frames that were asked for."""
    source = source_from_options(FramesOptions(pair=tuple(options.frames or ())), SceneOptions())
    for size in map(parse_size, options.size):
        yield source.pair.name, source.at(size)


def measure(options: argparse.Namespace) -> None:
    """Run everything, and add a line for each output."""
    architecture = "IFNet_m" if options.graph == "interpolator_m" else "IFNet"
    if options.weights == "seeded":
        reference = reference_network(seeded_checkpoint(architecture))
    elif options.weights == "demo":
        reference = reference_network(demo_checkpoint())
    elif options.weights == "kaiming":
        reference = kaiming_network(architecture)
    else:
        reference = reference_network(checkpoint_from_file(Path(options.weights)))
    made = [(name, model.SerializeToString()) for name, model in files(options, reference)]
    signature = SIGNATURES[options.graph]
    for label, pair in pairs(options):
        feeds = feeds_for(reference, options.graph, pair, kinds=options.flow, timesteps=(0.5, 0.2))
        if options.probe:
            label, feeds = "noise", probe_for(reference, options.graph, pair.size)
        for feed in feeds:
            with TorchRunner(reference, options.graph) as runner:
                expected = runner.run(feed.inputs)
            for name, content in made:
                with HalfRunner(content) if options.precision == "fp16" else OrtRunner(content) as runner:
                    types = {info.name: info.dtype for info in runner.inputs}
                    actual = runner.run({key: array.astype(types[key]) for key, array in feed.inputs.items()})
                for spec in signature.outputs:
                    metrics = compare(expected[spec.name], actual[spec.name], spec.quantity)
                    snr = signal_to_noise(expected[spec.name], actual[spec.name])
                    write(options, name, label, feed, spec.name, metrics, snr)


def write(
    options: argparse.Namespace, name: str, label: str, feed: Feed, output: str, metrics: Any, snr: float | None
) -> None:
    """One line, at once."""
    line = {
        "graph": options.graph,
        "precision": options.precision,
        "weights": Path(options.weights).name,
        "file": name,
        "frames": label,
        "feed": feed.name,
        "size": "x".join(map(str, feed.size)),
        "output": output,
        "feeds": "probe" if feed.probe else "frames",
        "psnr_db": metrics.psnr_db,
        "max_abs": None if metrics.max_abs is None else metrics.max_abs / metrics.peak,
        "p999_abs": None if metrics.p999_abs is None else metrics.p999_abs / metrics.peak,
        "snr_db": snr,
    }
    with Path(options.out[0]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(f"{name} {feed.name} {output}: {metrics.psnr_db} dB, {line['max_abs']}", flush=True)


def table(paths: list[str]) -> None:
    """Of each graph, precision, weights, class of flow and size: the worst good value and the best of each bad file."""
    lines = [json.loads(line) for path in paths for line in Path(path).read_text(encoding="utf-8").splitlines()]
    grouped: dict[tuple[str, ...], list[Any]] = defaultdict(list)
    for line in lines:
        key = tuple(line[name] for name in ("graph", "precision", "weights", "feeds", "size", "file"))
        grouped[key].append(line)
    print("| graph | weights | feeds | size | file | lowest PSNR dB | largest error | p99.9 | lowest SNR dB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (graph, precision, weights, kind, size, file), group in sorted(grouped.items()):
        psnr = min((line["psnr_db"] for line in group if line["psnr_db"] is not None), default=math.inf)
        worst = [
            max((line[name] for line in group if line[name] is not None), default=math.nan)
            for name in ("max_abs", "p999_abs")
        ]
        snr = min((line["snr_db"] for line in group if line["snr_db"] is not None), default=math.inf)
        print(
            f"| {graph} {precision} | {weights} | {kind} | {size} | {file} | {psnr:.1f} | {worst[0]:.1e} | "
            f"{worst[1]:.1e} | {snr:.1f} |"
        )


def main() -> None:
    """Measure, or print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="+")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--graph", choices=list(SIGNATURES), default="refine")
    parser.add_argument("--precision", choices=("fp32", "fp16"), default="fp16")
    parser.add_argument("--size", action="append", default=[])
    parser.add_argument("--weights", default="seeded")
    parser.add_argument("--frames", nargs=2)
    parser.add_argument("--flow", action="append", default=[])
    parser.add_argument("--fault", action="append", default=[])
    parser.add_argument("--probe", action="store_true", help="noise instead of frames")
    options = parser.parse_args()
    options.flow = options.flow or list(FLOW_KINDS)
    options.size = options.size or ["256x448"]
    table(options.out) if options.table else measure(options)


if __name__ == "__main__":
    main()
