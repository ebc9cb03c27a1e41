"""`score` on small drawn data sets: torch and files, in every runtime that is here."""

import json
import re
import shutil

import pytest

from refine_export.errors import FrameError, RequestError
from refine_export.jobs import score_dataset
from refine_export.jobs.recipe_file import recipe_from_toml
from refine_export.jobs.score_dataset import score
from refine_export.runners.torch import TorchRunner
from refine_export.validate import runtimes
from tests.support.commands import COMMANDS
from tests.support.data_sets import draw_data_set
from tests.support.refusals import refused

RECIPE = recipe_from_toml('[checkpoint]\nweights = "seeded"\narchitecture = "IFNet_m"')


@pytest.fixture(scope="module")
def file(exports):
    return exports.fp32("interpolator", architecture="IFNet_m", size="64x96")


@pytest.fixture
def folder(tmp_path):
    return draw_data_set(tmp_path / "clips", "triplets")


def test_torch_and_a_file_in_two_runtimes_agree(file, folder, tmp_path):
    output = tmp_path / "out"
    result = score(folder, file, recipe=RECIPE, output=output, runtimes=["onnxruntime-cpu", "half"])
    assert (result.status, result.passed, result.path) == ("passed", True, output / "score.json")
    assert [(one.file, one.runtime) for one in result.scores] == [
        ("torch", "torch"),
        (file.name, "onnxruntime-cpu"),
        (file.name, "half"),
    ]
    assert {one.triplets for one in result.scores} == {2}
    assert all(abs(one.worst_loss_db) < 0.05 for one in result.scores)
    content = json.loads(result.path.read_text())
    assert content == result.to_dict()
    page = (output / "score.html").read_text()
    assert f"{result.scores[1].mean.psnr_db:.2f}" in page
    assert not re.search(r"<script|https?://", page)
    again = score(folder, [file], recipe=RECIPE, output=output, runtimes=["onnxruntime-cpu", "half"])
    assert (again.scores, again.run_seconds) == (result.scores, 0.0)


def test_torch_alone_needs_no_file_and_writes_nothing(folder, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    result = score(folder, recipe=RECIPE, limit=1)
    assert [(one.file, one.triplets) for one in result.scores] == [("torch", 1)]
    assert any("the first 1 of 2" in note for note in result.notes)
    assert (result.path, sorted(tmp_path.rglob("*"))) == (None, before)


def test_what_cannot_run_or_loses_too_much_is_never_green(file, folder, monkeypatch):
    lacking = score(folder, file, recipe=RECIPE, runtimes=["onnxruntime-cuda"], limit=1)
    assert lacking.status == "not compared"
    assert [one.status for one in lacking.shortfalls] == ["not compared"]
    darker = runtimes.open_checked_runner

    def opened(*given):
        runner = darker(*given)
        run = runner.run
        monkeypatch.setattr(runner, "run", lambda feeds: {"frame": run(feeds)["frame"] * 0.5})
        return runner

    monkeypatch.setattr(runtimes, "open_checked_runner", opened)
    result = score(folder, file, recipe=RECIPE, max_loss_db=0.1, limit=1)
    assert (result.status, len(result.scores)) == ("failed", 2)
    assert [one.status for one in result.shortfalls] == ["failed"]


def test_files_that_do_not_fit_are_refused_before_the_first_run(file, folder, exports, tmp_path, monkeypatch):
    monkeypatch.setattr(score_dataset, "score_triplets", None)
    with refused("makes-no-frames", RequestError):
        score(folder, exports.fp32("contextnet", size="64x96"), recipe=RECIPE)
    with refused("other-weights", RequestError):
        score(
            folder,
            file,
            recipe=recipe_from_toml('[checkpoint]\nweights = "seeded"\narchitecture = "IFNet_m"\nseed = 1'),
        )
    with refused("size-not-taken", RequestError, path=file, size=(64, 192)):
        large = draw_data_set(tmp_path / "large", "middlebury")
        for path in large.rglob("*.png"):
            shutil.copy(_wide(tmp_path), path)
        score(large, file, recipe=RECIPE)
    with refused("unknown-layout", FrameError):
        score(tmp_path / "large" / "other-data" / "Name0", recipe=RECIPE)


def _wide(folder):
    from PIL import Image

    path = folder / "wide.png"
    Image.new("RGB", (170, 48)).save(path)
    return path


def test_a_reference_without_frames_ends_the_run(folder, monkeypatch):
    run = TorchRunner.run
    monkeypatch.setattr(TorchRunner, "run", lambda self, feeds: {"frame": run(self, feeds)["frame"] * float("nan")})
    with refused("reference-overflows", RequestError):
        score(folder, recipe=RECIPE)


def test_the_verb_prints_figures_and_exits_by_the_verdict(folder, tmp_path, capsys):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[checkpoint]\nweights = "seeded"\narchitecture = "IFNet_m"\n')
    command = COMMANDS["score"]
    given = [str(folder), "--recipe", str(recipe), "--limit", "1", "--quiet"]
    command.main(given, standalone_mode=False)
    assert "clips" in capsys.readouterr().out
    command.main([*given, "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["scores"][0]["triplets"] == 1
