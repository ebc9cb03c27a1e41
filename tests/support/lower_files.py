"""`lower` on the command line, as the console script calls it, and files for it."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest

from refine_export.cli.main import main
from tests.support.foreign import CONV, SAMPLE, Foreign, kernel, model_of

RECIPE = '[checkpoint]\nweights = "seeded"\n[scene]\nheight = 64\nwidth = 96\nmotion_px = 4.0\n'
STATIC = Foreign(size=(64, 96))


@pytest.fixture(name="here")
def here_fixture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(RECIPE)
    return tmp_path


@pytest.fixture(name="run")
def run_fixture(capfd):
    """Call `lower` as the console script does, with the small scene."""

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(["lower", *map(str, arguments), "--recipe", "small.toml"])
        out, err = capfd.readouterr()
        return caught.value.code or 0, out, err

    return call


@pytest.fixture(name="refused")
def refused_fixture(run, here) -> Callable[..., None]:
    """Call it and expect exit code 2, one sentence with these words, and nothing written."""

    def call(*arguments, words):
        before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
        code, out, err = run(*arguments)
        message = err.splitlines()[-1]
        assert (code, out) == (2, ""), err
        assert message.startswith("error: ")
        assert "Traceback" not in err
        for part in [words] if isinstance(words, str) else words:
            assert part in message
        assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before

    return call


def tiny(inputs: str = "float[1,3,16,24] x, float[1,16,24,2] g") -> onnx.ModelProto:
    """Two convolutions around a warp."""
    nodes = f"c = {CONV} (x, w) [warp] s = {SAMPLE} (c, g) d = {CONV} (s, v) y = Sigmoid (d)"
    out = inputs.split(" x")[0] + " y"
    return model_of(f"{kernel('w', 3, 3, 3, 3)} {kernel('v', 3, 3, 3, 3)} {nodes}", inputs, out)


def saved(model, name: str = "in.onnx") -> str:
    onnx.save(model, name)
    return name
