"""The tables of docs/precision.md: what FP16 costs, by size and by method, measured with the strict runner.

python scripts/precision.py [--frames A B] [warp refine interpolator choices search]

The frames are two pictures, cropped or mirrored to each size, or else the procedural scene. Every figure is a PSNR in
dB with peak 1.0 against FP32 (torch; for single warps and warped frames, the FP32 ONNX file).
"""

import argparse
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import nn

from refine_export.checkpoint import Architecture, Checkpoint, demo_checkpoint, expected_shapes, seeded_checkpoint
from refine_export.export import ExportOptions, onnx_from_network
from refine_export.feeds import synthetic_flow
from refine_export.lowering import LowerOptions, calibrated, lower, prepare_model
from refine_export.metrics import distance, psnr_from_mse
from refine_export.network import reference_network
from refine_export.progress import Silent
from refine_export.runners.base import Runner
from refine_export.runners.half import HalfRunner
from refine_export.runners.ort import OrtRunner
from refine_export.runners.torch import TorchRunner
from refine_export.scenes import SceneOptions
from refine_export.sensitivity import Bench, regions_of, search
from refine_export.signature import GraphName
from refine_export.source import FramesOptions, source_from_options
from rife.warplayer import warp

Arrays = Mapping[str, np.ndarray[Any, Any]]

SIZES = ((256, 448), (736, 1280), (1088, 1920), (2176, 3840))
LARGEST_FLOW = 27  # the width by this, in pixels
SLOPE = 0.25  # of the PReLUs
SOURCE = source_from_options(FramesOptions(), SceneOptions())


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


def kaiming_network(architecture: Architecture) -> nn.Module:
    """Random weights that keep the size of the activations (He et al. 2015, for a leaky slope)."""
    state = {}
    for key, shape in expected_shapes(architecture).items():
        generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
        if len(shape) == 4:
            values = generator.standard_normal(shape) * np.sqrt(2 / (1 + SLOPE**2) / np.prod(shape[1:]))
        else:
            values = np.zeros(shape) if key.endswith(".bias") else np.full(shape, SLOPE)
        state[key] = torch.from_numpy(values.astype(np.float32))
    return reference_network(
        Checkpoint(
            source="Kaiming-scaled random weights",
            architecture=architecture,
            state_dict=state,
            sha256="",
            stored_dtype="float32",
            seeded=True,
        )
    )


def smooth_flow(height: int, width: int) -> np.ndarray[Any, Any]:
    """[1, 4, H, W], up to a 27th of the width."""
    flow = synthetic_flow("large", height, width)
    return np.asarray(flow / np.hypot(flow[:, 0::2], flow[:, 1::2]).max() * width / LARGEST_FLOW, dtype=np.float32)


def smooth_feed(height: int, width: int) -> dict[str, np.ndarray[Any, Any]]:
    """Inputs of `refine`: smooth frames, a smooth flow and mask, and the frames warped."""
    waves = synthetic_flow("large", height, width)
    img0 = torch.from_numpy(0.5 + 0.5 * waves[:, :3] / np.abs(waves).max())
    return _refine_feed(img0, warp(img0, torch.from_numpy(smooth_flow(height, width)[:, :2])))


def _refine_feed(img0: torch.Tensor, img1: torch.Tensor) -> dict[str, np.ndarray[Any, Any]]:
    height, width = img0.shape[2:]
    waves = synthetic_flow("large", height, width)
    flow = torch.from_numpy(smooth_flow(height, width))
    mask = torch.from_numpy(waves[:, 3:] / np.abs(waves).max() * 4)
    tensors = (img0, img1, warp(img0, flow[:, :2]), warp(img1, flow[:, 2:]), mask, flow)
    names = ("img0", "img1", "warped_img0", "warped_img1", "mask", "flow")
    return {name: tensor.contiguous().numpy() for name, tensor in zip(names, tensors, strict=True)}


def frames(height: int, width: int) -> dict[str, np.ndarray[Any, Any]]:
    """The two frames at a size."""
    pair = SOURCE.at((height, width))
    return {"img0": pair.img0, "img1": pair.img1}


def textured_feed(height: int, width: int) -> dict[str, np.ndarray[Any, Any]]:
    """As `smooth_feed`, with the frames in place of the smooth ones: texture shows where a sample is taken."""
    return _refine_feed(*(torch.from_numpy(frame) for frame in frames(height, width).values()))


def converted(model: onnx.ModelProto) -> onnx.ModelProto:
    """By onnxconverter-common, with its defaults and FP32 I/O."""
    from onnxconverter_common.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result: onnx.ModelProto = convert_float_to_float16(copy, keep_io_types=True)
    return result


def lowered(
    model: onnx.ModelProto, graph: GraphName | None, options: LowerOptions | None = None, feed: Arrays | None = None
) -> onnx.ModelProto:
    """By this tool; with the ranges of a feed if there is one."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    prepared = prepare_model(ir.from_proto(copy), options or LowerOptions(), graph)
    if feed is not None:
        prepared = calibrated(prepared, [("feed", feed)])
    return lower(prepared, options or LowerOptions()).model


def psnr(expected: Arrays, runner: Runner, feed: Arrays) -> dict[str, float]:
    """Of every output, by name."""
    types = {info.name: info.dtype for info in runner.inputs}
    actual = runner.run({name: array.astype(types[name]) for name, array in feed.items()})
    return {name: psnr_from_mse(distance(array, actual[name], 1.0)[0]) for name, array in expected.items()}


class Warp(nn.Module):
    """The warp alone, in upstream's form: a whole grid, to which the scaled flow is added before it is permuted."""

    def forward(self, image: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        height, width = flow.shape[-2:]
        column = torch.linspace(-1.0, 1.0, width).view(1, 1, 1, width).expand(1, 1, height, width)
        row = torch.linspace(-1.0, 1.0, height).view(1, 1, height, 1).expand(1, 1, height, width)
        scaled = torch.cat((flow[:, :1] / ((width - 1.0) / 2.0), flow[:, 1:] / ((height - 1.0) / 2.0)), 1)
        grid = (torch.cat((column, row), 1) + scaled).permute(0, 2, 3, 1)
        return torch.nn.functional.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)


def exported_warp(height: int, width: int) -> onnx.ModelProto:
    """One warp of a picture as torch exports it."""
    examples = (torch.zeros(1, 3, height, width), torch.zeros(1, 2, height, width))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Warp(), examples, dynamo=True, opset_version=18, verbose=False, input_names=("image", "flow")
        )
    assert program is not None
    return program.model_proto


def measure_warp() -> None:
    """One warp, by method, size and runner."""
    head("One warp", "Runner", *(f"{height}x{width}" for height, width in SIZES))
    found: dict[tuple[str, str], list[float | str]] = {}
    for height, width in SIZES:
        model = exported_warp(height, width)
        feed = {"image": frames(height, width)["img0"], "flow": smooth_flow(height, width)[:, :2]}
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


def static(reference: nn.Module, graph: GraphName) -> Callable[[int, int], onnx.ModelProto]:
    """Exports at a size; the converter makes an invalid model of a dynamic one."""
    return lambda height, width: onnx_from_network(
        reference, graph, ExportOptions(dynamic=False, size=f"{height}x{width}")
    )


def measure_refine() -> None:
    """`refine`, with well-scaled random weights, the seeded ones and the demo weights."""
    kaiming, seeded = kaiming_network("IFNet"), reference_network(seeded_checkpoint("IFNet"))
    demo = reference_network(demo_checkpoint())
    for name, reference, feed_at in (
        ("`refine`, Kaiming-scaled weights, smooth frames", kaiming, smooth_feed),
        ("`refine`, Kaiming-scaled weights, textured frames", kaiming, textured_feed),
        ("`refine`, seeded weights, textured frames", seeded, textured_feed),
        ("`refine`, demo weights, textured frames", demo, textured_feed),
    ):
        by_method(name, static(reference, "refine"), reference, "refine", feed_at, SIZES[:3])


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> bytes:
    """The model with inner tensors as further outputs, of the type that they have."""
    inferred = onnx.shape_inference.infer_shapes(model)
    known = {value.name: value for value in inferred.graph.value_info}
    inferred.graph.output.extend(known[name] for name in names)
    content: bytes = inferred.SerializeToString()
    return content


def measure_interpolator() -> None:
    """The frames warped inside `interpolator_m`, and the final frame, with seeded and with the demo weights."""
    for name, checkpoint in (("seeded", seeded_checkpoint("IFNet_m")), ("demo", demo_checkpoint())):
        by_warp(f"`interpolator_m`, {name} weights", reference_network(checkpoint), SIZES[:3])


def by_warp(title: str, reference: nn.Module, sizes: Iterable[tuple[int, int]]) -> None:
    """A table of the final frame and of the worst warped frame, by method and size."""
    sizes = tuple(sizes)
    head(title, *(f"{height}x{width}" for height, width in sizes))
    found: dict[str, list[float]] = {}
    for height, width in sizes:
        model = static(reference, "interpolator_m")(height, width)
        nodes = [node for node in model.graph.node if node.op_type == "GridSample" and node.name.startswith("ifnet")]
        warped = [node.output[0] for node in nodes]
        feed = frames(height, width) | {"timestep": np.full((1, 1, 1, 1), 0.5, np.float32)}
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


def measure_choices() -> None:
    """What the choices that the rule leaves open are worth."""
    choices = {
        "default": LowerOptions(),
        "everything behind the last convolution in FP16": LowerOptions(fp32_tail=False),
        "FP16 images at input and output": LowerOptions(io="fp16"),
        "GridSample written out in Gather": LowerOptions(gridsample="gather"),
        "BF16": LowerOptions(precision="bf16"),
    }
    size = SIZES[2]
    subjects: dict[str, tuple[nn.Module, GraphName, Arrays]] = {
        "`refine`, Kaiming": (kaiming_network("IFNet"), "refine", textured_feed(*size)),
        "`refine`, seeded": (reference_network(seeded_checkpoint("IFNet")), "refine", textured_feed(*size)),
        "`interpolator`, seeded": (reference_network(seeded_checkpoint("IFNet")), "interpolator", frames(*size)),
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
    _, (reference, graph, feed) = next(iter(subjects.items()))
    model, expected = models[next(iter(subjects))]
    made_bytes = lowered(model, graph, feed=feed).SerializeToString()
    with HalfRunner(made_bytes, rounding="final") as half:
        value = min(psnr(expected, half, feed).values())
    row("default, each convolution and its PReLU rounded once", value, "", "", "")


def measure_search() -> None:
    """What FP32 regions buy on `refine`, and at what share of FP16."""
    reference = kaiming_network("IFNet")
    height, width = SIZES[0]
    feeds = [("textured", textured_feed(height, width))]
    model = onnx_from_network(reference, "refine", ExportOptions())
    prepared = calibrated(prepare_model(ir.from_proto(model), LowerOptions(), "refine"), feeds)
    regions = regions_of(prepared, LowerOptions())
    bench = Bench(prepared, LowerOptions(), feeds)
    start = bench.measure(())
    names = ("Reached", "Regions in FP32", "Multiply-adds left in FP16", "Bytes left in FP16")
    head(f"Target, `refine`, Kaiming, {height}x{width}", *names)
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
    global SOURCE
    parser = argparse.ArgumentParser(description="Print the tables of docs/precision.md.")
    parser.add_argument("--frames", nargs=2, metavar=("A", "B"), default=(), help="two pictures of equal size")
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=", ".join(MEASURES))
    given = parser.parse_args()
    SOURCE = source_from_options(FramesOptions(pair=tuple(given.frames)), SceneOptions())
    started = time.perf_counter()
    for name in given.measures or MEASURES:
        MEASURES[name]()
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
