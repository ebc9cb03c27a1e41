"""Feeds and files that `precision.py` and `calibrate.py` measure."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import nn

from refine_export.accuracy.metrics import distance, psnr_from_mse
from refine_export.data.feeds import synthetic_flow
from refine_export.data.frame_source import Source
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import calibrated, lower, prepare_model
from refine_export.runners.base import Runner
from refine_export.signature import GraphName, Signature

Arrays = Mapping[str, np.ndarray[Any, Any]]
Size = tuple[int, int]

LARGEST_FLOW = 27  # the width divided by this, in pixels


def smooth_flow(size: Size) -> np.ndarray[Any, Any]:
    """Make a flow [1, 4, H, W] up to a 27th of the width."""
    flow = synthetic_flow("large", *size)
    return np.asarray(flow / np.hypot(flow[:, 0::2], flow[:, 1::2]).max() * size[1] / LARGEST_FLOW, dtype=np.float32)


def frames(source: Source, size: Size) -> dict[str, np.ndarray[Any, Any]]:
    """Return the two frames at a size."""
    pair = source.at(size)
    return {"img0": pair.img0, "img1": pair.img1}


def converted(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert with onnxconverter-common, its defaults and FP32 I/O."""
    from onnxconverter_common.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result: onnx.ModelProto = convert_float_to_float16(_copy(model), keep_io_types=True)
    return result


def lowered(
    model: onnx.ModelProto,
    signature: Signature | None,
    options: LowerOptions | None = None,
    feeds: Iterable[tuple[str, Arrays]] = (),
    **prepare: Any,
) -> onnx.ModelProto:
    """Lower with this tool, with the ranges of the feeds if there are any."""
    options = options or LowerOptions()
    prepared = prepare_model(ir.from_proto(_copy(model)), options, signature, **prepare)
    if feeds := list(feeds):
        prepared = calibrated(prepared, feeds)
    return lower(prepared, options).model


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def run(runner: Runner, feed: Arrays) -> Arrays:
    """Run a feed in the types of the file's inputs."""
    types = {info.name: info.dtype for info in runner.inputs}
    return runner.run({name: array.astype(types[name]) for name, array in feed.items()})


def psnr(expected: Arrays, runner: Runner, feed: Arrays) -> dict[str, float]:
    """Return the PSNR of every output in dB, peak 1, by name."""
    actual = run(runner, feed)
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


def exported_warp(size: Size) -> onnx.ModelProto:
    """Export one warp of a picture with torch."""
    examples = (torch.zeros(1, 3, *size), torch.zeros(1, 2, *size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Warp(), examples, dynamo=True, opset_version=18, verbose=False, input_names=("image", "flow")
        )
    assert program is not None
    return program.model_proto


def static(reference: nn.Module, graph: GraphName, size: Size) -> onnx.ModelProto:
    """Export for one size; the converter makes an invalid model of a dynamic one."""
    return onnx_from_network(reference, graph, ExportOptions(dynamic=False, size=f"{size[0]}x{size[1]}"))


def warped_frames(model: onnx.ModelProto) -> list[str]:
    """Return the outputs of the samplers of pictures: those with three channels."""
    known = {
        value.name: value.type.tensor_type.shape for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    sampled = [node.output[0] for node in model.graph.node if node.op_type == "GridSample"]
    return [name for name in sampled if known[name].dim[1].dim_value == 3]


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> bytes:
    """Serialise the model with inner tensors as further outputs, of the type that they have."""
    inferred = onnx.shape_inference.infer_shapes(model)
    known = {value.name: value for value in inferred.graph.value_info}
    inferred.graph.output.extend(known[name] for name in names)
    content: bytes = inferred.SerializeToString()
    return content
