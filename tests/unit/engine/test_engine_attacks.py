"""Files that lie, disks that are full, sources that change: an engine's jobs refuse them in words and lose nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from refine_export.accuracy.limits import Limits
from refine_export.cli.main import main
from refine_export.engine import engine_file
from refine_export.engine import output_files as output
from refine_export.engine.engine_manifest import sealed
from refine_export.engine.fallbacks import Numbers, climb
from refine_export.engine.identity import fingerprint_of_key
from refine_export.engine.plan import artifact_from_plan, plan_bytes
from refine_export.errors import GraphError, RequestError
from refine_export.jobs.recipe_file import recipe_with
from refine_export.jobs.refit_engine import refit
from refine_export.support.manifest import Manifest, manifest_path
from tests.support.engine_seat import RECIPE, Seat, files_fixture, made_by, recipe_with_seed, seat_fixture  # noqa: F401 (fixtures)

WRONG = (None, [], {}, "x\n[green]passed\x1b[2J", [1], {"a": [1]}, "9" * 5000, -1, 10**400, float("nan"))


@pytest.fixture(scope="module")
def made(files, tmp_path_factory):
    """A folder with an engine and all that lies beside it."""
    with pytest.MonkeyPatch.context() as patch:
        seat = Seat(tmp_path_factory.mktemp("made"), files, patch, "11.4.0")
        seat.build()
    return seat.plan.parent


@pytest.fixture
def plan(made, tmp_path):
    shutil.copytree(made, tmp_path / "engine")
    return tmp_path / "engine" / "contextnet.plan"


def lie(plan, path, value):
    """Into a manifest, whose fingerprint and seal are made anew."""
    content = json.loads(manifest_path(plan).read_text())
    inner = content
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    if path[-1] != "fingerprint" and isinstance(content["details"], dict):
        content["fingerprint"] = fingerprint_of_key(content["details"].get("key"))
        with suppress(ValueError):  # NaN: no seal can be made of it
            content = dataclasses.asdict(sealed(Manifest(**content)))
    manifest_path(plan).write_text(json.dumps(content))


def shown(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return exit_.value.code, captured.out, captured.err


@pytest.mark.parametrize(
    "path",
    [
        "artifact inputs options versions signature fingerprint seconds size_bytes details".split(),  # noqa: SIM905
        [f"details.{name}" for name in ("key", "artifact", "onnx", "guard", "canary", "precision", "ladder", "notes")],
        [f"details.key.{name}" for name in ("tensorrt", "gpu", "options", "profiles", "rung", "compute_capability")],
        [f"details.canary.{name}" for name in ("passed", "words")],
        [
            "details.artifact.file",
            "details.precision.convolutions",
            "details.precision.proven",
            "details.guard.repairs",
        ],
    ],
)
def test_a_manifest_that_lies_is_shown_or_refused_in_words(plan, path, capsys):
    text = manifest_path(plan).read_text()
    for name in path:
        for value in WRONG:
            manifest_path(plan).write_text(text)
            lie(plan, name.split("."), value)
            for more in ([], ["--json"]):
                code, out, _ = shown(["inspect", plan, *more], capsys)
                assert code == 0, (name, value)
                assert not [line for line in out.splitlines() if line.startswith(("[green]", "passed"))], (name, value)
                assert "\x1b" not in out
            with suppress(GraphError):
                artifact_from_plan(plan)


@pytest.mark.parametrize(
    ("path", "value"),
    [("details.artifact.precision", "bf16"), ("details.ladder", []), ("options.refittable", True), ("seconds", 2.0)],
)
def test_a_manifest_that_was_altered_by_hand_is_refused(plan, path, value):
    content = json.loads(manifest_path(plan).read_text())
    *above, last = path.split(".")
    inner = content
    for name in above:
        inner = inner[name]
    inner[last] = value
    manifest_path(plan).write_text(json.dumps(content))
    with pytest.raises(GraphError, match="was altered: its seal is another; expected the manifest that the build"):
        artifact_from_plan(plan)


@pytest.mark.parametrize(
    "profile", [[[1, 3, 32, 32]] * 2, [[1, 3, 10**9, 32]] * 3, [[1, 3, -32, 32]] * 3, [[1, 3]] * 3]
)
def test_sizes_that_no_engine_has_are_no_feeds(plan, profile):
    lie(plan, ["details", "key", "profiles"], [{"image": profile}])
    with pytest.raises(GraphError, match="was altered"):
        artifact_from_plan(plan)


def test_a_manifest_without_end_is_not_read(plan):
    with manifest_path(plan).open("ab") as file:
        file.truncate(2**30)
    with pytest.raises(GraphError, match="is damaged .it has 1073741824 bytes"):
        artifact_from_plan(plan)


def test_what_is_no_regular_file_is_not_waited_for(plan, tmp_path):
    os.mkfifo(tmp_path / "fifo.plan")
    for path in (tmp_path / "fifo.plan", "/dev/zero"):
        with pytest.raises(GraphError, match="is no regular file; expected a TensorRT plan"):
            plan_bytes(Path(path))
    manifest_path(plan).unlink()
    os.mkfifo(manifest_path(plan))
    with pytest.raises(GraphError, match="json is no regular file; expected the manifest"):
        artifact_from_plan(plan)


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is empty"), (b"ftr", "is no TensorRT plan"), (b"text", "is no Te")]
)
def test_a_file_that_is_called_a_plan_is_no_checkpoint(tmp_path, content, words, capsys):
    (tmp_path / "m.plan").write_bytes(content)
    for verb in ("inspect", "validate"):
        code, _, err = shown([verb, tmp_path / "m.plan"], capsys)
        assert code == 2
        assert words in err


def test_a_source_that_changes_is_no_engines(seat, monkeypatch):
    """It is another file after the key was made; that the next rung would be built from it is no way out."""
    inner, other = engine_file.file_of_rung, seat.folder / "other" / "contextnet.fp16.onnx"

    def changes(rung, source, *more):
        shutil.copy(other, source)
        return inner(rung, source, *more)

    monkeypatch.setattr(engine_file, "file_of_rung", changes)
    own = seat.fp16.read_bytes()
    for rung in ("native", "gather"):
        seat.fp16.write_bytes(own)
        with pytest.raises(RequestError, match="changed while it was being built"):
            seat.build(rung=rung)
    assert not seat.plan.exists()


@pytest.mark.parametrize(
    "name", ["contextnet.onnx", "contextnet.fp16.onnx.json", "contextnet.onnx.json", "weights.bin"]
)
def test_what_is_read_is_not_overwritten_even_by_force(seat, name):
    path = seat.fp16.with_name(name)
    if name == "weights.bin":
        path.write_bytes(b"mine")
        recipe = dataclasses.replace(RECIPE, checkpoint=dataclasses.replace(RECIPE.checkpoint, path=str(path)))
    else:
        recipe = RECIPE
    before = path.read_bytes()
    with pytest.raises(RequestError, match="is read, and would be overwritten"):
        seat.build(recipe=recipe, output=path, force=True)
    assert path.read_bytes() == before


def test_a_refit_does_not_overwrite_the_manifest_that_it_reads(seat):
    seat.build(refittable=True)
    before = manifest_path(seat.plan).read_bytes()
    with pytest.raises(RequestError, match="is read, and would be overwritten"):
        refit(seat.plan, seat.fp16, output=manifest_path(seat.plan), recipe=RECIPE, force=True)
    assert manifest_path(seat.plan).read_bytes() == before


def test_an_fp32_file_of_something_else_is_refused_before_the_ladder(seat):
    large = made_by(seat.folder / "large", recipe_with(RECIPE, {"size": "96x96"})).with_name("contextnet.onnx")
    for fp32, words in (
        (seat.fp16, "its precision is fp16; expected fp32"),
        (seat.folder / "other" / "contextnet.onnx", "its weights .sha256. is"),
        (large, "expected one for the same sizes|is made for height 96"),
    ):
        with pytest.raises(RequestError, match=words):
            seat.build(fp32=fp32)


@pytest.mark.parametrize("folder", ["~nosuchuser/x", "a\0b"])
def test_a_folder_of_timing_caches_that_is_not_a_path(seat, folder):
    with pytest.raises(RequestError) as caught:
        seat.build(timing_cache=folder)
    assert caught.value.code == "bad-path"


@pytest.mark.parametrize("file", ["plan", "answer.json.partial"])
def test_a_disk_that_is_full_in_the_child(seat, file):
    seat.build()
    before = {path.name: path.read_bytes() for path in seat.plan.parent.iterdir()}
    path = seat.folder / "fake" / "tensorrt.py"
    path.write_text(
        path.read_text()
        + f"""
import errno, pathlib
def full(self, inner):
    if self.name == {file!r} and ".build-" in str(self):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))
    return inner
def with_full(inner):
    return lambda self, *given, **named: full(self, inner)(self, *given, **named)
for name in ("write_bytes", "write_text"):
    setattr(pathlib.Path, name, with_full(getattr(pathlib.Path, name)))
"""
    )
    with pytest.raises(RequestError, match="No space left on device; free some space"):
        seat.build(optimization_level=1)
    left = {path.name: path.read_bytes() for path in seat.plan.parent.iterdir() if "timing" not in path.name}
    assert left == {name: content for name, content in before.items() if "timing" not in name}


def test_a_disk_that_is_found_full_at_the_very_end(seat, monkeypatch):
    seat.build()
    before = {path.name: path.read_bytes() for path in seat.plan.parent.iterdir() if "timing" not in path.name}

    def full(handle, inner=os.fsync):
        if "plan.json" in str(Path(f"/proc/self/fd/{handle}").readlink()):  # the last file of the two
            raise OSError(28, "No space left on device")
        inner(handle)

    monkeypatch.setattr(output.os, "fsync", full)
    with pytest.raises(RequestError, match="No space left on device"):
        seat.build(rung="gather")
    assert before == {path.name: path.read_bytes() for path in seat.plan.parent.iterdir() if "timing" not in path.name}


def test_what_a_killed_build_left_is_removed_by_the_next(seat):
    seat.plan.parent.mkdir()
    (left := seat.plan.with_name(".contextnet.plan.work-999999999-x")).mkdir()
    (others := seat.plan.with_name(f".contextnet.plan.work-{os.getpid()}-x")).mkdir()
    seat.build()
    assert not left.exists()
    assert others.exists()


def test_a_refitted_engine_has_scripts_of_its_own_file(seat):
    seat.build(refittable=True)
    other = seat.folder / "other" / "contextnet.fp16.onnx"
    made = refit(seat.plan, other, output=seat.plan, recipe=recipe_with_seed(1))
    for name in made.manifest.details["reproduce"]:
        assert str(other) in seat.plan.with_name(name).read_text()
    assert len(made.manifest.details["reproduce"]) == 2


def test_a_refit_with_a_file_of_another_size_is_refused(seat):
    seat.build(refittable=True)
    large = made_by(seat.folder / "large", recipe_with(RECIPE, {"size": "96x96"}))
    with pytest.raises(RequestError, match="takes other shapes than"):
        refit(seat.plan, large, output=seat.folder / "new.plan", recipe=RECIPE)


def test_what_the_validation_fails_is_not_kept_whatever_the_numbers():
    fails = Numbers(feed="f", output="o", max_abs=0.0, psnr_db=99.0, reasons=("SSIM 0.5, below 0.9",))
    with pytest.raises(RequestError, match="native failed: .*; SSIM 0.5, below 0.9"):
        climb(("native",), lambda rung: b"", lambda engine: [fails], lambda rung: Limits(max_abs=0.1, psnr_db=40))
