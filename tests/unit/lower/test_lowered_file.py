"""What `lower` writes and says: the file, its manifest, reasons and notes; and when it reuses them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.graph.linter import lint_file
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.strict_fp16 import HalfRunner
from refine_export.support.manifest import sha256_of_file
from tests.support.foreign import foreign_model, model_of
from tests.support.lower_files import STATIC, here_fixture, run_fixture, saved, tiny  # noqa: F401 (fixtures)


@pytest.fixture(scope="module")
def contextnet(references):
    """One of the five graphs, of one size."""
    return onnx_from_network(references("IFNet"), "contextnet", ExportOptions(dynamic=False, size="64x96"))


def test_result(run, here):
    """File, manifest and line: types, reasons, options and hash agree; a second run reuses it, byte for byte."""
    path = saved(foreign_model(STATIC))
    code, out, err = run(path, "-o", "out.onnx")
    assert code == 0, err
    assert err.splitlines()[0] == "read in.onnx ..."
    assert "out.onnx  0.0 MiB (FP32: 0.1), " in out
    manifest = json.loads(Path("out.onnx.json").read_text())
    assert manifest["artifact"] == "out.onnx"
    assert manifest["sha256"] == sha256_of_file(Path("out.onnx"))
    assert manifest["size_bytes"] == Path("out.onnx").stat().st_size
    assert manifest["inputs"]["source_sha256"] == sha256_of_file(Path("in.onnx"))
    assert manifest["options"]["precision"] == "fp16"
    assert manifest["options"]["fp32_tail"] is True
    assert {"onnx", "onnx-ir", "refine-export"} <= set(manifest["versions"])
    assert list(manifest["signature"]["inputs"]) == ["img0", "img1", "timestep"]
    details = manifest["details"]
    assert details["search"] is None
    assert details["source_bytes"] == Path("in.onnx").stat().st_size
    assert all(
        set(node) == {"node", "operator", "type", "rule", "reason"} and node["reason"] for node in details["nodes"]
    )
    operators = [node.op_type for node in onnx.load("out.onnx").graph.node if node.op_type != "Cast"]
    assert operators == [node["operator"] for node in details["nodes"] if node["operator"] != "Cast"]

    before = Path("out.onnx").read_bytes(), Path("out.onnx.json").read_bytes()
    code, again, err = run(path, "-o", "out.onnx", "--force")
    assert code == 0
    assert err == ""
    assert again.replace("reused", "") != again
    assert (Path("out.onnx").read_bytes(), Path("out.onnx.json").read_bytes()) == before


def test_only_the_same_is_reused(run, here):
    """Other options, another input, changed bytes or a manifest that lies: it is made again."""
    path = saved(tiny())

    def reused(*arguments):
        code, out, _ = run(path, "-o", "out.onnx", "--force", "--quiet", *arguments)
        assert code == 0
        return "(reused)" in out

    assert not reused()
    assert reused()
    assert not reused("--io", "fp16")
    assert not reused("--gridsample", "gather", "--precision", "fp32")
    assert not reused()
    manifest = json.loads(Path("out.onnx.json").read_text())
    Path("out.onnx.json").write_text(json.dumps(manifest | {"details": {}}))
    assert not reused()
    Path("out.onnx").write_bytes(Path("out.onnx").read_bytes() + b"\x00")
    assert not reused()
    model = tiny()
    model.graph.node[-1].name = "other"
    saved(model)
    assert not reused()
    assert reused()


def test_explain_and_json(run, here):
    """--explain prints each node with its type and reason; --json prints JSON and nothing else."""
    path = saved(tiny())
    code, out, err = run(path, "-o", "out.onnx", "--explain", "--quiet")
    assert (code, err) == (0, "")
    nodes = json.loads(Path("out.onnx.json").read_text())["details"]["nodes"]
    lines = out.splitlines()
    for line, node in zip(lines, nodes, strict=False):
        assert line == f"{node['type']:<9} {node['operator']} {node['node']}: {node['reason']}"
    assert len(lines) == len(nodes) + 2
    assert lines[-2].startswith("on the calibration feeds, rounded as its types say: ")
    assert any(line.startswith("float32   GridSample warp: samples: ") for line in lines)
    code, out, err = run(path, "-o", "out.onnx", "--force", "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert result["path"] == "out.onnx"
    assert result["reused"]
    assert result["nodes"] == nodes
    assert sum(result["types"].values()) == sum(node["type"] != "none" for node in nodes)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ([], "GridSample"),
        (["--gridsample", "gather"], "GatherND"),
        (["--precision", "bf16"], "GridSample"),
        (["--precision", "fp32", "--gridsample", "gather"], "GatherND"),
        (["--io", "fp16"], "GridSample"),
    ],
)
def test_our_own_graph(run, here, contextnet, options, rule):
    """A file of this tool needs no size: it is calibrated with its own feeds, and its results are near."""
    path = saved(contextnet)
    code, _, err = run(path, "-o", "out.onnx", *options)
    assert code == 0, err
    assert "the graph contextnet" in err
    assert "calibrate: 4 feeds" in err
    assert lint_file(Path("out.onnx")) == []
    assert rule in {node.op_type for node in onnx.load("out.onnx").graph.node}
    random = np.random.default_rng(0)
    feeds = {"image": random.random((1, 3, 64, 96)), "flow": random.uniform(-5, 5, (1, 2, 64, 96))}
    with OrtRunner(Path("in.onnx")) as expected, HalfRunner(Path("out.onnx")) as actual:
        wanted = expected.run({name: array.astype(np.float32) for name, array in feeds.items()})
        given = actual.run({info.name: feeds[info.name].astype(info.dtype) for info in actual.inputs})
    tolerance = 0.04 if "bf16" in options else 4e-3
    for name, array in wanted.items():
        assert np.abs(array - given[name].astype(np.float32)).max() < tolerance * np.abs(array).max()
    assert json.loads(Path("out.onnx.json").read_text())["inputs"]["checkpoint_sha256"]


def test_a_fault_of_the_weights_is_a_note(run, here):
    """What FP16 does not hold is said in a line, and kept in the manifest."""
    model = foreign_model(STATIC)
    node = next(node for node in model.graph.node if node.output[0] == "block0.conv0.0.weight")
    values = numpy_helper.to_array(node.attribute[0].t).copy()
    values[0, 0, 0, 0] = 1e6
    node.attribute[0].t.CopyFrom(numpy_helper.from_array(values, "v"))
    code, out, _ = run(saved(model), "-o", "out.onnx")
    assert code == 0
    assert "note: block0.conv0.0.weight (to 1e+06) does not fit float16: 1 values overflow" in out
    assert "block0.conv0.0.weight" in json.loads(Path("out.onnx.json").read_text())["details"]["notes"][0]


def test_a_fault_of_the_file_is_a_note(run, here):
    """What the lint says of the FP32 file too does not stop the lowering, named or not; the words are passed on."""
    sample = 'y = GridSample <padding_mode="border"> (x, g)'
    for label, name in (("[bad] ", "bad"), ("", "GridSample_1")):
        path = saved(model_of(label + sample, "float[1,3,64,96] x, float[1,64,96,2] g", "float[1,3,64,96] y"))
        code, out, err = run(path, "-o", "out.onnx", "--force")
        assert code == 0, err
        assert f"note: {name}: align_corners is 0; expected 1 (gridsample-corners), as in the FP32 file" in out
