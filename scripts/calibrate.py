"""The figures of docs/validation.md: the distance of good files and of known-bad ones from FP32 torch, feed by feed.

python scripts/calibrate.py OUT.jsonl --graph refine --precision fp16 --size 256x448 [--weights rife-4.0|kaiming|FILE] \
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
from measuring import head, row
from precision_subjects import kaiming_network, lowered, run

from refine_export.accuracy.metrics import compare, signal_to_noise
from refine_export.checkpoint.checkpoint import checkpoint_from_options, seeded_checkpoint
from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.data.feeds import CALIBRATION_KINDS, feeds_for, probe_for
from refine_export.data.frame_options import FLOW_KINDS, FramesOptions, SceneOptions
from refine_export.data.frame_source import source_from_options
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.export.reference_network import reference_network, signature_of_network
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.strict_fp16 import HalfRunner
from refine_export.runners.torch import TorchRunner
from refine_export.self_test.mutants import mutants_of
from refine_export.signature import SIGNATURES, parse_size


def files(options: argparse.Namespace, reference: Any) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Make the good file, dynamic, and the known-bad ones from it."""
    graph, signature = options.graph, signature_of_network(reference, options.graph)
    model = onnx_from_network(reference, graph, ExportOptions())
    if options.precision == "fp16":
        pair = source_from_options(FramesOptions(), SceneOptions()).pair
        feeds = [(feed.name, feed.inputs) for feed in feeds_for(reference, signature, pair, kinds=CALIBRATION_KINDS)]
        model = lowered(model, signature, feeds=feeds, without_warp=graph == "unet")
    yield "good", model
    for mutant in mutants_of(model, graph):
        if not options.fault or mutant.name in options.fault:
            yield mutant.name, mutant.model


def network(options: argparse.Namespace) -> Any:
    """Load the reference network that was asked for."""
    architecture = "IFNet_m" if options.graph == "interpolator" else "IFNet"
    if options.weights == "kaiming":
        return kaiming_network(architecture)
    if options.weights == "seeded":
        return reference_network(seeded_checkpoint(architecture))
    return reference_network(checkpoint_from_options(CheckpointOptions(path=options.weights)))


def measure(options: argparse.Namespace) -> None:
    """Run everything, and add a line for each output as soon as it is measured."""
    reference = network(options)
    made = [(name, model.SerializeToString()) for name, model in files(options, reference)]
    source = source_from_options(FramesOptions(pair=tuple(options.frames or ())), SceneOptions())
    signature = signature_of_network(reference, options.graph)
    for size in map(parse_size, options.size):
        pair = source.at(size)
        feeds = feeds_for(reference, signature, pair, kinds=options.flow, timesteps=(0.5, 0.2))
        if options.probe:
            feeds = probe_for(reference, signature, size)
        for feed in feeds:
            with TorchRunner(reference, options.graph) as runner:
                expected = runner.run(feed.inputs)
            for name, content in made:
                with HalfRunner(content) if options.precision == "fp16" else OrtRunner(content) as runner:
                    actual = run(runner, feed.inputs)
                for spec in SIGNATURES[options.graph].outputs:
                    reference_array, array = expected[spec.name], actual[spec.name]
                    metrics = compare(reference_array, array, spec.quantity, with_ssim=True)
                    line = {
                        "graph": options.graph,
                        "precision": options.precision,
                        "weights": Path(options.weights).name,
                        "file": name,
                        "frames": "noise" if feed.probe else source.pair.name,
                        "feed": feed.name,
                        "size": "x".join(map(str, size)),
                        "output": spec.name,
                        "feeds": "probe" if feed.probe else "frames",
                        "psnr_db": metrics.psnr_db,
                        "max_abs": None if metrics.max_abs is None else metrics.max_abs / metrics.peak,
                        "p999_abs": None if metrics.p999_abs is None else metrics.p999_abs / metrics.peak,
                        "ssim": metrics.ssim,
                        "snr_db": signal_to_noise(reference_array, array),
                    }
                    with Path(options.out[0]).open("a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
                    print(f"{name} {feed.name} {spec.name}: {line['psnr_db']} dB, {line['max_abs']}", flush=True)


def table(paths: list[str]) -> None:
    """Print the worst value of each graph, precision, weights, class of feeds, size and file."""
    lines = [json.loads(line) for path in paths for line in Path(path).read_text(encoding="utf-8").splitlines()]
    grouped: dict[tuple[str, ...], list[Any]] = defaultdict(list)
    for line in lines:
        key = tuple(line[name] for name in ("graph", "precision", "weights", "feeds", "size", "file"))
        grouped[key].append(line)
    worst = ("lowest PSNR dB", "largest error", "p99.9", "SSIM", "lowest SNR dB")
    head("graph", "weights", "feeds", "size", "file", *worst)
    for (graph, precision, *rest), group in sorted(grouped.items()):

        def values(name: str, group: list[Any] = group) -> Iterator[float]:
            return (line[name] for line in group if line[name] is not None)

        errors = (f"{max(values(name), default=math.nan):.1e}" for name in ("max_abs", "p999_abs"))
        psnr, snr = (min(values(name), default=math.inf) for name in ("psnr_db", "snr_db"))
        row(f"{graph} {precision}", *rest, psnr, *errors, f"{min(values('ssim'), default=math.nan):.5f}", snr)


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
