"""Engines of every graph and precision by the real TensorRT for RTX, which needs no GPU to build them.

Which known-bad files its types and its samplers show, and that NVIDIA's own tool makes the same engine.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

import refine_export as rx
from refine_export.cli.render.print_commands import print_reproduced
from refine_export.engine import engine_file as engine_file_module
from refine_export.engine.bindings import Log, load_library
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.cross_checks import cross_checks
from refine_export.engine.engine_file import engine_file, engine_target
from refine_export.engine.engine_from_onnx import engine_from_onnx
from refine_export.engine.onnx_source import read_source
from refine_export.errors import GraphError
from refine_export.lower.lower_options import LowerOptions
from refine_export.self_test.mutants import Mutant, attempts_of
from refine_export.support.progress import Silent
from tests.support.engine_models import needs_rtx

pytestmark = needs_rtx

GRAPHS = [("contextnet", "IFNet"), ("unet", "IFNet"), ("refine", "IFNet"), ("interpolator", "IFNet_m")]
SIZES = BuildOptions(target="rtx", min_size="64x64", opt_size="96x160", max_size="256x448")
ONE_SIZE = BuildOptions(target="rtx", opt_size="96x160")
TYPES = {"fp32": "FLOAT", "fp16": "HALF", "bf16": "BF16"}
CAUGHT = {
    "nearest": "wrong-sampling",
    "zeros-padding": "wrong-sampling",
    "align-corners": "wrong-sampling",
    "fp16-coordinates": "engine-types",
}
"""Known-bad files that the build refuses."""
NOT_VISIBLE = {"swapped-flows", "weight", "bgr", "fixed-timestep"}
"""Those that have the types and the samplers of a good file: only a comparison of numbers finds them."""


def source_of(exports, graph, architecture, precision):
    if architecture == "RIFE 4":
        return exports.network("rife4_0_refined")[1]
    if precision == "fp32":
        return exports.fp32(graph, architecture=architecture)
    return exports.lowered(graph, LowerOptions(precision=precision), architecture=architecture)


@pytest.mark.parametrize("precision", TYPES)
@pytest.mark.parametrize(("graph", "architecture"), GRAPHS)
def test_every_graph_and_precision_becomes_an_engine(
    exports, tmp_path, monkeypatch, record_property, graph, architecture, precision
):
    monkeypatch.setattr(engine_file_module, "has_gpu_of", lambda machine: False)
    source, fp32 = (source_of(exports, graph, architecture, kind) for kind in (precision, "fp32"))
    made = engine_file(source, tmp_path / "m.rtx", SIZES, None, Silent(), target=engine_target(SIZES), fp32=fp32)
    details = made.manifest.details
    record_property(f"{graph} {precision}", f"fallback {made.fallback}, {made.size_bytes / 2**20:.1f} MiB")
    inferred = details["inferred"]
    as_it_is = (graph, precision) != ("interpolator", "fp32")  # on which 1.7.1's compiler fails: docs/engines.md
    assert made.fallback == ("native" if as_it_is else "gather")
    assert inferred["unchecked"] == []
    types = {kind.partition(" ")[0]: kind.partition(" ")[2] for kind in inferred["types"]}
    float_ = TYPES[precision]
    assert types["CONVOLUTION"] == f"{float_} -> {float_}"
    if graph != "unet" and as_it_is:
        assert types["GRID_SAMPLE"] == "FLOAT FLOAT -> FLOAT"
    nodes = [node.op_type for node in onnx.load(source).graph.node]
    assert details["samplers"]["layers"] == (nodes.count("GridSample") if as_it_is else 0)
    assert inferred["layers"]["CONVOLUTION"] == nodes.count("Conv")
    assert inferred["layers"].get("DECONVOLUTION", 0) == nodes.count("ConvTranspose")


def test_a_file_that_the_compiler_fails_on_is_built_with_its_samplers_written_out(exports, tmp_path, monkeypatch):
    """1.7.1 fails on this one; a version that builds it as it is makes docs/engines.md old."""
    monkeypatch.setattr(engine_file_module, "has_gpu_of", lambda machine: False)
    source = exports.fp32("interpolator", architecture="IFNet_m", size="96x160")
    options = BuildOptions(target="rtx")
    made = engine_file(source, tmp_path / "m.rtx", options, None, Silent(), target=engine_target(options), fp32=source)
    details = made.manifest.details
    tried = [(one["fallback"], one["status"]) for one in details["fallbacks"]]
    assert tried == [("native", "not built"), ("gather", "not executed")]
    assert (details["samplers"]["layers"], details["inferred"]["unchecked"]) == (0, [])


@pytest.mark.parametrize(
    ("graph", "architecture", "precision"),
    [
        *((*graph, kind) for graph in (("refine", "IFNet"), ("interpolator", "IFNet_m")) for kind in ("fp32", "fp16")),
        ("interpolator", "RIFE 4", "fp32"),
    ],
)
def test_wrong_types_and_samplers_are_caught_at_build_time(exports, graph, architecture, precision):
    library = load_library("rtx")
    log = Log(library.module)
    source = source_of(exports, graph, architecture, precision)
    shapes = read_source(source, ONE_SIZE).shapes
    found = {}
    for mutant in attempts_of(onnx.load(source), graph):
        if not isinstance(mutant, Mutant) or mutant.name in NOT_VISIBLE:
            continue
        with pytest.raises(GraphError) as caught:
            engine_from_onnx(library, mutant.model.SerializeToString(), ONE_SIZE, shapes, log=log)
        found[mutant.name] = caught.value.code
    assert found == CAUGHT


def test_the_other_known_bad_files_are_named():
    from refine_export.self_test.mutants import _FAULTS

    assert _FAULTS.keys() == CAUGHT.keys() | NOT_VISIBLE


def test_printed_commands_make_the_same_engine_as_does_polygraphy(exports, tmp_path, monkeypatch, capsys):
    """The script of `reproduce` runs as it is printed; Polygraphy, NVIDIA's own tool, writes the same bytes too."""
    pytest.importorskip("polygraphy", reason="polygraphy is not installed: pip install polygraphy")
    monkeypatch.setattr(engine_file_module, "has_gpu_of", lambda machine: False)
    monkeypatch.chdir(tmp_path)
    source = exports.fp32("refine", size="64x96")
    made = rx.build(source, output="refine.rtx", target="rtx")
    print_reproduced(rx.reproduce(made))
    done = run_script(capsys.readouterr().out, tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for name in ("refine.rtx", "refine.polygraphy.rtx"):
        assert (tmp_path / "reproduced" / name).read_bytes() == made.path.read_bytes()


def test_polygraphy_makes_an_engine_of_the_same_size(exports, tmp_path, monkeypatch):
    """With several sizes, the library itself never writes the same bytes twice."""
    pytest.importorskip("polygraphy", reason="polygraphy is not installed: pip install polygraphy")
    monkeypatch.setattr(engine_file_module, "has_gpu_of", lambda machine: False)
    source = exports.lowered("refine")
    made = engine_file(source, tmp_path / "m.rtx", SIZES, None, Silent(), target=engine_target(SIZES))
    done = run_script(cross_checks(made.manifest, source, made.path)["polygraphy"], tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (tmp_path / "m.polygraphy.rtx").stat().st_size == made.size_bytes


def run_script(text, folder):
    """Run shell commands with this interpreter's programs, and with this package's own."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "refine-export"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m refine_export.cli.main "$@"\n')
    program.chmod(0o755)
    path = os.pathsep.join((str(program.parent), str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(["sh", "-ec", text], cwd=folder, env=environment, capture_output=True, text=True, check=False)
