"""An engine is built once, reused while nothing changes, and built anew with the difference named.

Against the fake, in real child processes.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from refine_export.engine import engine_file as module
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.engine_file import Judge, engine_file
from refine_export.engine.fallbacks import Numbers
from refine_export.engine.plan import describe, read_plan
from refine_export.errors import RequestError, UnavailableError
from refine_export.support.progress import Silent
from refine_export.validate.comparison import Limits
from tests.support.engine_machine import MACHINE
from tests.support.engine_models import model
from tests.support.fake_tensorrt import make_fake, write_fake
from tests.support.host_trt import machine_of

OPTIONS = BuildOptions(opt_size="32x32")
VERSIONS = ("10.16.1", "11.4.0")


class Place:
    """A folder with a model, and a judge whom only the rungs in `exact` please."""

    def __init__(self, folder, version, monkeypatch):
        self.folder, self.version, self.monkeypatch = folder, version, monkeypatch
        self.exact, self.compared = {"native"}, []
        self.judged_by = {"frames": "drawn"}
        self.machine = machine_of(version)
        monkeypatch.setattr(module, "this_machine", lambda trt: self.machine)
        named = model()
        for node in named.graph.node:
            node.name = f"the_{node.output[0]}"
        self.source, self.plan = folder / "m.onnx", folder / "out" / "m.plan"
        self.source.write_bytes(named.SerializeToString())
        (folder / "fake").mkdir()
        monkeypatch.syspath_prepend(folder / "fake")
        self.fake()

    def fake(self, **behaviour):
        self.monkeypatch.setitem(sys.modules, "tensorrt", make_fake(self.version))
        path = write_fake(self.folder / "fake", self.version, **behaviour)
        path.write_text(path.read_text() + MACHINE)

    def compare(self, plan, rung):
        self.compared.append(rung)
        wrong = 0.0 if rung in self.exact else 0.25
        return [Numbers(feed="pair", output="out", max_abs=wrong, psnr_db=12 if wrong else 70)]

    def build(self, options=OPTIONS, **more):
        judge = Judge(
            compare=self.compare, limits=lambda rung: Limits(max_abs=0.01, psnr_db=50), described=self.judged_by
        )
        return engine_file(self.source, self.plan, options, judge, Silent(), **more)

    def left(self):
        return sorted(path.name for path in self.plan.parent.iterdir() if path.suffix not in (".timing", ".lock"))


@pytest.fixture(params=VERSIONS)
def place(request, tmp_path, monkeypatch):
    return Place(tmp_path, request.param, monkeypatch)


def test_an_engine_with_its_manifest_and_scripts_is_reused(place):
    made = place.build()
    assert (made.rung, made.reused, made.changes) == ("native", False, ())
    assert place.left() == ["m.plan", "m.plan.json", "m.plan.polygraphy.sh", "m.plan.trtexec.sh"]
    assert read_plan(place.plan, place.machine)[1].fingerprint == made.manifest.fingerprint
    assert describe(place.plan)["manifest"] == "whole"
    details = made.manifest.details
    assert details["guard"]["repairs"][0]["set"] == "LINEAR"
    assert details["precision"]["proven"] is True
    assert details["canary"]["passed"] is None
    assert details["ladder"][0]["status"] == "passed"
    assert details["onnx"]["types"] == {"float": 3, "float16": 2}
    assert str(place.source) in (place.plan.parent / "m.plan.trtexec.sh").read_text()
    before = place.plan.stat().st_mtime_ns
    again = place.build()
    assert (again.reused, again.rung, place.plan.stat().st_mtime_ns) == (True, "native", before)
    assert place.compared == ["native"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda place: {"options": dataclasses.replace(OPTIONS, optimization_level=5)}, "optimization_level: was 3"),
        (lambda place: {"options": dataclasses.replace(OPTIONS, max_size="64x64")}, "profile 0 of image"),
        (lambda place: place.judged_by.update(frames="real"), "judged_by: was {'frames': 'drawn'}"),
        (lambda place: setattr(place, "machine", dataclasses.replace(place.machine, gpu="NVIDIA L4")), "on H200"),
        (lambda place: place.plan.write_bytes(place.plan.read_bytes()[:-9]), "is truncated"),
        (lambda place: Path(f"{place.plan}.json").unlink(), "is missing"),
    ],
)
def test_what_changed_is_named_and_built_anew(tmp_path, monkeypatch, change, words):
    place = Place(tmp_path, "11.4.0", monkeypatch)
    place.build()
    more = change(place)
    made = place.build(**(more if isinstance(more, dict) else {}))
    assert not made.reused
    assert words in " ".join(made.changes)


def test_another_time_limit_is_the_same_engine(place):
    place.build()
    assert place.build(dataclasses.replace(OPTIONS, time_limit_s=100)).reused


def test_the_ladder_goes_up_to_the_gather_file(place):
    place.exact = {"gather"}
    made = place.build()
    assert made.rung == "gather"
    assert place.compared == ["native", "unfused", "gather"]
    assert (place.plan.parent / "m.plan.gather.onnx").is_file()
    assert [tried["status"] for tried in made.manifest.details["ladder"]] == ["failed", "failed", "passed"]
    assert made.manifest.details["guard"]["layers"] == 0
    assert made.manifest.details["canary"] is not None
    assert "m.plan.gather.onnx" in (place.plan.parent / "m.plan.trtexec.sh").read_text()
    assert place.build().reused


def test_the_fp32_file_is_the_last_rung(place):
    place.exact = {"fp32"}
    fp32 = place.folder / "fp32.onnx"
    fp32.write_bytes(place.source.read_bytes())
    options = dataclasses.replace(OPTIONS, tf32=True)
    made = place.build(options, fp32=fp32)
    assert made.rung == "fp32"
    assert "--noTF32" in (place.plan.parent / "m.plan.trtexec.sh").read_text()
    assert place.build(options, fp32=fp32).reused
    assert place.compared == ["native", "unfused", "gather", "fp32"]


def test_where_nothing_passes_the_old_engine_stays(place):
    place.build()
    before = {path.name: path.read_bytes() for path in place.plan.parent.iterdir() if path.name.startswith("m.plan")}
    place.exact = set()
    with pytest.raises(RequestError, match="none of the rungs(.|\n)*fp32 not built: the rung fp32 needs the FP32 file"):
        place.build(dataclasses.replace(OPTIONS, optimization_level=1))
    assert {name: (place.plan.parent / name).read_bytes() for name in before} == before


def test_a_build_that_dies_leaves_the_old_engine(place):
    place.build()
    before = place.plan.read_bytes()
    place.fake(dies_at_step=1)
    with pytest.raises(UnavailableError, match="was killed by SIGKILL"):
        place.build(dataclasses.replace(OPTIONS, optimization_level=1, rung="native"))
    assert place.plan.read_bytes() == before
    assert place.left() == ["m.plan", "m.plan.json", "m.plan.polygraphy.sh", "m.plan.trtexec.sh"]
