"""Files are bisected against their weights or another file, from Python and from the command line."""

import dataclasses
import json

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import typer
from typer.testing import CliRunner

from refine_export.cli.render.print_verdicts import print_bisected
from refine_export.cli.verbs import bisect as verb
from refine_export.data.frame_options import SceneOptions
from refine_export.errors import RequestError
from refine_export.graph.stacked_input import with_stacked_input
from refine_export.jobs.bisect_file import bisect
from refine_export.jobs.recipe_file import recipe_from_toml
from refine_export.self_test.mutants import mutants_of
from tests.support.bisect_cases import FLOWS, X, bisected, model_of, sampling_model
from tests.support.foreign import Foreign, foreign_feeds, foreign_model
from tests.support.refusals import refused


@pytest.fixture
def recipe():
    plain = recipe_from_toml('[checkpoint]\nweights = "seeded"\n[validate]\nflows = ["network", "outside"]')
    return dataclasses.replace(plain, scene=SceneOptions(height=64, width=64, motion_px=6))


def test_a_file_is_compared_with_its_weights(exports, tmp_path, recipe):
    path = exports.fp32("contextnet", size="64x64")
    good = bisect(path, recipe=recipe)
    assert len(repr(good)) < 500  # a line, without its tensors
    assert good.passed
    assert good.reference_error < 1e-5
    assert any("network flow" in feed for feed in good.feeds)
    bad = next(mutant for mutant in mutants_of(onnx.load(path), "contextnet") if mutant.name == "weight")
    onnx.save(bad.model, tmp_path / "bad.onnx")
    assert bisect(tmp_path / "bad.onnx", recipe=recipe).first.layer.node == bad.first_bad_node


@pytest.mark.slow
def test_a_stack_is_compared_with_its_weights(exports, tmp_path, recipe):
    """Under other names of its input and output, as files of other tools have."""
    weights, pair = exports.network("rife4_6")
    model = ir.from_proto(with_stacked_input(onnx.load(pair), "stacked11", 32))
    model.graph.inputs[0].name, model.graph.outputs[0].name = "both", "middle"
    onnx.save(good := ir.to_proto(model), tmp_path / "good.onnx")
    found = bisect(tmp_path / "good.onnx", checkpoint=weights, recipe=recipe)
    assert found.passed
    assert found.reference_error < 1e-5
    bad = next(mutant for mutant in mutants_of(good, None) if mutant.name == "fixed-timestep")
    onnx.save(bad.model, tmp_path / "bad.onnx")
    found = bisect(tmp_path / "bad.onnx", checkpoint=weights, recipe=recipe, timesteps=(0.25,))
    assert found.first.layer.operator == "Split"  # the first that both files have behind the fault


def test_a_file_of_another_tool_needs_a_file_to_be_compared_with(tmp_path, recipe):
    path, other, feed = (tmp_path / name for name in ("rife.onnx", "good.onnx", "feed.npz"))
    for file in (path, other):
        onnx.save(foreign_model(Foreign()), file)
    assert bisect(path, recipe=recipe, against=other, size="64x96").passed
    np.savez(feed, **foreign_feeds(Foreign(), 64, 96))
    assert bisect(path, recipe=recipe, against=other, feeds=[feed]).feeds == ("feed.npz",)
    for given, code in (({}, "unknown-graph"), ({"against": other, "size": "64"}, "wrong-option")):
        with refused(code, RequestError):
            bisect(path, recipe=recipe, **given)


def command(*arguments):
    app = typer.Typer()
    app.command()(verb.bisect)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_tells_where_it_went_wrong(tmp_path):
    good, bad, feed = tmp_path / "good.onnx", tmp_path / "bad.onnx", tmp_path / "feed.npz"
    onnx.save(sampling_model(), good)
    onnx.save(sampling_model("nearest"), bad)
    np.savez(feed, **FLOWS)
    result = command(bad, "--against", good, "--feed", feed, "--quiet")
    assert result.exit_code == 1
    assert "GridSample sample" in result.stdout
    assert len(result.stdout.splitlines()) < 24
    content = json.loads(command(bad, "--against", good, "--feed", feed, "--json").stdout)
    assert content["first"]["layer"]["node"] == "sample"
    assert command(good, "--against", good, "--feed", feed, "--quiet").exit_code == 0
    assert isinstance(command(good, "--against", good, "--runtime", "tpu").exception, RequestError)


def test_the_console_shows_at_most_a_screenful(capsys):
    body = " ".join(f"[n{k}] t{k + 1} = Add (t{k}, k)" for k in range(30)).replace("(t0,", "(x,").replace("t30", "y")
    print_bisected(bisected(model_of(body, k=1), model_of(body, k=2), [{"x": X}]))
    shown = capsys.readouterr().out
    assert "30 jumps" in shown
    assert len(shown.splitlines()) < 30
