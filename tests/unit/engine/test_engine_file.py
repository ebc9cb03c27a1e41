"""An engine is built once, reused while nothing changes, and rebuilt with the difference named.

On TensorRT for RTX, in real child processes; as if its engines were executed here, by a comparison that a test chooses.
"""

import dataclasses
import os
import shutil
from pathlib import Path

import onnx
import pytest

from refine_export.engine import engine_file as module
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.engine_file import EngineTarget, engine_file
from refine_export.engine.engine_manifest import engine_description, manifest_of
from refine_export.engine.fallbacks import Judge, Numbers
from refine_export.engine.machine import rtx_gpus
from refine_export.engine.onnx_source import file_of_fallback
from refine_export.engine.output_files import check_engine_output
from refine_export.errors import GraphError, RequestError, UnavailableError
from refine_export.support.progress import Silent
from tests.support.engine_models import model, needs_rtx, rtx_fixture  # noqa: F401 (fixture)
from tests.support.fake_tensorrt import write_real
from tests.support.foreign import model_of
from tests.support.refusals import refused

pytestmark = needs_rtx
NOT_EXECUTED = 'main = sys.modules["__main__"]\nmain._probe = main._precision = lambda *given: None\n'
OPTIONS = BuildOptions(opt_size="32x32", fallback="native")
ANY = dataclasses.replace(OPTIONS, fallback="auto")
FILES = ["m.plan", "m.plan.json"]


class Place:
    """A folder with a model, and a comparison that only the fallbacks in `exact` pass."""

    def __init__(self, folder, library, monkeypatch):
        self.folder, self.exact, self.compared = folder, {"native"}, []
        self.judged_by = {"frames": "drawn"}
        self.target = EngineTarget(library=library, machine=rtx_gpus(library.version, ()), executes=True)
        self.source, self.plan = folder / "m.onnx", folder / "out" / "m.plan"
        self.source.write_bytes(model().SerializeToString())
        (folder / "first").mkdir()
        monkeypatch.syspath_prepend(folder / "first")
        self.in_child()

    def in_child(self, code=""):
        write_real(self.folder / "first", NOT_EXECUTED + code)

    def compare(self, plan, fallback):
        self.compared.append(fallback)
        wrong = 0.0 if fallback in self.exact else 0.25
        reasons = ("PSNR 12.00 dB, below 50",) if wrong else ()
        return [Numbers(feed="pair", output="out", max_abs=wrong, psnr_db=12 if wrong else 70, reasons=reasons)]

    def build(self, options=OPTIONS, **more):
        judge = Judge(compare=self.compare, described=self.judged_by)
        return engine_file(self.source, self.plan, options, judge, Silent(), target=self.target, **more)

    def content(self):
        return {path.name: path.read_bytes() for path in self.plan.parent.iterdir()}


@pytest.fixture
def place(tmp_path, rtx, monkeypatch):
    return Place(tmp_path, rtx, monkeypatch)


def test_an_engine_with_its_manifest_is_reused(place):
    made = place.build()
    assert (made.fallback, made.reused, made.passed, made.changes) == ("native", False, True, ())
    assert made.notes[0] == f"built and type-checked by {place.target.library.title}; compared with torch"
    assert sorted(place.content()) == FILES
    assert manifest_of(place.plan, place.plan.read_bytes()).fingerprint == made.manifest.fingerprint
    assert engine_description(place.plan)["manifest"] == "whole"
    assert made.manifest.details["inferred"]["types"]["CONVOLUTION HALF -> HALF"] == 1
    before = place.plan.stat().st_mtime_ns
    again = place.build(dataclasses.replace(OPTIONS, time_limit_s=100, target="rtx"))
    assert (again.reused, again.fallback, place.plan.stat().st_mtime_ns) == (True, "native", before)
    assert place.compared == ["native"]
    assert again.to_dict()["manifest"]["sha256"] == made.manifest.sha256


def test_what_changed_is_named_and_rebuilt(place, monkeypatch):
    place.build()
    target, built, found, inner = place.target, [], [], module._reusable
    monkeypatch.setattr(module, "first_exact", lambda *given: built.append(given))
    monkeypatch.setattr(module, "_reusable", lambda *given: found.append(inner(*given)) or found[-1])

    def changes(**options):
        with pytest.raises(AttributeError):  # what is built is None here
            place.build(dataclasses.replace(OPTIONS, **options))
        manifest, names = found[-1]
        assert (manifest, len(built)) == (None, len(found))
        return " ".join(names)

    assert "optimization_level: was 3" in changes(optimization_level=5)
    assert "profile 0 of image" in changes(max_size="64x64")
    place.target = dataclasses.replace(target, machine=rtx_gpus(target.library.version, ("sm89",)))
    assert "compute_capability: was Ampere and newer" in changes()
    place.target, place.judged_by = target, {"frames": "real"}
    assert "judged_by: was {'frames': 'drawn'}" in changes()
    place.plan.write_bytes(place.plan.read_bytes()[:-9])
    assert "truncated" in changes()
    Path(f"{place.plan}.json").write_text("{")
    assert "unknown engine" in changes()


def test_the_fallback_gather_has_a_file_of_its_own(place):
    place.exact = {"gather"}
    made = place.build(ANY)
    assert (made.fallback, place.compared) == ("gather", ["native", "unfused", "gather"])
    assert [tried["status"] for tried in made.manifest.details["fallbacks"]] == ["failed", "failed", "passed"]
    assert made.manifest.details["samplers"]["layers"] == 0
    assert "m.plan.gather.onnx" in place.content()
    assert place.build(ANY).reused


def test_the_fp32_file_is_the_last_fallback(place):
    place.exact = {"fp32"}
    fp32 = place.folder / "fp32.onnx"
    fp32.write_bytes(place.source.read_bytes())
    options = dataclasses.replace(OPTIONS, tf32=True, fallback="fp32")
    assert place.build(options, fp32=fp32).fallback == "fp32"
    assert place.build(options, fp32=fp32).reused
    with refused("fp32-needed", RequestError):
        place.build(dataclasses.replace(options, tf32=False))


def test_where_nothing_passes_or_a_build_dies_the_old_engine_stays(place):
    place.build()
    before = place.content()
    place.exact = set()
    other = dataclasses.replace(OPTIONS, optimization_level=1)
    with refused("no-exact-engine", RequestError):
        place.build(other)
    place.in_child("import os\ntrt.Builder = lambda logger: os.kill(os.getpid(), 9)\n")
    with refused("child-ended", UnavailableError):
        place.build(other)
    assert place.content() == before


def test_a_source_that_changes_during_the_build_is_refused(place, monkeypatch):
    inner = module.file_of_fallback

    def changes(fallback, source, *more):
        source.write_bytes(source.read_bytes() + b"\x3a\x00")  # an empty graph name: another file
        return inner(fallback, source, *more)

    monkeypatch.setattr(module, "file_of_fallback", changes)
    for fallback in ("native", "gather"):
        options = dataclasses.replace(OPTIONS, fallback=fallback)
        with refused("changed-during-build", GraphError):
            place.build(options)
    assert not place.plan.exists()


def test_a_disk_that_is_found_full_at_the_very_end(place, monkeypatch):
    place.build()
    before = place.content()

    def full(handle, inner=os.fsync):
        if "plan.json" in str(Path(f"/proc/self/fd/{handle}").readlink()):  # the last file of the two
            raise OSError(28, "No space left on device")
        inner(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RequestError):
        place.build(dataclasses.replace(OPTIONS, optimization_level=1))
    assert place.content() == before


def test_what_a_killed_build_left_is_removed_by_the_next(place):
    place.plan.parent.mkdir()
    (left := place.plan.with_name(".m.plan.work-999999999-x")).mkdir()
    (others := place.plan.with_name(f".m.plan.work-{os.getpid()}-x")).mkdir()
    place.build()
    assert not left.exists()
    assert others.exists()


@pytest.mark.parametrize("name", ["m.plan", "m.plan.json", "m.plan.gather.onnx"])
def test_other_files_are_not_overwritten_unless_forced(tmp_path, name):
    output, path = tmp_path / "m.plan", tmp_path / name
    path.write_text("mine")
    with refused("output-exists", RequestError):
        check_engine_output(output, sources=[], force=False)
    check_engine_output(output, sources=[], force=True)
    with refused("output-is-input", RequestError):
        check_engine_output(output, sources=[path], force=True)
    shutil.move(path, tmp_path / "source")
    path.symlink_to(tmp_path / "source")
    with refused("output-is-input", RequestError):
        check_engine_output(output, sources=[tmp_path / "source"], force=True)


def test_folders_are_not_engines(tmp_path):
    with refused("unwritable", RequestError):
        check_engine_output(tmp_path, sources=[], force=True)
    (tmp_path / "m.plan.json").mkdir()
    with refused("unwritable", RequestError):
        check_engine_output(tmp_path / "m.plan", sources=[], force=True)


def test_a_file_that_cannot_be_rewritten_is_refused(tmp_path):
    """TensorRT's parser takes two tensors of one name; the fallback `gather` does not."""
    path = tmp_path / "m.onnx"
    onnx.save(model_of("y = Relu (x) y = Abs (x)"), path)
    with refused("invalid-onnx", path=path):
        file_of_fallback("gather", path, None, tmp_path, "m.rtx")
