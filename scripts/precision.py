"""The tables of docs/precision.md: what FP16 costs, by size and by method, measured with the strict runner.

python scripts/precision.py [--frames A B] [warp refine interpolator choices search]

The frames are two pictures, cropped or mirrored to each size, or else the procedural scene. Every figure is a PSNR in
dB with peak 1.0 against FP32 (torch; for single warps and warped frames, the FP32 ONNX file).
"""

import argparse
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from precision_subjects import (
    HALFWAY,
    Arrays,
    converted,
    exported_warp,
    frames,
    kaiming_network,
    lowered,
    psnr,
    smooth_feed,
    smooth_flow,
    static,
    textured_feed,
    with_outputs,
)
from torch import nn

from refine_export.accuracy.metrics import distance, psnr_from_mse
from refine_export.checkpoint.checkpoint import demo_checkpoint, seeded_checkpoint
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.data.frame_source import Source, source_from_options
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.export.reference_network import reference_network
from refine_export.lower.fp32_islands import Bench, regions_of, search
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import calibrated, lower, prepare_model
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.strict_fp16 import HalfRunner
from refine_export.runners.torch import TorchRunner
from refine_export.signature import GraphName
from refine_export.support.progress import Silent

SIZES = ((256, 448), (736, 1280), (1088, 1920), (2176, 3840))


def row(*cells: object) -> None:
    """Print a line of a table as soon as it is known."""
    print(
        "| " + " | ".join(f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |", flush=True
    )


def head(*names: str) -> None:
    """Print the first two lines of a table."""
    print()
    row(*names)
    row(*("---" for _ in names))


def measure_warp(source: Source) -> None:
    """One warp, by method, size and runner."""
    head("One warp", "Runner", *(f"{height}x{width}" for height, width in SIZES))
    found: dict[tuple[str, str], list[float | str]] = {}
    for height, width in SIZES:
        model = exported_warp(height, width)
        feed = {"image": frames(source, height, width)["img0"], "flow": smooth_flow(height, width)[:, :2]}
        with OrtRunner(model.SerializeToString()) as runner:
            expected = runner.run(feed)
        methods = {
            "onnxconverter-common": converted(model),
            "this tool, FP16 images at input and output": lowered(model, None, LowerOptions(io="fp16")),
            "this tool, FP32 images": lowered(model, None),
        }
        for method, made in methods.items():
            content = made.SerializeToString()
            for name, runner_class in (("strict FP16", HalfRunner), ("ONNX Runtime", OrtRunner)):
                with runner_class(content) as runner:
                    value = next(iter(psnr(expected, runner, feed).values()))
                found.setdefault((method, name), []).append("equal" if np.isinf(value) else value)
        rounded = {name: array.astype(np.float16) for name, array in expected.items()}
        value = min(psnr_from_mse(distance(array, rounded[name], 1.0)[0]) for name, array in expected.items())
        found.setdefault(("no FP16 but in the result: the picture, rounded", "none"), []).append(value)
    for (method, name), values in found.items():
        row(method, name, *values)


def by_method(
    title: str,
    model: Callable[[int, int], onnx.ModelProto],
    reference: nn.Module,
    graph: GraphName,
    feed_at: Callable[[int, int], dict[str, np.ndarray[Any, Any]]],
    sizes: Iterable[tuple[int, int]],
) -> None:
    """A table of a graph's worst output, by method and size."""
    sizes = tuple(sizes)
    head(title, *(f"{height}x{width}" for height, width in sizes))
    found: dict[str, list[float]] = {}
    for height, width in sizes:
        made, feed = model(height, width), feed_at(height, width)
        with TorchRunner(reference, graph) as runner:
            expected = runner.run(feed)
        ours = lowered(made, graph, feed=feed)
        for name, content in (("onnxconverter-common", converted(made)), ("this tool", ours)):
            with HalfRunner(content.SerializeToString()) as half:
                found.setdefault(name, []).append(min(psnr(expected, half, feed).values()))
    for name, values in found.items():
        row(name, *values)


def measure_refine(source: Source) -> None:
    """`refine`, with well-scaled random weights, the seeded ones and the demo weights."""
    kaiming, seeded = kaiming_network("IFNet"), reference_network(seeded_checkpoint("IFNet"))
    demo = reference_network(demo_checkpoint())
    for name, reference, feed_at in (
        ("`refine`, Kaiming-scaled weights, smooth frames", kaiming, smooth_feed),
        ("`refine`, Kaiming-scaled weights, textured frames", kaiming, partial(textured_feed, source)),
        ("`refine`, seeded weights, textured frames", seeded, partial(textured_feed, source)),
        ("`refine`, demo weights, textured frames", demo, partial(textured_feed, source)),
    ):
        by_method(name, static(reference, "refine"), reference, "refine", feed_at, SIZES[:3])


def measure_interpolator(source: Source) -> None:
    """The frames warped inside `interpolator_m`, and the final frame, with seeded and with the demo weights."""
    for name, checkpoint in (("seeded", seeded_checkpoint("IFNet_m")), ("demo", demo_checkpoint())):
        by_warp(source, f"`interpolator_m`, {name} weights", reference_network(checkpoint), SIZES[:3])


def by_warp(source: Source, title: str, reference: nn.Module, sizes: Iterable[tuple[int, int]]) -> None:
    """A table of the final frame and of the worst warped frame, by method and size."""
    sizes = tuple(sizes)
    head(title, *(f"{height}x{width}" for height, width in sizes))
    found: dict[str, list[float]] = {}
    for height, width in sizes:
        model = static(reference, "interpolator_m")(height, width)
        nodes = [node for node in model.graph.node if node.op_type == "GridSample" and node.name.startswith("ifnet")]
        warped = [node.output[0] for node in nodes]
        feed = frames(source, height, width) | HALFWAY
        with OrtRunner(with_outputs(model, warped)) as runner:
            expected = runner.run(feed)
        ours = lowered(model, "interpolator_m", feed=feed)
        for name, made in (("onnxconverter-common", converted(model)), ("this tool", ours)):
            with HalfRunner(with_outputs(made, warped)) as half:
                values = psnr(expected, half, feed)
            found.setdefault(f"{name}, frame", []).append(values["frame"])
            found.setdefault(f"{name}, worst of {len(warped)} warped frames", []).append(
                min(values[name] for name in warped)
            )
    for name, worst in found.items():
        row(name, *worst)


def measure_choices(source: Source) -> None:
    """What the choices that the rule leaves open are worth."""
    choices = {
        "default": LowerOptions(),
        "everything behind the last convolution in FP16": LowerOptions(fp32_tail=False),
        "FP16 images at input and output": LowerOptions(io="fp16"),
        "GridSample written out in Gather": LowerOptions(gridsample="gather"),
        "BF16": LowerOptions(precision="bf16"),
    }
    size = SIZES[2]
    seeded, demo = reference_network(seeded_checkpoint("IFNet")), reference_network(demo_checkpoint())
    textured, pair = textured_feed(source, *size), frames(source, *size)
    subjects: dict[str, tuple[nn.Module, GraphName, Arrays]] = {
        "`refine`, Kaiming": (kaiming_network("IFNet"), "refine", textured),
        "`refine`, seeded": (seeded, "refine", textured),
        "`interpolator`, seeded": (seeded, "interpolator", pair),
        "`refine`, demo": (demo, "refine", textured),
        "`interpolator_m`, demo": (demo, "interpolator_m", pair | HALFWAY),
    }
    head(f"At {size[0]}x{size[1]}", *subjects, "multiply-adds not in FP32")
    models = {}
    for name, (reference, graph, feed) in subjects.items():
        with TorchRunner(reference, graph) as runner:
            models[name] = (onnx_from_network(reference, graph, ExportOptions()), runner.run(feed))
    for choice, options in choices.items():
        values: list[float] = []
        shares: list[float] = []
        for name, (_, graph, feed) in subjects.items():
            model, expected = models[name]
            prepared = calibrated(prepare_model(ir.from_proto(model), options, graph), [("feed", feed)])
            made = lower(prepared, options)
            shares.append(made.macs_low)
            with HalfRunner(made.model.SerializeToString()) as half:
                values.append(min(psnr(expected, half, feed).values()))
        row(choice, *values, f"{min(shares):.1%}")
    name, (_, graph, feed) = next(iter(subjects.items()))
    model, expected = models[name]
    made_bytes = lowered(model, graph, feed=feed).SerializeToString()
    with HalfRunner(made_bytes, rounding="final") as half:
        value = min(psnr(expected, half, feed).values())
    row("default, each convolution and its PReLU rounded once", value, *[""] * len(subjects))


def measure_search(source: Source) -> None:
    """What FP32 regions buy on `refine`, and at what share of FP16."""
    by_target(source, "Kaiming", kaiming_network("IFNet"))
    by_target(source, "demo", reference_network(demo_checkpoint()))


def by_target(source: Source, weights: str, reference: nn.Module) -> None:
    """A table of the regions that each target needs."""
    height, width = SIZES[0]
    feeds = [("textured", textured_feed(source, height, width))]
    model = onnx_from_network(reference, "refine", ExportOptions())
    prepared = calibrated(prepare_model(ir.from_proto(model), LowerOptions(), "refine"), feeds)
    regions = regions_of(prepared, LowerOptions())
    bench = Bench(prepared, LowerOptions(), feeds)
    start = bench.measure(())
    names = ("Reached", "Regions in FP32", "Multiply-adds left in FP16", "Bytes left in FP16")
    head(f"Target, `refine`, {weights}, {height}x{width}", *names)
    row("none", start.psnr_db, "none", "100.0%", "100.0%")
    for gain in (1, 3, 6, 10, 20):
        target = round(start.psnr_db + gain)
        found = search(regions, bench.measure, LowerOptions(target_psnr_db=float(target)), Silent())
        kept = ", ".join(step.region for step in found.steps) or ("none" if found.reached else "not reached by all")
        macs, moved = (1 - sum(getattr(step, share) for step in found.steps) for share in ("macs_share", "bytes_share"))
        row(f"{target} dB", found.final.psnr_db, kept, f"{macs:.1%}", f"{moved:.1%}")


MEASURES = {
    "warp": measure_warp,
    "refine": measure_refine,
    "interpolator": measure_interpolator,
    "choices": measure_choices,
    "search": measure_search,
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Print the tables of docs/precision.md.")
    parser.add_argument("--frames", nargs=2, metavar=("A", "B"), default=(), help="two pictures of equal size")
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=", ".join(MEASURES))
    given = parser.parse_args()
    source = source_from_options(FramesOptions(pair=tuple(given.frames)), SceneOptions())
    started = time.perf_counter()
    for name in given.measures or MEASURES:
        MEASURES[name](source)
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
