"""Speed and memory, as a Markdown table: ratios of medians in one run, because machines are shared and noisy.

python scripts/benchmark.py [help export demo validate feeds lower]
"""

import json
import logging
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from refine_export.support.environment import COMPARERS, machine, versions

ROUNDS = 5
BARE_TYPER = """
import typer
app = typer.Typer()
@app.command()
def one(x: str = ""): "Do one thing."
@app.command()
def other(x: str = ""): "Do another."
app()
"""
PROGRAM = [sys.executable, "-c", "from refine_export.cli import main; main()"]


def row(what: str, figure: str, target: str) -> None:
    """Print a line of the table as soon as it is known."""
    print(f"| {what} | {figure} | {target} |", flush=True)


def in_turn(*calls: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Median seconds of each call, run A B A B after one warm-up."""
    seconds: list[list[float]] = [[] for _ in calls]
    for index in range(rounds + 1):
        for call, measured in zip(calls, seconds, strict=True):
            started = time.perf_counter()
            call()
            if index:
                measured.append(time.perf_counter() - started)
    return [statistics.median(measured) for measured in seconds]


def program(*arguments: str) -> tuple[float, float]:
    """Wall seconds and peak memory in GiB of the command line in a process of its own."""
    code = (
        "import json, resource, subprocess, sys, time; started = time.perf_counter();"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL);"
        "print(json.dumps([time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *PROGRAM, *arguments], check=True, capture_output=True, text=True
    )
    seconds, kibibytes = json.loads(result.stdout)
    return seconds, kibibytes / 2**20


def measure_help() -> None:
    """`--help` against that of a typer program with two verbs."""

    def call(arguments: list[str]) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    bare, ours = in_turn(call(["-c", BARE_TYPER, "--help"]), call([*PROGRAM[1:], "--help"]), rounds=15)
    row("`refine-export --help` / bare typer program", f"{ours / bare:.2f} ({ours * 1e3:.0f} ms)", "≤ 1.5")


def measure_export() -> None:
    """Our export against the bare `torch.onnx.export` of the same module; dynamic against static."""
    import torch

    from refine_export.checkpoint.checkpoint import seeded_checkpoint
    from refine_export.export.export_options import ExportOptions
    from refine_export.export.onnx_from_network import onnx_from_network
    from refine_export.export.reference_network import graph_network, reference_network
    from refine_export.signature import SIGNATURES

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    reference = reference_network(seeded_checkpoint("IFNet"))
    for graph in ("refine", "interpolator"):
        module = graph_network(reference, graph)
        examples = tuple(torch.rand(spec.shape_at(1, 256, 448)) for spec in SIGNATURES[graph].inputs)

        def bare(module: torch.nn.Module = module, examples: tuple[torch.Tensor, ...] = examples) -> None:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(module, examples, dynamo=True, opset_version=18, verbose=False)

        def ours(options: ExportOptions, graph: str = graph) -> Callable[[], object]:
            return lambda: onnx_from_network(reference, graph, options)  # type: ignore[arg-type]

        plain, static, dynamic = in_turn(
            bare, ours(ExportOptions(dynamic=False, size="256x448")), ours(ExportOptions(dynamic=True))
        )
        row(f"export {graph} 256x448 / bare torch.onnx.export", f"{static / plain:.2f} ({static:.1f} s)", "≤ 1.3")
        row(f"export {graph} dynamic / static", f"{dynamic / static:.2f} ({dynamic:.1f} s)", "≤ 2")


def measure_demo() -> None:
    """The main job with the embedded recipe, then again with nothing changed."""
    with tempfile.TemporaryDirectory() as folder:
        for what, limit in (("first run", "≤ 120 s, ≤ 3 GiB"), ("second run, nothing changed", "")):
            seconds, gibibytes = program("run", "--quiet", "--output", folder)
            row(f"main job, {what}", f"{seconds:.0f} s, peak {gibibytes:.2f} GiB", limit)


def measure_validate() -> None:
    """Validation at the size that ships."""
    with tempfile.TemporaryDirectory() as folder:
        program("export", "--quiet", "--graph", "refine", "--output", folder)
        recipe = Path(folder) / "large.toml"
        recipe.write_text("[scene]\nheight = 1088\nwidth = 1920\n[validate]\nsizes = []\n", encoding="utf-8")
        seconds, gibibytes = program("validate", f"{folder}/refine.onnx", "--quiet", "--recipe", str(recipe))
        row(
            "validate refine at 1088x1920, six flows",
            f"{seconds:.0f} s, peak {gibibytes:.2f} GiB",
            "≤ 4 GiB",
        )


LOWER_ALONE = """
import json, resource, sys, time
import onnx, onnx_ir as ir
from refine_export.lowering import LowerOptions, lower, prepare_model
from refine_export.onnx_file import recognised
import refine_export.graph.retype, refine_export.graph.cost, onnx.checker, onnx.shape_inference
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
before = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20  # now, not at its peak
started = time.perf_counter()
model = onnx.load(sys.argv[1])
prepared = prepare_model(ir.from_proto(model), LowerOptions(), recognised(model))
content = lower(prepared, LowerOptions()).model.SerializeToString()
print(json.dumps([time.perf_counter() - started, peak() - before]))
"""

HALF_RUN = """
import json, resource, sys, time
import numpy as np
from pathlib import Path
from refine_export.runners.half import HalfRunner
from refine_export.runners.ort import OrtRunner
runner = {"half": HalfRunner, "ort": OrtRunner}[sys.argv[1]](Path(sys.argv[2]))
image = np.random.default_rng(0).random((1, 3, 1088, 1920), dtype=np.float32)
feeds = {"img0": image, "img1": image, "timestep": np.full((1, 1, 1, 1), 0.5, np.float32)}
seconds = []
for _ in range(3):
    started = time.perf_counter()
    runner.run(feeds)
    seconds.append(time.perf_counter() - started)
print(json.dumps([min(seconds), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))
"""


def measure_lower() -> None:
    """Lowering the largest graph, and running it with the strict runner at the size that ships."""

    def measured(code: str, *arguments: str) -> tuple[float, float]:
        command = [sys.executable, "-c", code, *arguments]
        first, second = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return first, second

    with tempfile.TemporaryDirectory() as folder:
        program("export", "--quiet", "--graph", "interpolator_m", "--output", folder)
        file, lowered = f"{folder}/interpolator_m.onnx", f"{folder}/lowered.onnx"
        seconds, gibibytes = program("lower", "--quiet", file, "--output", lowered)
        row("lower interpolator_m, calibration included", f"{seconds:.1f} s, peak {gibibytes:.2f} GiB", "≤ 10 s")
        seconds, mebibytes = measured(LOWER_ALONE, file)
        ratio = mebibytes / (Path(file).stat().st_size / 2**20)
        row("its passes alone, memory beyond the imports / size of the model", f"{ratio:.1f} ({seconds:.1f} s)", "< 4")
        (plain, plain_memory), (strict, strict_memory) = (
            measured(HALF_RUN, name, path) for name, path in (("ort", file), ("half", lowered))
        )
        row(
            "interpolator_m at 1088x1920, strict FP16 runner / ONNX Runtime on the FP32 file",
            f"{strict / plain:.2f} ({strict:.1f} s), peak {strict_memory:.2f} GiB / {plain_memory:.2f} GiB",
            "",
        )


def measure_feeds() -> None:
    """What one more feed costs: its own run, no second load."""
    from refine_export.accuracy.limits import LimitsOptions
    from refine_export.checkpoint.checkpoint import seeded_checkpoint
    from refine_export.data.feeds import feeds_for
    from refine_export.data.frame_options import FlowKind, FramesOptions, SceneOptions
    from refine_export.data.frame_source import source_from_options
    from refine_export.export.export_options import ExportOptions
    from refine_export.export.onnx_from_network import onnx_from_network
    from refine_export.export.reference_network import reference_network
    from refine_export.runners.onnxruntime import OrtRunner
    from refine_export.runners.torch import TorchRunner
    from refine_export.signature import SIGNATURES
    from refine_export.validate.comparison import Candidate, compare_candidates

    reference = reference_network(seeded_checkpoint("IFNet"))
    model = onnx_from_network(reference, "refine", ExportOptions(dynamic=True)).SerializeToString()
    pair = source_from_options(FramesOptions(), SceneOptions()).pair

    def job(kinds: tuple[FlowKind, ...], candidates: int) -> Callable[[], object]:
        def call() -> None:
            with TorchRunner(reference, "refine") as runner, OrtRunner(model) as other:
                limits = LimitsOptions().refine_fp32
                tested = [
                    Candidate(file="refine.onnx", limits=limits, runtime=f"{k}", runner=other)
                    for k in range(candidates)
                ]
                feeds = feeds_for(reference, "refine", pair, kinds=kinds)
                list(compare_candidates(SIGNATURES["refine"], runner, tested, feeds))

        return call

    one, five, twice = in_turn(
        job(("large",), 1), job(("large", "outside", "subpixel", "large", "outside"), 1), job(("large",), 2)
    )
    row("one more feed / a whole validation with one feed", f"{(five - one) / 4 / one:.2f}", "< 1")
    row("one more candidate / a whole validation with one", f"{(twice - one) / one:.2f}", "< 1")


MEASURES = {
    "help": measure_help,
    "export": measure_export,
    "demo": measure_demo,
    "validate": measure_validate,
    "feeds": measure_feeds,
    "lower": measure_lower,
}


def main() -> None:
    """Print the table."""
    known = machine() | versions(COMPARERS)
    print(f"{known.pop('processor')}, {platform.system()}, " + ", ".join(f"{k} {v}" for k, v in known.items()) + "\n")
    print("| What | Measured | Target |\n|---|---|---|")
    for name in sys.argv[1:] or MEASURES:
        MEASURES[name]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\nThis process: peak {peak:.2f} GiB.")


if __name__ == "__main__":
    main()
