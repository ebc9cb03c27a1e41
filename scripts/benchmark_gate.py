"""Speed and memory of validation and gate, as a Markdown table; see benchmark.py.

python scripts/benchmark_gate.py
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from benchmark import program, row
from PIL import Image

from refine_export.accuracy.metrics import compare
from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.data.feeds import feeds_for
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.data.frame_source import source_from_options
from refine_export.data.sample_scene import Scene
from refine_export.export.reference_network import reference_network
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.torch import TorchRunner

RECIPE = Path(__file__).parent.parent / ".ci" / "gate.toml"
SEEDED = '[checkpoint]\nweights = "seeded"\n'
FEW, MANY = 20, 200


def measure_default(folder: Path) -> None:
    """Both graphs, FP32 and FP16, three flows at 256x448; then the gate, then its self-test."""
    run, peak = program("run", "--quiet", "--recipe", str(RECIPE), "--output", str(folder))
    row("default gate: export, lower, compare", f"{run:.0f} s, peak {peak:.2f} GiB", "≤ 60 s")
    gate, _ = program("gate", str(folder / "report.json"))
    row("the gate on its report", f"{gate:.1f} s", "")
    proof, peak = program("gate", "--quiet", "--self-test", str(folder / "refine.fp16.onnx"), "--recipe", str(RECIPE))
    row("self-test of refine.fp16.onnx", f"{proof:.0f} s, peak {peak:.2f} GiB", "")


def export_interpolator(folder: Path, size: str, recipe: Path) -> None:
    """A static file of one size."""
    given = ("--graph", "interpolator", "--size", size, "--recipe", str(recipe), "--output", str(folder))
    program("export", "--quiet", *given)


def measure_large(folder: Path) -> None:
    """One comparison of `interpolator` at the size that ships, and the share of comparing in it."""
    recipe = folder / "large.toml"
    scene = "[scene]\nheight = 1088\nwidth = 1920\n[frames]\nscene_frames = 2\n"
    recipe.write_text(f"{SEEDED}{scene}", encoding="utf-8")
    export_interpolator(folder, "1088x1920", recipe)
    path = folder / "interpolator.onnx"
    seconds, peak = program("validate", str(path), "--quiet", "--recipe", str(recipe))
    row("one comparison of interpolator at 1088x1920", f"{seconds:.0f} s, peak {peak:.2f} GiB", "≤ 60 s, ≤ 4 GiB")
    reference = reference_network(seeded_checkpoint("IFNet"))
    pair = source_from_options(FramesOptions(), SceneOptions(height=1088, width=1920)).pair
    [feed] = feeds_for(reference, "interpolator", pair)
    with TorchRunner(reference, "interpolator") as torch, OrtRunner(path) as ort:
        started = time.perf_counter()
        expected = torch.run(feed.inputs)["frame"]
        actual = ort.run(feed.inputs)["frame"]
        ran = time.perf_counter() - started
    started = time.perf_counter()
    compare(expected, actual, "image")
    compared = time.perf_counter() - started
    row("measuring the difference / the two runs it is of", f"{compared / ran:.3f} ({compared:.2f} s)", "≤ 0.05")


def measure_stream(folder: Path) -> None:
    """Peak memory of a long clip against a short one."""
    scene = Scene(SceneOptions(height=64, width=96, motion_px=12.0))
    peaks = []
    recipe = folder / "seeded.toml"
    recipe.write_text(SEEDED, encoding="utf-8")
    export_interpolator(folder, "64x96", recipe)
    for count in (FEW, MANY):
        clip = folder / f"clip{count}"
        clip.mkdir()
        for index in range(count):
            picture = scene.frame(index / (count - 1))[0].transpose(1, 2, 0)
            Image.fromarray(np.uint8(picture * 255 + 0.5)).save(clip / f"{index:03}.png")
        given = ("--quiet", "--recipe", str(recipe), "--input", str(clip))
        seconds, peak = program("validate", str(folder / "interpolator.onnx"), *given)
        peaks.append(peak)
    text = f"{peaks[1] / peaks[0]:.3f} ({peaks[1]:.2f} GiB, {seconds:.0f} s)"
    row(f"memory of {MANY} frames / of {FEW}", text, "1")


def main() -> None:
    """Print the table."""
    print("| What | Measured | Target |\n|---|---|---|")
    for measure in (measure_default, measure_large, measure_stream):
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder))


if __name__ == "__main__":
    main()
