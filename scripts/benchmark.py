"""Time and memory of this tool's own work, as a Markdown table; docs/performance.md has the results.

python scripts/benchmark.py [help export main lower validate gate clip]

The speed of the files that it makes is measured by `refine-export bench`.
"""

import logging
import platform
import resource
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import CLI, cli, head, medians, row
from PIL import Image

from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.cli.main import SUBVERBS, VERBS
from refine_export.data.frame_options import SceneOptions
from refine_export.data.images import uint8_from_frame
from refine_export.data.sample_scene import Scene
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.export.reference_network import graph_network, reference_network
from refine_export.signature import SIGNATURES, GraphName
from refine_export.support.environment import COMPARERS, machine, versions

BARE = """
import typer
app = typer.Typer()
@app.command()
def one(count: int = 1) -> None:
    "Do one thing."
@app.command()
def two(name: str = "x") -> None:
    "Do another."
app()
"""
GATE_RECIPE = Path(__file__).parent.parent / ".ci" / "gate.toml"


def measure_help(_: Path) -> None:
    """Processor time of `--help` against that of a typer program with two verbs."""
    programs = {"bare": (sys.executable, "-c", BARE), "": CLI} | {
        verb: (*CLI, *verb.split()) for verb in VERBS | SUBVERBS
    }

    def processor_s() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def help_of(command: tuple[str, ...]) -> Callable[[], object]:
        return lambda: subprocess.run([*command, "--help"], check=True, stdout=subprocess.DEVNULL)

    bare, ours, *verbs = medians(*map(help_of, programs.values()), rounds=7, clock=processor_s)
    row("`refine-export --help` / bare typer program", f"{ours / bare:.2f} ({ours * 1e3:.0f} ms)", "≤ 1.2")
    slowest, name = max(zip(verbs, list(programs)[2:], strict=True))
    what = f"the slowest verb's `--help` (`{name}`) / the same program"
    row(what, f"{slowest / bare:.2f} ({slowest * 1e3:.0f} ms)", "≤ 1.2")


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

        plain, static, dynamic = medians(
            bare, ours(ExportOptions(dynamic=False, size="256x448")), ours(ExportOptions(dynamic=True))
        )
        row(f"export {graph} 256x448 / bare torch.onnx.export", f"{static / plain:.2f} ({static:.1f} s)", "≤ 1.1")
        row(f"export {graph} dynamic / static", f"{dynamic / static:.2f} ({dynamic:.1f} s)", "≤ 1.5")


def measure_main(folder: Path) -> None:
    """The main job with the embedded recipe, then again with nothing changed."""
    for what, limit in (("first run", "≤ 60 s, ≤ 2 GiB"), ("second run, nothing changed", "")):
        row(f"main job, {what}", cli("run", "--quiet", "--output", folder), limit)


def measure_lower(folder: Path) -> None:
    """Lowering the largest graph."""
    cli("export", "--quiet", "--graph", "interpolator", "--output", folder)
    lowered = cli("lower", "--quiet", folder / "interpolator.onnx", "--output", folder / "lowered.onnx")
    row("lower interpolator, calibration included", lowered, "≤ 10 s")


def measure_validate(folder: Path) -> None:
    """One comparison of the largest graph at the size that ships."""
    recipe = folder / "large.toml"
    recipe.write_text("[scene]\nheight = 1088\nwidth = 1920\n[frames]\nscene_frames = 2\n[validate]\nsizes = []\n")
    cli("export", "--quiet", "--graph", "interpolator", "--size", "1088x1920", "--output", folder)
    compared = cli("validate", folder / "interpolator.onnx", "--quiet", "--recipe", recipe)
    row("validate interpolator at 1088x1920, two timesteps", compared, "≤ 60 s, ≤ 4 GiB")


def measure_gate(folder: Path) -> None:
    """Both graphs, FP32 and FP16, three flows at 256x448; then the gate, then its self-test."""
    recipe = ("--recipe", GATE_RECIPE)
    row(
        "default gate (`make gate`): export, lower, compare",
        cli("run", "--quiet", *recipe, "--output", folder),
        "≤ 60 s",
    )
    row("the gate on its report", cli("gate", folder / "report.json", *recipe), "")
    proof = cli("gate", "--quiet", "--self-test", folder / "refine.fp16.onnx", *recipe)
    row("self-test of `refine.fp16.onnx`, seven faults", proof, "")


def measure_clip(folder: Path) -> None:
    """Peak memory of a long clip against a short one."""
    scene = Scene(SceneOptions(height=64, width=96, motion_px=12.0))
    cli("export", "--quiet", "--graph", "interpolator", "--size", "64x96", "--output", folder)
    peaks = []
    for count in (20, 200):
        clip = folder / f"clip{count}"
        clip.mkdir()
        for index in range(count):
            Image.fromarray(uint8_from_frame(scene.frame(index / (count - 1)))).save(clip / f"{index:03}.png")
        peaks.append(cli("validate", folder / "interpolator.onnx", "--quiet", "--input", clip).peak_gib)
    row("memory of `validate` on 200 frames / on 20", f"{peaks[1] / peaks[0]:.2f} ({peaks[1]:.2f} GiB)", "1")


MEASURES = {
    "help": measure_help,
    "export": measure_export,
    "main": measure_main,
    "lower": measure_lower,
    "validate": measure_validate,
    "gate": measure_gate,
    "clip": measure_clip,
}


def main() -> None:
    """Print the table."""
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
