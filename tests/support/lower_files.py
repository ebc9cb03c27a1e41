"""Lower files in a folder of their own, calibrated on a small scene."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.data.frame_options import FramesOptions, SceneOptions
from refine_export.data.frame_source import source_from_options
from refine_export.errors import RequestError
from refine_export.lower.calibration_feeds import Calibration
from refine_export.lower.lower_options import LowerOptions
from refine_export.lower.lowered_file import LoweredFile, check_output, lower_file
from refine_export.support.progress import Silent
from tests.support.foreign import CONV, SAMPLE, Foreign, kernel, model_of

STATIC = Foreign(size=(64, 96))
SCENE = SceneOptions(height=64, width=96, motion_px=4.0)


@pytest.fixture(name="here")
def here_fixture(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(name="run")
def run_fixture(here) -> Callable[..., LoweredFile]:
    """Lower a file or model to `output`, calibrated on the small scene or on files."""

    def call(
        source, output="out.onnx", *, force=False, feeds=(), size=None, without_warp=False, drawing=True, **options
    ):
        path, output = Path(source if isinstance(source, str | Path) else saved(source)), Path(output)
        check_output(path, output, force=force)

        @functools.cache
        def frames():
            assert not feeds, "frames were read, though there are feeds to calibrate with"
            assert drawing, "frames were drawn for a file that is refused"
            return source_from_options(FramesOptions(), SCENE)

        calibration = Calibration(
            source=frames,
            checkpoint=lambda: seeded_checkpoint("IFNet"),
            files=tuple(Path(feed) for feed in feeds),
            size=size,
        )
        return lower_file(path, output, LowerOptions(**options), calibration, Silent(), without_warp=without_warp)

    return call


@pytest.fixture(name="refused")
def refused_fixture(run, here) -> Callable[..., RequestError]:
    """Expect a request error (exit code 2) with this code, before frames are drawn, and nothing written."""

    def call(source, *arguments, code: str, drawing=False, **options) -> RequestError:
        if not isinstance(source, str | Path):
            source = saved(source)
        before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
        with pytest.raises(RequestError) as error:
            run(source, *arguments, drawing=drawing, **options)
        assert error.value.code == code, error.value
        assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before
        return error.value

    return call


def tiny(inputs: str = "float[1,3,16,24] x, float[1,16,24,2] g") -> onnx.ModelProto:
    """Two convolutions around a warp."""
    nodes = f"c = {CONV} (x, w) [warp] s = {SAMPLE} (c, g) d = {CONV} (s, v) y = Sigmoid (d)"
    out = inputs.split(" x")[0] + " y"
    return model_of(f"{kernel('w', 3, 3, 3, 3)} {kernel('v', 3, 3, 3, 3)} {nodes}", inputs, out)


def saved(model: onnx.ModelProto, name: str = "in.onnx") -> str:
    onnx.save(model, name)
    return name
