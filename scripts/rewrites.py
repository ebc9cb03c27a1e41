"""Print what each rewrite of a graph costs or wins, alone: ONNX Runtime on a CPU, and TensorRT for RTX without a GPU.

python scripts/rewrites.py [--rounds N] [--threads N] [refine interpolator]

Files of RIFE 4.0 for 256x448. ONNX Runtime: processor time on FP32 files over that of a bare `torch.onnx.export`,
medians over rounds in turn with their standard error, on the sample frames. TensorRT for RTX: layers as the parser
makes them, and activation memory of the engine, on the same files in FP16.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import onnx_ir as ir
import torch
from measuring import head, row
from precision_subjects import Arrays, lowered, static

import refine_export as rx
import rife.ifnet
import rife.rife4
from refine_export.checkpoint.checkpoint import checkpoint_from_options
from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.data.feeds import feeds_for
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.data.frame_source import source_from_options
from refine_export.export import graph_modules
from refine_export.export.reference_network import graph_network, reference_network, signature_of_network
from refine_export.graph.cpu_tuning import REWRITES, tune_for_cpu
from refine_export.graph.model_file import bytes_from_model
from refine_export.graph.prepare import prepare
from refine_export.runners.latency import measure_in_turn
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.signature import GraphName, Signature

SIZE = (256, 448)


class Made(NamedTuple):
    """A file by the rewrite that it has."""

    name: str
    model: onnx.ModelProto


@contextmanager
def both_contexts_as_one_batch() -> Iterator[None]:
    """Let the networks compute the features of both frames as one batch."""

    def contexts(contextnet: Any, img0: torch.Tensor, img1: torch.Tensor, flow: torch.Tensor) -> Iterator[Any]:
        features = contextnet(torch.cat((img0, img1)), torch.cat((flow[:, :2], flow[:, 2:4])))
        return zip(*(torch.chunk(one, 2) for one in features), strict=True)

    def forward(self: Any, img0: Any, img1: Any, warped_img0: Any, warped_img1: Any, mask: Any, flow: Any) -> Any:
        c0, c1 = contexts(self.contextnet, img0, img1, flow)
        return self.unet(img0, img1, warped_img0, warped_img1, mask, flow, c0, c1)

    def refined(contextnet: Any, unet: Any, img0: Any, img1: Any, motion: Any) -> Any:
        flow, weight, merged = rife.ifnet.blended(motion)
        c0, c1 = contexts(contextnet, img0, img1, flow)
        residual = unet(img0, img1, motion.warped_img0, motion.warped_img1, motion.mask, flow, c0, c1)
        return rife.ifnet.Interpolation(flow, weight, torch.clamp(merged + (residual * 2 - 1), 0, 1))

    before = graph_modules.RefineGraph.forward, rife.rife4.refined
    graph_modules.RefineGraph.forward, rife.rife4.refined = forward, refined  # type: ignore[method-assign]
    try:
        yield
    finally:
        graph_modules.RefineGraph.forward, rife.rife4.refined = before  # type: ignore[method-assign]


def bare(network: torch.nn.Module, signature: Signature, inputs: Sequence[torch.Tensor]) -> onnx.ModelProto:
    """Export with torch alone."""
    names = {"input_names": signature.input_names, "output_names": signature.output_names}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(network, tuple(inputs), dynamo=True, opset_version=18, verbose=False, **names)
    assert program is not None
    return program.model_proto


def tuned(model: onnx.ModelProto, rewrites: Sequence[str] = REWRITES) -> onnx.ModelProto:
    """Apply rewrites to a copy."""
    graph = prepare(ir.from_proto(onnx.ModelProto.FromString(model.SerializeToString())))
    tune_for_cpu(graph, rewrites)
    return onnx.ModelProto.FromString(bytes_from_model(graph))


def files_of(reference: torch.nn.Module, signature: Signature, inputs: Arrays) -> Iterator[Made]:
    """Make a file for each row."""
    graph = signature.graph
    tensors = [torch.from_numpy(inputs[name]) for name in signature.input_names]
    yield Made("bare export", bare(graph_network(reference, graph), signature, tensors))
    plain = static(reference, graph, SIZE)
    yield Made("ours, as exported", plain)
    names = ("PReLU", "convolutions of joined channels", "transposed convolutions", "Resize by 0.5", "samplers")
    for name, rewrite in zip(names, REWRITES, strict=True):
        yield Made(name, tuned(plain, (rewrite,)))
    yield Made("all: `--tune cpu`", tuned(plain))
    with both_contexts_as_one_batch():
        batch = static(reference, graph, SIZE)
    yield Made("both Contextnets as one batch", batch)
    yield Made("`--tune cpu`, both Contextnets as one batch", tuned(batch))


def engine_figures(model: onnx.ModelProto, signature: Signature, folder: Path) -> str:
    """Build an engine of the file in FP16, and return its layers and its activation memory."""
    onnx.save(lowered(model, signature), folder / "m.onnx")
    made = rx.build(folder / "m.onnx", output=folder / "m.rtx", target="rtx")
    details = made.manifest.details
    return f"{sum(details['inferred']['layers'].values())}, {details['memory']['activation_bytes'] / 2**20:.1f} MiB"


def measure(graph: GraphName, rounds: int, threads: int | None, folder: Path) -> None:
    """Print the table of a graph."""
    reference = reference_network(checkpoint_from_options(CheckpointOptions()))
    signature = signature_of_network(reference, graph)
    pair = source_from_options(FramesOptions(), SceneOptions()).at(SIZE)
    inputs = next(feeds_for(reference, signature, pair, kinds=("network",))).inputs
    files = list(files_of(reference, signature, inputs))
    runners = {made.name: OrtRunner(made.model.SerializeToString(), threads=threads) for made in files}
    calls = {name: partial(runner.run, inputs) for name, runner in runners.items()}
    measured = measure_in_turn(calls, rounds, clock=time.process_time)
    first = measured["bare export"]
    head(graph, "processor time / bare export", "layers, activation memory")
    for name, model in files:
        ratios = [one / other for one, other in zip(measured[name], first, strict=True)]
        error = 1.25 * statistics.stdev(ratios) / len(ratios) ** 0.5  # of a median
        row(name, f"{statistics.median(ratios):.2f} ± {error:.2f}", engine_figures(model, signature, folder))
        runners[name].close()


def main() -> None:
    """Measure the graphs that are named, or both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graphs", nargs="*", default=("refine", "interpolator"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, help="of ONNX Runtime; default: one for each core")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for graph in given.graphs:
            measure(graph, given.rounds, given.threads, Path(folder))


if __name__ == "__main__":
    main()
