"""Data flows one way, heavy packages wait for their use, and the public surface is what was promised."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import refine_export

ROOT = Path(refine_export.__file__).parent

# The pipeline: a module imports only what stands before it.
ORDER = [
    "refine_export",
    "tensor_error",
    "errors",
    "optional",
    "atomic",
    "progress",
    "environment",
    "signature",
    "manifest",
    "weights_file",
    "checkpoint",
    "graph_modules",
    "network",
    "size_free",
    "export",
    "graph",
    "graph.tensorrt_ops",
    "graph.rules",
    "graph.load",
    "graph.coordinates",
    "graph.lint",
    "graph.prepare",
    "graph.opset",
    "graph.warp",
    "graph.ranges",
    "graph.operators",
    "graph.cost",
    "graph.faults",
    "graph.precision",
    "graph.retype",
    "graph.half",
    "graph.editor",
    "graph.samplers",
    "graph.mutants",
    "graph.taps",
    "graph.counterparts",
    "onnx_file",
    "runners",
    "runners.base",
    "runners.torch",
    "runners.triton_bounds",
    "runners.triton_failures",
    "runners.triton_wire",
    "runners.triton_options",
    "runners.triton_served",
    "runners.triton_memory",
    "runners.triton_client",
    "runners.triton",
    "engine",
    "engine.options",
    "engine.trt",
    "engine.machine",
    "engine.key",
    "runners.trt_shapes",
    "runners.trt_device",
    "runners.ort_session",
    "runners.ort_binding",
    "runners.ort",
    "runners.half",
    "textures",
    "moving_layers",
    "random_layers",
    "scene_layers",
    "scenes",
    "frames",
    "video",
    "sequences",
    "feeds",
    "npz_feeds",
    "source",
    "metrics",
    "limits",
    "error_memory",
    "calibration",
    "lowering",
    "calibration_feeds",
    "sensitivity",
    "lowered_result",
    "bisected",
    "lowered_file",
    "validate",
    "bisect",
    "self_test_result",
    "engine.shapes",
    "engine.network",
    "engine.guard",
    "engine.config",
    "engine.build",
    "engine.inspector",
    "engine.canary",
    "engine.timing_cache",
    "engine.supervise",
    "engine.ladder",
    "engine.reproduce",
    "engine.refit",
    "engine.engine_manifest",
    "engine.plan",
    "engine.output",
    "engine.source",
    "runners.trt",
    "engine.judging",
    "engine.child",
    "engine.engine_file",
    "engine.refit_file",
    "candidates",
    "deploy",
    "deploy.names",
    "deploy.releases",
    "deploy.options",
    "deploy.sources",
    "deploy.networks",
    "deploy.config_text",
    "deploy.model_config",
    "deploy.frame_models",
    "deploy.python_model.model",
    "deploy.readme",
    "deploy.replace",
    "deploy.repository",
    "deploy.rules_text",
    "deploy.rules_read",
    "deploy.rules_files",
    "deploy.rules_config",
    "deploy.rules_warmup",
    "deploy.rules_tensors",
    "deploy.rules_onnx",
    "deploy.rules_plan",
    "deploy.rules_hashes",
    "deploy.rules_ensemble",
    "deploy.check",
    "deploy.kserve",
    "testing",
    "schedule",
    "report",
    "report.data",
    "report.pictures",
    "report.rows",
    "report.words",
    "report.charts",
    "report.matrix",
    "report.plots",
    "report.bisection",
    "report.html",
    "report.folder",
    "album",
    "evidence",
    "judgement",
    "recipe",
    "inputs",
    "deploy.channels",
    "deploy.served",
    "deploy.load",
    "deploy.verified",
    "deploy.served_networks",
    "deploy.served_frames",
    "deploy.verify",
    "bisect_file",
    "engine_jobs",
    "pipeline",
    "gate",
    "gate.loaded",
    "gate.schema",
    "gate.rules",
    "gate.baseline",
    "gate.changes",
    "gate.junit",
    "gate.markdown",
    "gate.annotations",
    "gate.job",
    "self_test",
    "gate.proof",
    "doctor_engines",
    "doctor",
    "interpolation",
    "interpolation.line",
    "interpolation.stream",
    "interpolation.timing",
    "interpolation.between",
    "interpolation.cuts",
    "interpolation.colour",
    "interpolation.reader",
    "interpolation.writer",
    "interpolation.opened",
    "interpolation.pace",
    "interpolation.job",
    "console",
    "console_bisect",
    "console_engine",
    "console_gate",
    "console_verify",
    "verbs",
    "verbs.options",
    "verbs.common",
    "verbs.run",
    "verbs.init",
    "verbs.inspect",
    "verbs.export",
    "verbs.lower",
    "verbs.build",
    "verbs.refit",
    "verbs.lint",
    "verbs.validate",
    "verbs.gate",
    "verbs.doctor",
    "verbs.bisect",
    "verbs.deploy_triton",
    "verbs.deploy_check",
    "verbs.deploy_kserve",
    "verbs.deploy_verify",
    "verbs.deploy",
    "verbs.interpolate",
    "cli",
]
HEAVY = ("torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "numpy", "PIL", "skimage", "jinja2", "safetensors")
VERBS = (
    "run",
    "init",
    "inspect",
    "export",
    "lower",
    "build",
    "refit",
    "lint",
    "validate",
    "gate",
    "bisect",
    "deploy triton",
    "deploy check",
    "deploy verify",
    "deploy kserve",
    "interpolate",
    "doctor",
)


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__") or "refine_export"
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_every_module_has_its_place():
    assert sorted(name for name, _ in modules()) == sorted(ORDER)


@pytest.mark.parametrize(("name", "tree"), list(modules()), ids=[name for name, _ in modules()])
def test_imports_point_backwards(name, tree):
    for target in imported(tree):
        stage = target.removeprefix("refine_export.")
        if target.startswith("refine_export.") and stage in ORDER:
            assert ORDER.index(stage) < ORDER.index(name), f"{name} imports {stage}"


def test_the_networks_know_nothing_of_the_tool():
    for path in (ROOT.parent / "models" / "rife").glob("*.py"):
        assert not any(target.startswith("refine_export") for target in imported(ast.parse(path.read_text())))


BARE = """
import sys

sys.modules.update(dict.fromkeys({heavy}))  # None: import raises ModuleNotFoundError, find_spec finds nothing
from refine_export.cli import main
main({arguments})
"""


def bare(*arguments, heavy=HEAVY):
    """Run the command line in an interpreter that has none of the heavy packages."""
    code = BARE.format(heavy=list(heavy), arguments=list(arguments))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_answers_without_any_heavy_package(verb):
    result = bare(*verb.split(), "--help")
    assert result.returncode == 0, result.stderr
    assert "Usage" in result.stdout


def test_version_answers_without_any_heavy_package():
    assert bare("--version").stdout == f"refine-export {refine_export.__version__}\n"


@pytest.mark.parametrize("arguments", [("run",), ("export", "--graph", "unet"), ("inspect", __file__)])
def test_without_torch_the_extra_is_named(arguments, tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes((2).to_bytes(8, "little") + b"{}")
    arguments = tuple(str(file) if argument == __file__ else argument for argument in arguments)
    result = bare(*arguments, heavy=("torch", "safetensors"))
    assert result.returncode == 3
    assert "pip install 'refine-export[torch]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_without_onnxruntime_nothing_is_green(tmp_path):
    code = f"run --graph contextnet -o {tmp_path} --quiet".split()
    recipe = tmp_path / "r.toml"
    recipe.write_text("[scene]\nheight = 64\nwidth = 64\nmotion_px = 4.0\n[validate]\nsizes = []\n")
    result = bare(*code, "--recipe", str(recipe), heavy=("onnxruntime",))
    assert result.returncode == 3, result.stderr
    assert "not compared" in result.stdout
    assert "pip install 'refine-export[ort]'" in result.stdout.replace("\n", " ")
    assert "passed:" not in result.stdout


def test_doctor_names_all_that_is_missing():
    result = bare("doctor", heavy=("torch", "onnxscript", "onnxruntime", "tensorrt", "polygraphy", "tritonclient"))
    assert result.returncode == 0, result.stderr
    for extra in ("torch", "ort", "trt", "triton"):
        assert f"pip install 'refine-export[{extra}]'" in result.stdout


def test_public_names():
    assert refine_export.__all__ == ["__version__"]
    assert (ROOT / "py.typed").is_file()
    assert (ROOT.parent / "models" / "rife" / "py.typed").is_file()
