"""Speed and memory on one machine, as a Markdown table; docs/performance.md has the results.

python scripts/benchmark.py [help export main validate feeds lower gate large clip]
"""

import json
import logging
import platform
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import benchmark_help
import numpy as np
import onnx
import onnx_ir as ir
import torch
from measuring import Watched, cli, head, in_turn, row, watched
from PIL import Image

from refine_export.accuracy.limits import LimitsOptions
from refine_export.accuracy.metrics import compare
from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.data.feeds import feeds_for
from refine_export.data.frame_options import FlowKind, FramesOptions, SceneOptions
from refine_export.data.frame_source import source_from_options
from refine_export.data.images import uint8_from_frame
from refine_export.data.sample_scene import Scene
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.export.reference_network import graph_network, reference_network
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowering import lower, prepare_model
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.strict_fp16 import HalfRunner
from refine_export.runners.torch import TorchRunner
from refine_export.signature import SIGNATURES, GraphName, signature_of
from refine_export.support.environment import COMPARERS, machine, versions
from refine_export.validate.comparison import Candidate, compare_candidates

GATE_RECIPE = Path(__file__).parent.parent / ".ci" / "gate.toml"
SEEDED = '[checkpoint]\nweights = "seeded"\n'


def measure_help(_: Path) -> None:
    """`--help` against that of a typer program with two verbs; `benchmark_help.py` prints it for each verb."""
    (bare, _), (ours, _), *verbs = benchmark_help.measured(rounds=7).values()
    slowest = max(wall for wall, _ in verbs)
    row("`refine-export --help` / bare typer program", f"{ours / bare:.2f} ({ours * 1e3:.0f} ms)", "≤ 1.2")
    row("the slowest verb's `--help` / bare typer program", f"{slowest / bare:.2f} ({slowest * 1e3:.0f} ms)", "≤ 1.2")


def measure_export(_: Path) -> None:
    """Our export against the bare `torch.onnx.export` of the same module; dynamic against static."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    reference = reference_network(seeded_checkpoint("IFNet"))
    graphs: tuple[GraphName, ...] = ("refine", "interpolator")
    for graph in graphs:
        module = graph_network(reference, graph)
        examples = tuple(torch.rand(spec.shape_at(1, 256, 448)) for spec in SIGNATURES[graph].inputs)

        def bare(module: torch.nn.Module = module, examples: tuple[torch.Tensor, ...] = examples) -> None:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(module, examples, dynamo=True, opset_version=18, verbose=False)

        def ours(options: ExportOptions, graph: GraphName = graph) -> Callable[[], object]:
            return lambda: onnx_from_network(reference, graph, options)

        plain, static, dynamic = in_turn(
            bare, ours(ExportOptions(dynamic=False, size="256x448")), ours(ExportOptions(dynamic=True))
        )
        row(f"export {graph} 256x448 / bare torch.onnx.export", f"{static / plain:.2f} ({static:.1f} s)", "≤ 1.1")
        row(f"export {graph} dynamic / static", f"{dynamic / static:.2f} ({dynamic:.1f} s)", "≤ 1.5")


def measure_main(folder: Path) -> None:
    """The main job with the embedded recipe, then again with nothing changed."""
    for what, limit in (("first run", "≤ 120 s, ≤ 3 GiB"), ("second run, nothing changed", "")):
        run = cli("run", "--quiet", "--output", str(folder))
        row(f"main job, {what}", f"{run.seconds:.0f} s, peak {run.peak_gib:.2f} GiB", limit)


def measure_validate(folder: Path) -> None:
    """Validation at the size that ships."""
    cli("export", "--quiet", "--graph", "refine", "--output", str(folder))
    recipe = folder / "large.toml"
    recipe.write_text("[scene]\nheight = 1088\nwidth = 1920\n[validate]\nsizes = []\n", encoding="utf-8")
    run = cli("validate", str(folder / "refine.onnx"), "--quiet", "--recipe", str(recipe))
    row("validate refine at 1088x1920, six flows", f"{run.seconds:.0f} s, peak {run.peak_gib:.2f} GiB", "≤ 4 GiB")


def measure_feeds(_: Path) -> None:
    """The cost of one more feed: its own run, without a second load."""
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
                feeds = feeds_for(reference, SIGNATURES["refine"], pair, kinds=kinds)
                list(compare_candidates(SIGNATURES["refine"], runner, tested, feeds))

        return call

    one, five, twice = in_turn(
        job(("large",), 1), job(("large", "outside", "subpixel", "large", "outside"), 1), job(("large",), 2)
    )
    row("one more feed / a whole validation with one feed", f"{(five - one) / 4 / one:.2f}", "< 1")
    row("one more candidate / a whole validation with one", f"{(twice - one) / one:.2f}", "< 1")


def measure_lower(folder: Path) -> None:
    """Lowering the largest graph, and running it with the strict runner at the size that ships."""
    cli("export", "--quiet", "--graph", "interpolator", "--output", str(folder))
    file, lowered = folder / "interpolator.onnx", folder / "lowered.onnx"
    run = cli("lower", "--quiet", str(file), "--output", str(lowered))
    figure = f"{run.seconds:.1f} s, peak {run.peak_gib:.2f} GiB"
    row("lower interpolator, calibration included", figure, "≤ 10 s")
    seconds, mebibytes = json.loads(_inside("lower", file).output)
    ratio = mebibytes / (file.stat().st_size / 2**20)
    row("its passes alone, memory beyond the imports / size of the model", f"{ratio:.1f} ({seconds:.1f} s)", "< 4")
    plain, strict = _inside("run", file), _inside("run-strict", lowered)
    plain_s, strict_s = (float(run.output) for run in (plain, strict))
    memory = f"peak {strict.peak_gib:.2f} GiB / {plain.peak_gib:.2f} GiB"
    what = "interpolator at 1088x1920, strict FP16 runner / ONNX Runtime on the FP32 file"
    row(what, f"{strict_s / plain_s:.2f} ({strict_s:.1f} s), {memory}", "")


def _inside(what: str, path: Path) -> Watched:
    return watched(sys.executable, __file__, "--inside", what, str(path))


def _lower_alone(path: Path) -> str:
    """Lower a file without calibration: seconds, and MiB beyond the imports."""
    resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])  # now, not at its peak
    before = resident * resource.getpagesize() / 2**20
    started = time.perf_counter()
    prepared = prepare_model(
        ir.from_proto(onnx.load(path)), LowerOptions(), signature_of("interpolator", timestep=True)
    )
    lower(prepared, LowerOptions()).model.SerializeToString()
    seconds = time.perf_counter() - started
    return json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10 - before])


def _run(path: Path, runner: type[OrtRunner | HalfRunner]) -> str:
    """Seconds of the fastest of three runs at 1088x1920."""
    image = np.random.default_rng(0).random((1, 3, 1088, 1920), dtype=np.float32)
    feeds = {"img0": image, "img1": image, "timestep": np.full((1, 1, 1, 1), 0.5, np.float32)}
    seconds = []
    with runner(path) as opened:
        for _ in range(3):
            started = time.perf_counter()
            opened.run(feeds)
            seconds.append(time.perf_counter() - started)
    return str(min(seconds))


INSIDE: dict[str, Callable[[Path], str]] = {
    "lower": _lower_alone,
    "run": lambda path: _run(path, OrtRunner),
    "run-strict": lambda path: _run(path, HalfRunner),
}


def measure_gate(folder: Path) -> None:
    """Both graphs, FP32 and FP16, three flows at 256x448; then the gate, then its self-test."""
    recipe = ("--recipe", str(GATE_RECIPE))
    run = cli("run", "--quiet", *recipe, "--output", str(folder))
    figure = f"{run.seconds:.0f} s, peak {run.peak_gib:.2f} GiB"
    row("default gate (`make gate`): export, lower and compare", figure, "≤ 60 s")
    gate = cli("gate", str(folder / "report.json"), *recipe)
    row("the gate on its report", f"{gate.seconds:.1f} s", "")
    proof = cli("gate", "--quiet", "--self-test", str(folder / "refine.fp16.onnx"), *recipe)
    row("self-test of `refine.fp16.onnx`", f"{proof.seconds:.0f} s, peak {proof.peak_gib:.2f} GiB", "")


def measure_large(folder: Path) -> None:
    """One comparison of `interpolator` at the size that ships, and the share of comparing in it."""
    recipe, path = folder / "large.toml", folder / "interpolator.onnx"
    recipe.write_text(f"{SEEDED}[scene]\nheight = 1088\nwidth = 1920\n[frames]\nscene_frames = 2\n", encoding="utf-8")
    _export_interpolator(folder, "1088x1920", recipe)
    run = cli("validate", str(path), "--quiet", "--recipe", str(recipe))
    figure = f"{run.seconds:.0f} s, peak {run.peak_gib:.2f} GiB"
    row("one comparison of interpolator at 1088x1920", figure, "≤ 60 s, ≤ 4 GiB")
    reference = reference_network(seeded_checkpoint("IFNet"))
    pair = source_from_options(FramesOptions(), SceneOptions(height=1088, width=1920)).pair
    [feed] = feeds_for(reference, SIGNATURES["interpolator"], pair)
    with TorchRunner(reference, "interpolator") as torch_runner, OrtRunner(path) as ort_runner:
        started = time.perf_counter()
        expected, actual = (runner.run(feed.inputs)["frame"] for runner in (torch_runner, ort_runner))
        ran = time.perf_counter() - started
    started = time.perf_counter()
    compare(expected, actual, "image")
    compared = time.perf_counter() - started
    row("measuring the difference / the two runs, 1088x1920", f"{compared / ran:.3f} ({compared:.2f} s)", "≤ 0.05")


def measure_clip(folder: Path) -> None:
    """Peak memory of a long clip against a short one."""
    scene = Scene(SceneOptions(height=64, width=96, motion_px=12.0))
    recipe = folder / "seeded.toml"
    recipe.write_text(SEEDED, encoding="utf-8")
    _export_interpolator(folder, "64x96", recipe)
    peaks = []
    for count in (20, 200):
        clip = folder / f"clip{count}"
        clip.mkdir()
        for index in range(count):
            Image.fromarray(uint8_from_frame(scene.frame(index / (count - 1)))).save(clip / f"{index:03}.png")
        given = ("--quiet", "--recipe", str(recipe), "--input", str(clip))
        peaks.append(cli("validate", str(folder / "interpolator.onnx"), *given).peak_gib)
    row("memory of a folder of 200 frames / of 20", f"{peaks[1] / peaks[0]:.2f} ({peaks[1]:.2f} GiB)", "1")


def _export_interpolator(folder: Path, size: str, recipe: Path) -> None:
    given = ("--graph", "interpolator", "--size", size, "--recipe", str(recipe), "--output", str(folder))
    cli("export", "--quiet", *given)


MEASURES = {
    "help": measure_help,
    "export": measure_export,
    "main": measure_main,
    "validate": measure_validate,
    "feeds": measure_feeds,
    "lower": measure_lower,
    "gate": measure_gate,
    "large": measure_large,
    "clip": measure_clip,
}


def main() -> None:
    """Print the table, or one figure of a process that measures itself."""
    if sys.argv[1:2] == ["--inside"]:
        print(INSIDE[sys.argv[2]](Path(sys.argv[3])))
        return
    if unknown := set(sys.argv[1:]) - set(MEASURES):
        raise SystemExit(f"{__doc__}\nnot a measure: {', '.join(sorted(unknown))}")
    known = machine() | versions(COMPARERS)
    print(f"{known.pop('processor')}, {platform.system()}, " + ", ".join(f"{k} {v}" for k, v in known.items()) + "\n")
    head("What", "Measured", "Target")
    for name in sys.argv[1:] or MEASURES:
        with tempfile.TemporaryDirectory() as folder:
            MEASURES[name](Path(folder))


if __name__ == "__main__":
    main()
