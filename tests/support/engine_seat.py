"""Files of contextnet, and a machine that seems to have TensorRT, for tests of an engine's jobs.

Each build is a real child process; ONNX Runtime on the CPU stands in for the engine, so the numbers are no TensorRT's.
"""

import dataclasses
import functools
import shutil
import sys

import pytest

from refine_export.accuracy.limits import Limits, LimitsOptions
from refine_export.engine import engine_runner as runner_module
from refine_export.engine import machine
from refine_export.jobs.build_engine import build
from refine_export.jobs.export_graphs import export_graphs
from refine_export.jobs.load_inputs import job_inputs
from refine_export.jobs.lower_onnx import lower
from refine_export.jobs.recipe_file import recipe_from_toml, recipe_with
from tests.support.fake_tensorrt import make_fake, write_fake
from tests.support.host_device import HostDevice

NO_PROBE = """
sys.modules["__main__"]._probe = lambda *given: None
"""
"""Leaves the sampler probe out of a child, which would import torch there."""
RECIPE = recipe_from_toml("""
    [checkpoint]
    weights = "seeded"
    [scene]
    height = 64
    width = 64
    motion_px = 4.0
    [run]
    graphs = ["contextnet"]
    [export]
    dynamic = false
    size = "64x64"
    [build]
    fallback = "native"
    [validate]
    sizes = []
    flows = ["subpixel"]
    [validate.limits]
    contextnet_fp16 = { max_abs = 0.05, psnr_db = 40.0 }
""")
_EXACT = LimitsOptions(contextnet_fp16=Limits(max_abs=0.05, psnr_db=300.0))
STRICT = dataclasses.replace(RECIPE, validate=dataclasses.replace(RECIPE.validate, limits=_EXACT))
"""With limits that no FP16 file meets."""


def made_by(folder, recipe=RECIPE, **given):
    """The file that `export` and `lower` make."""
    chosen = recipe_with(recipe, {"output": str(folder)} | given)
    export_graphs(job_inputs(chosen, None))
    source = folder / "contextnet.onnx"
    lowered = folder / "contextnet.fp16.onnx"
    lower(source, output=lowered, recipe=chosen)
    return lowered


@functools.cache
def files_in(folder):
    """FP32 and FP16, static; and those of other weights."""
    made_by(folder / "one")
    made_by(folder / "other", recipe_with_seed(1))
    return folder


@pytest.fixture(scope="session", name="files")
def files_fixture(tmp_path_factory):
    return files_in(tmp_path_factory.getbasetemp() / "engine_seat")


def recipe_with_seed(seed):
    return dataclasses.replace(RECIPE, checkpoint=dataclasses.replace(RECIPE.checkpoint, seed=seed))


class Seat:
    """A folder with the files, and a machine that seems to have TensorRT."""

    def __init__(self, folder, files, monkeypatch, version):
        self.folder, self.files, self.monkeypatch, self.version = folder, files, monkeypatch, version
        for name in ("one", "other"):
            shutil.copytree(files / name, folder / name)
        self.fp32, self.fp16 = folder / "one" / "contextnet.onnx", folder / "one" / "contextnet.fp16.onnx"
        self.plan = folder / "out" / "contextnet.plan"
        (folder / "fake").mkdir()
        monkeypatch.syspath_prepend(folder / "fake")
        monkeypatch.setattr(machine, "current_gpu", lambda: ("NVIDIA H200", (9, 0)))
        monkeypatch.setattr(machine, "_cuda_major", lambda: 13)
        monkeypatch.setattr(runner_module, "CudaDevice", HostDevice)
        self.fake()

    def fake(self, code="", **behaviour):
        """A TensorRT here and in the children, where `code` has run."""
        runner_module.process_log.cache_clear()
        self.monkeypatch.setitem(sys.modules, "tensorrt", make_fake(self.version, **behaviour))
        write_fake(self.folder / "fake", self.version, NO_PROBE + code, **behaviour)

    def built(self, **given):
        """Put an engine of `fp16` in its place, as `build` makes it: each kind is built once in a session."""
        kept = self.files / f"{self.version} {given}"
        if not kept.exists():
            self.build(**given)
            shutil.copytree(self.plan.parent, kept)
        else:
            shutil.copytree(kept, self.plan.parent)

    def build(self, source=None, recipe=RECIPE, output=None, **given):
        more = {name: given.pop(name) for name in ("force", "fp32") if name in given}
        return build(source or self.fp16, output=output or self.plan, recipe=recipe_with(recipe, given), **more)


@pytest.fixture(name="seat")
def seat_fixture(tmp_path, files, monkeypatch):
    return Seat(tmp_path, files, monkeypatch, "11.4.0")
