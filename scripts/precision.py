"""The tables of docs/accuracy.md: what ONNX and FP16 cost on released weights, by network, frames and size.

python scripts/precision.py [--size HxW]... [--network NAME]... [networks warp choices search]

FP16 is measured with the strict runner, which rounds every tensor to its declared type. The frames are the two pictures
of a street, mirrored to each size, and the procedural scene. Every PSNR has the peak 1.0; frames are compared with FP32
torch, warped frames and single warps with the FP32 ONNX file. Each row is printed as soon as it is measured.
"""

import argparse
import time
from collections.abc import Iterable

import numpy as np
import onnx
import onnx_ir as ir
from measuring import head, row
from precision_subjects import (
    Arrays,
    Size,
    converted,
    exported_warp,
    frames,
    lowered,
    psnr,
    run,
    smooth_flow,
    static,
    warped_frames,
    with_outputs,
)
from torch import nn

from refine_export.accuracy.metrics import distance, psnr_from_mse
from refine_export.checkpoint.checkpoint import checkpoint_from_options
from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.data.frame_source import Source, source_from_options
from refine_export.data.street_frames import street_frames
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.export.reference_network import reference_network, signature_of_network
from refine_export.lower.fp32_islands import Bench, regions_of, search
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import calibrated, lower, prepare_model
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.strict_fp16 import HalfRunner
from refine_export.runners.torch import TorchRunner
from refine_export.signature import Signature, parse_size
from refine_export.support.progress import Silent
from refine_export.support.text import size_text

SIZES = ("256x448", "736x1280", "1088x1920", "2176x3840")
NETWORKS = {
    "RIFE 4.0": CheckpointOptions(path="rife-4.0"),
    "RIFE 4.0, fast": CheckpointOptions(path="rife-4.0", refine=False),
    "HDv3": CheckpointOptions(path="hdv3"),
}
GAINS_DB = (3, 6, 10, 20)


def sources() -> dict[str, Source]:
    """Return the frames by name."""
    street = FramesOptions(pair=tuple(map(str, street_frames())))
    scene = FramesOptions(sample="scene", scene_frames=2)
    return {
        name: source_from_options(options, SceneOptions()) for name, options in (("street", street), ("scene", scene))
    }


def network_of(name: str) -> tuple[nn.Module, Signature, Arrays]:
    """Return a network, the signature of its interpolator, and the inputs of that graph beside the frames."""
    reference = reference_network(checkpoint_from_options(NETWORKS[name]))
    signature = signature_of_network(reference, "interpolator")
    timestep = {"timestep": np.full((1, 1, 1, 1), 0.5, np.float32)}
    return reference, signature, timestep if signature.takes_timestep else {}


def errors(expected: Arrays, actual: Arrays, names: Iterable[str]) -> tuple[str, str]:
    """Return the lowest PSNR and the largest error of some outputs."""
    found = [distance(expected[name], actual[name], 1.0)[:2] for name in names]
    mse, largest = (max(values) for values in zip(*found, strict=True))
    return f"{psnr_from_mse(mse):.1f} dB", f"{largest:.1e}"


def measure_networks(names: Iterable[str], sizes: Iterable[Size]) -> None:
    """The frame, and the frames warped inside, of whole networks."""
    head(
        "Network", "Frames", "Size", "ONNX FP32: frame", "largest error",
        "FP16: frame", "largest error", "worst warped frame",
        "onnxconverter-common: frame", "largest error", "worst warped frame",
    )  # fmt: skip
    for size in sizes:
        for name in names:
            reference, signature, more = network_of(name)
            model = static(reference, "interpolator", size)
            warped = warped_frames(model)
            for label, source in sources().items():
                feed = {**frames(source, size), **more}
                with TorchRunner(reference, "interpolator") as torch_runner:
                    expected = torch_runner.run(feed)
                with OrtRunner(with_outputs(model, warped)) as runner:
                    found = runner.run(feed)
                cells = [*errors(expected, found, ["frame"])]
                expected = {**found, **expected}
                for made in (lowered(model, signature, feeds=[("feed", feed)]), converted(model)):
                    with HalfRunner(with_outputs(made, warped)) as runner:
                        found = run(runner, feed)
                    cells += [*errors(expected, found, ["frame"]), errors(expected, found, warped)[0]]
                row(name, label, size_text(size), *cells)


def measure_warp(_: Iterable[str], sizes: Iterable[Size]) -> None:
    """One warp, by method, size and runner."""
    head("One warp", "Runner", "Frames", "Size", "PSNR")
    for size in sizes:
        model = exported_warp(size)
        methods = {
            "onnxconverter-common": converted(model),
            "this tool, FP16 images at input and output": lowered(model, None, LowerOptions(io="fp16")),
            "this tool, FP32 images": lowered(model, None),
        }
        for label, source in sources().items():
            feed = {"image": frames(source, size)["img0"], "flow": smooth_flow(size)[:, :2]}
            with OrtRunner(model.SerializeToString()) as runner:
                expected = runner.run(feed)
            for method, made in methods.items():
                for name, runner_class in (("strict FP16", HalfRunner), ("ONNX Runtime", OrtRunner)):
                    with runner_class(made.SerializeToString()) as runner:
                        value = min(psnr(expected, runner, feed).values())
                    row(method, name, label, size_text(size), "equal" if np.isinf(value) else value)
            rounded = max(distance(array, array.astype(np.float16), 1.0)[0] for array in expected.values())
            row("no FP16 but in the result: the picture, rounded", "", label, size_text(size), psnr_from_mse(rounded))


def measure_choices(names: Iterable[str], sizes: Iterable[Size]) -> None:
    """The choices that the rule leaves open, on the street."""
    choices = {
        "default": LowerOptions(),
        "everything behind the last convolution in FP16": LowerOptions(fp32_tail=False),
        "FP16 images at input and output": LowerOptions(io="fp16"),
        "GridSample written out in Gather": LowerOptions(gridsample="gather"),
        "BF16": LowerOptions(precision="bf16"),
    }
    head("Choice", "Network", "Size", "Frame", "Multiply-adds not in FP32")
    for size in sizes:
        for name in names:
            model, signature, feed, expected = on_street(name, size)
            for choice, options in choices.items():
                made = lower(
                    calibrated(prepare_model(ir.from_proto(model), options, signature), [("feed", feed)]), options
                )
                with HalfRunner(made.model.SerializeToString()) as runner:
                    value = psnr(expected, runner, feed)["frame"]
                row(choice, name, size_text(size), value, f"{made.macs_low:.1%}")


def measure_search(names: Iterable[str], sizes: Iterable[Size]) -> None:
    """The gain by FP32 regions on the street, and the share of FP16 that is left."""
    head("Network", "Size", "Target", "Reached", "Regions in FP32", "Multiply-adds left in FP16", "Bytes left in FP16")
    for size in sizes:
        for name in names:
            model, signature, feed, _ = on_street(name, size)
            feeds = [("street", feed)]
            prepared = calibrated(prepare_model(ir.from_proto(model), LowerOptions(), signature), feeds)
            regions = regions_of(prepared, LowerOptions())
            bench = Bench(prepared, LowerOptions(), feeds)
            start = bench.measure(())
            row(name, size_text(size), "none", start.psnr_db, f"0 of {len(regions)}", "100.0%", "100.0%")
            for gain in GAINS_DB:
                target = round(start.psnr_db + gain)
                found = search(regions, bench.measure, LowerOptions(target_psnr_db=float(target)), Silent())
                kept = ", ".join(step.region for step in found.steps) if len(found.steps) < 6 else f"{len(found.steps)}"
                left = (
                    1 - sum(getattr(step, share) for step in found.steps) for share in ("macs_share", "bytes_share")
                )
                reached = found.final.psnr_db if found.reached else f"missed: {found.final.psnr_db:.1f}"
                row(name, size_text(size), f"{target} dB", reached, kept or "none", *(f"{share:.1%}" for share in left))


def on_street(name: str, size: Size) -> tuple[onnx.ModelProto, Signature, Arrays, Arrays]:
    """Return the dynamic file of a network, its signature, a feed of the street, and the reference's answer."""
    reference, signature, more = network_of(name)
    feed = {**frames(sources()["street"], size), **more}
    with TorchRunner(reference, "interpolator") as runner:
        return onnx_from_network(reference, "interpolator", ExportOptions()), signature, feed, runner.run(feed)


MEASURES = {
    "networks": (measure_networks, SIZES),
    "warp": (measure_warp, SIZES),
    "choices": (measure_choices, SIZES[2:3]),
    "search": (measure_search, SIZES[:1]),
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", action="append", metavar="HxW", help="in place of each table's own; repeat")
    parser.add_argument("--network", action="append", choices=list(NETWORKS), help="all by default; repeat")
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=", ".join(MEASURES))
    given = parser.parse_args()
    started = time.perf_counter()
    for name in given.measures or MEASURES:
        measure, sizes = MEASURES[name]
        print()
        measure(given.network or list(NETWORKS), [parse_size(size) for size in given.size or sizes])
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
