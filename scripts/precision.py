"""The tables of docs/precision.md: what FP16 costs, by size and by method, measured with the strict runner.

python scripts/precision.py [--frames A B] [warp refine interpolator choices search]

The frames are two pictures, cropped or mirrored to each size, or else the procedural scene. Every figure is a PSNR in
dB with peak 1.0 against FP32 (torch; for single warps and warped frames, the FP32 ONNX file).
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from measuring import head, row
from precision_subjects import (
    HALFWAY,
    Arrays,
    Size,
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
from refine_export.support.text import size_text

SIZES = ((256, 448), (736, 1280), (1088, 1920), (2176, 3840))
Rows = defaultdict[str, list[float | str]]


def table(title: str, sizes: tuple[Size, ...], rows: Rows) -> None:
    """Print a table with a column for each size."""
    print()
    head(title, *map(size_text, sizes))
    for name, values in rows.items():
        row(name, *values)


def measure_warp(source: Source) -> None:
    """One warp, by method, size and runner."""
    rows: Rows = defaultdict(list)
    for size in SIZES:
        model = exported_warp(size)
        feed = {"image": frames(source, size)["img0"], "flow": smooth_flow(size)[:, :2]}
        with OrtRunner(model.SerializeToString()) as runner:
            expected = runner.run(feed)
        methods = {
            "onnxconverter-common": converted(model),
            "this tool, FP16 images at input and output": lowered(model, None, LowerOptions(io="fp16")),
            "this tool, FP32 images": lowered(model, None),
        }
        for method, made in methods.items():
            for name, runner_class in (("strict FP16", HalfRunner), ("ONNX Runtime", OrtRunner)):
                with runner_class(made.SerializeToString()) as runner:
                    value = min(psnr(expected, runner, feed).values())
                rows[f"{method}; {name}"].append("equal" if np.isinf(value) else value)
        rounded = (distance(array, array.astype(np.float16), 1.0)[0] for array in expected.values())
        rows["no FP16 but in the result: the picture, rounded"].append(psnr_from_mse(max(rounded)))
    table("One warp; runner", SIZES, rows)


def measure_refine(source: Source) -> None:
    """`refine`, with well-scaled random weights, the seeded ones and the demo weights."""
    kaiming, seeded = kaiming_network("IFNet"), reference_network(seeded_checkpoint("IFNet"))
    demo = reference_network(demo_checkpoint())
    for name, reference, feed_at in (
        ("`refine`, Kaiming-scaled weights, smooth frames", kaiming, smooth_feed),
        ("`refine`, Kaiming-scaled weights, textured frames", kaiming, textured_feed),
        ("`refine`, seeded weights, textured frames", seeded, textured_feed),
        ("`refine`, demo weights, textured frames", demo, textured_feed),
    ):
        by_method(source, name, reference, feed_at)


def by_method(
    source: Source, title: str, reference: nn.Module, feed_at: Callable[[Source, Size], dict[str, np.ndarray]]
) -> None:
    """Print the worst output of `refine` by method and size."""
    rows: Rows = defaultdict(list)
    for size in SIZES[:3]:
        model, feed = static(reference, "refine", size), feed_at(source, size)
        with TorchRunner(reference, "refine") as runner:
            expected = runner.run(feed)
        ours = lowered(model, "refine", feeds=[("feed", feed)])
        for name, made in (("onnxconverter-common", converted(model)), ("this tool", ours)):
            with HalfRunner(made.SerializeToString()) as half:
                rows[name].append(min(psnr(expected, half, feed).values()))
    table(title, SIZES[:3], rows)


def measure_interpolator(source: Source) -> None:
    """The frames warped inside `interpolator_m`, and the final frame, with seeded and with the demo weights."""
    for weights, checkpoint in (("seeded", seeded_checkpoint("IFNet_m")), ("demo", demo_checkpoint())):
        reference, rows = reference_network(checkpoint), defaultdict(list)
        for size in SIZES[:3]:
            model = static(reference, "interpolator_m", size)
            samplers = [node for node in model.graph.node if node.op_type == "GridSample"]
            warped = [node.output[0] for node in samplers if node.name.startswith("ifnet")]
            feed = frames(source, size) | HALFWAY
            with OrtRunner(with_outputs(model, warped)) as runner:
                expected = runner.run(feed)
            ours = lowered(model, "interpolator_m", feeds=[("feed", feed)])
            for name, made in (("onnxconverter-common", converted(model)), ("this tool", ours)):
                with HalfRunner(with_outputs(made, warped)) as half:
                    values = psnr(expected, half, feed)
                rows[f"{name}, frame"].append(values["frame"])
                rows[f"{name}, worst of {len(warped)} warped frames"].append(min(values[name] for name in warped))
        table(f"`interpolator_m`, {weights} weights", SIZES[:3], rows)


def measure_choices(source: Source) -> None:
    """The choices that the rule leaves open."""
    choices = {
        "default": LowerOptions(),
        "everything behind the last convolution in FP16": LowerOptions(fp32_tail=False),
        "FP16 images at input and output": LowerOptions(io="fp16"),
        "GridSample written out in Gather": LowerOptions(gridsample="gather"),
        "BF16": LowerOptions(precision="bf16"),
    }
    size = SIZES[2]
    seeded, demo = reference_network(seeded_checkpoint("IFNet")), reference_network(demo_checkpoint())
    textured, pair = textured_feed(source, size), frames(source, size)
    subjects: dict[str, tuple[nn.Module, GraphName, Arrays]] = {
        "`refine`, Kaiming": (kaiming_network("IFNet"), "refine", textured),
        "`refine`, seeded": (seeded, "refine", textured),
        "`interpolator`, seeded": (seeded, "interpolator", pair),
        "`refine`, demo": (demo, "refine", textured),
        "`interpolator_m`, demo": (demo, "interpolator_m", pair | HALFWAY),
    }
    print()
    head(f"At {size_text(size)}", *subjects, "multiply-adds not in FP32")
    models = {}
    for name, (reference, graph, feed) in subjects.items():
        with TorchRunner(reference, graph) as runner:
            models[name] = (onnx_from_network(reference, graph, ExportOptions()), runner.run(feed))
    for choice, options in choices.items():
        values: list[float] = []
        shares: list[float] = []
        for name, (_, graph, feed) in subjects.items():
            model, expected = models[name]
            made = lower(calibrated(prepare_model(ir.from_proto(model), options, graph), [("feed", feed)]), options)
            shares.append(made.macs_low)
            with HalfRunner(made.model.SerializeToString()) as half:
                values.append(min(psnr(expected, half, feed).values()))
        row(choice, *values, f"{min(shares):.1%}")
    name, (_, graph, feed) = next(iter(subjects.items()))
    model, expected = models[name]
    content = lowered(model, graph, feeds=[("feed", feed)]).SerializeToString()
    with HalfRunner(content, rounding="final") as half:
        value = min(psnr(expected, half, feed).values())
    row("default, each convolution and its PReLU rounded once", value, *[""] * len(subjects))


def measure_search(source: Source) -> None:
    """The gain by FP32 regions on `refine`, and the share of FP16 that is left."""
    networks = {"Kaiming": kaiming_network("IFNet"), "demo": reference_network(demo_checkpoint())}
    for weights, reference in networks.items():
        feeds = [("textured", textured_feed(source, SIZES[0]))]
        model = onnx_from_network(reference, "refine", ExportOptions())
        prepared = calibrated(prepare_model(ir.from_proto(model), LowerOptions(), "refine"), feeds)
        regions = regions_of(prepared, LowerOptions())
        bench = Bench(prepared, LowerOptions(), feeds)
        start = bench.measure(())
        names = ("Reached", "Regions in FP32", "Multiply-adds left in FP16", "Bytes left in FP16")
        print()
        head(f"Target, `refine`, {weights}, {size_text(SIZES[0])}", *names)
        row("none", start.psnr_db, "none", "100.0%", "100.0%")
        for gain in (1, 3, 6, 10, 20):
            target = round(start.psnr_db + gain)
            found = search(regions, bench.measure, LowerOptions(target_psnr_db=float(target)), Silent())
            kept = ", ".join(step.region for step in found.steps) or ("none" if found.reached else "not reached by all")
            left = (1 - sum(getattr(step, share) for step in found.steps) for share in ("macs_share", "bytes_share"))
            row(f"{target} dB", found.final.psnr_db, kept, *(f"{share:.1%}" for share in left))


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
