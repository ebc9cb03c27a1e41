"""`lower` with a target: the table, the search in the manifest, the exit code."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.foreign import IMAGE, model_of, plain_model
from tests.support.lower_files import here_fixture, run_fixture, saved  # noqa: F401 (fixtures)


def test_target(run, here):
    """A target that FP16 misses is met with FP32 regions: exit code 0, a table, the search in the manifest."""
    path = saved(plain_model())
    arguments = (path, "-o", "out.onnx", "--size", "64x96", "--without-warp", "--target-psnr")
    code, out, err = run(*arguments, "100")
    assert code == 0, err
    assert "region" in out
    assert "target met: from" in out
    found = json.loads(Path("out.onnx.json").read_text())["details"]["search"]
    assert found["reached"]
    assert found["start"]["psnr_db"] < 100 <= found["final"]["psnr_db"]
    assert [step["region"] for step in found["steps"]] in (["w"], ["v"])
    islands = [
        node for node in json.loads(Path("out.onnx.json").read_text())["details"]["nodes"] if "isl" in node["reason"]
    ]
    assert [node["node"] for node in islands] == found["islands"]
    code, again, err = run(*arguments, "100", "--force")
    assert (code, err) == (0, "")
    assert "(reused)" in again
    assert again.splitlines()[:-1] == out.splitlines()[:-1]


def test_a_target_that_is_missed(run, here):
    """Exit code 1; the file has every region in FP32, the best there is; so it is when reused."""
    path = saved(plain_model())
    arguments = (path, "-o", "out.onnx", "--size", "64x96", "--without-warp", "--target-psnr", "399")
    code, out, _ = run(*arguments)
    assert code == 1
    assert "target missed: every region is FP32, and that is the best there is" in out
    assert "3 nodes float32" in out
    assert run(*arguments, "--force")[0] == 1


def test_an_exact_result_has_no_psnr(run, here):
    """With FP32 regions nothing may differ at all: in JSON that PSNR is null, on the terminal inf; reused or not."""
    model = model_of("w = Constant <value = float[3,1,1,1] {0.3, 0.7, 0.9}> () y = Conv <group = 3> (x, w)", IMAGE)
    arguments = (saved(model), "-o", "out.onnx", "--size", "64x96", "--without-warp", "--target-psnr", "200")
    code, out, err = run(*arguments)
    assert code == 0, err
    assert " to inf dB, largest error 0.000" in out
    assert json.loads(Path("out.onnx.json").read_text())["details"]["search"]["final"]["psnr_db"] is None
    assert " to inf dB, largest error 0.000" in run(*arguments, "--force")[1]
    code, out, _ = run(*arguments, "--force", "--json")
    assert code == 0
    assert json.loads(out)["search"]["final"] == {"psnr_db": None, "max_error": 0.0}
