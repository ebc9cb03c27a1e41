"""Lint adds what TensorRT's own parser says, asked in a child process, where one is installed."""

import json
import sys

import onnx
import pytest

from refine_export.cli.main import main
from refine_export.engine import parser_check
from refine_export.jobs.lint_files import lint
from refine_export.support.text import json_safe
from tests.support.engine_models import needs_rtx
from tests.support.foreign import foreign_model
from tests.support.lint_models import model_of


@pytest.fixture
def files(tmp_path):
    """A file that TensorRT for RTX takes, not named in UTF-8, and one with two refused nodes, one unnamed."""
    bad = model_of("[dilated] p = AveragePool <kernel_shape=[3,3], dilations=[2,2]> (x) y = my.Warp (p, flow)")
    for name, model in (("good\udc80", foreign_model()), ("bad", bad)):
        onnx.save_model(model, tmp_path / f"{name}.onnx")
    return [tmp_path / "good\udc80.onnx", tmp_path / "bad.onnx"]


def test_a_stack_is_named_and_judged(tmp_path):
    """A stack is judged as a RIFE network, whose warps must clamp to the border; an unknown graph is not."""
    found = {}
    for channels in (7, 8):
        model = model_of(
            f"p = Constant <value_ints = [3, 2, {channels - 5}]> () i, f, r = Split <axis = 1> (x, p) "
            "g = Transpose <perm = [0, 2, 3, 1]> (f) y = GridSample <align_corners = 1> (i, g)",
            inputs=f'float[1, {channels}, "H", "W"] x',
        )
        onnx.save_model(model, path := tmp_path / f"{channels}.onnx")
        report = lint([path, path])
        found[channels] = report.errors, list(report.stacks.values()), any("one input" in note for note in report.notes)
    assert found == {7: (1, [7], True), 8: (0, [], False)}


@needs_rtx
def test_the_parser_is_asked_node_by_node(files, capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    report = lint(files)
    good, bad = report.parser.values()
    assert (good.library or "").startswith("TensorRT for RTX ")
    assert (good.faults, good.library) == ((), bad.library)
    assert [(fault.node, fault.operator, fault.code) for fault in bad.faults] == [
        ("dilated", "AveragePool", "UNSUPPORTED_NODE"),
        ("", "Warp", "INVALID_NODE"),
    ]
    # What the child does, in this process; enterprise TensorRT, which is not installed, is asked first.
    request = {"targets": ["trt", "rtx"], "files": list(map(str, files))}
    found = parser_check.work(request, tmp_path, lambda *message: None)
    assert found == {"library": bad.library, "faults": json_safe([good.faults, bad.faults])}
    assert [one.node for one in report.findings[str(files[1])] if one.rule == "parser-refused"] == ["dilated", "Warp 1"]
    assert not report.passed
    with pytest.raises(SystemExit) as exit_:
        main(["lint", *map(str, files), "--json"])
    assert exit_.value.code == 1
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(report.to_dict()))
    assert f"{files[1]}: {bad.conclusion}" in report.notes


def test_without_a_library_or_an_answer_a_line_says_so(files, monkeypatch, capsys):
    """Neither is a fault of the file."""
    monkeypatch.setattr(parser_check, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as exit_:
        main(["lint", str(files[0])])
    assert exit_.value.code == 0
    assert "tensorrt-rtx" in capsys.readouterr().out
    monkeypatch.setattr(parser_check, "find_spec", lambda name: name == "tensorrt" or None)
    monkeypatch.setattr(parser_check, "_TIME_LIMIT_S", 0)
    report = lint(files[0])
    assert (report.passed, report.parser[str(files[0])].library) == (True, None)
