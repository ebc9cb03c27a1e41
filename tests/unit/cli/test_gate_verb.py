"""`refine-export gate`: exit codes, what GitHub Actions reads, and the self-test."""

import functools
import json
from pathlib import Path

import onnx
import pytest
import torch

from refine_export.support.text import json_text
from tests.support.gate_reports import FEEDS, artifact, comparison, metrics, report_of

FILE = artifact()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def run(command, here):
    return functools.partial(command, "gate")


def write(first=70.0, **more):
    rows = [comparison(FILE, FEEDS[0], metrics(first), **more), *(comparison(FILE, f, metrics()) for f in FEEDS[1:])]
    Path("report.json").write_text(json_text(report_of(rows).to_dict()))


@pytest.mark.parametrize(
    ("first", "more", "arguments", "code"),
    [
        (70.0, {}, (), 0),
        (50.0, {}, (), 1),
        (70.0, {"missing": "no CUDA here"}, (), 3),
        (70.0, {}, ("--require", "ort,trt"), 3),
    ],
)
def test_exit_codes(run, first, more, arguments, code):
    write(first, **more)
    found, out, err = run("report.json", *arguments)
    assert (found, err) == (code, "")
    assert "refine.fp16.onnx in half at 1x64x64" in out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("none.json",), "none.json"),
        (("report.json", "--require", "cuda"), "cuda"),
        (("report.json", "--self-test", "a.onnx"), "--self-test"),
        (("report.json", "--junit", "."), "directory"),
    ],
)
def test_wrong_requests(run, arguments, named):
    write()
    code, _, err = run(*arguments)
    assert (code, named in err) == (2, True), err


def test_a_recipe_judges_by_its_own_limits(run):
    write()
    Path("strict.toml").write_text("[validate.limits]\nrefine_fp16 = { max_abs = 0.001, psnr_db = 58.0 }\n")
    assert run("report.json", "--recipe", "strict.toml")[0] == 1
    write(50.0)
    Path("loose.toml").write_text("[validate]\nshare = 0.75\n")
    assert run("report.json", "--recipe", "loose.toml")[0] == 0


def test_a_baseline_from_the_first_acceptance_to_a_drop(run):
    write()
    assert run("report.json", "--baseline", "b.json", "--accept")[0] == 0
    for psnr, expected, text in ((65.0, 1, "(baseline-drop)"), (80.0, 0, "--accept")):
        write(psnr)
        code, out, _ = run("report.json", "--baseline", "b.json")
        assert (code, text in out) == (expected, True)


def test_github_reads_annotations_and_the_summary(run, monkeypatch):
    write(50.0)
    assert "::error" not in run("report.json")[1]
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    _, out, _ = run("report.json")
    assert out.startswith("::error file=refine.fp16.onnx,title=")
    _, out, err = run("report.json", "--json")
    assert json.loads(out)["status"] == "failed"
    assert err.startswith("::error ")
    assert Path("summary.md").read_text().count("## ❌") == 2


def test_names_cannot_steer_the_terminal(run):
    made = artifact("\x1b[31m[red]a")
    Path("report.json").write_text(
        json_text(report_of([comparison(made, "\x1b[2J", None, refused="\x07")], artifacts=[made]).to_dict())
    )
    code, out, _ = run("report.json")
    assert code == 1
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "\\x1b[31m[red]a" in out


SCENE = """
[checkpoint]
weights = "seeded"
[scene]
height = 64
width = 64
motion_px = 4.0
[validate]
sizes = []
[validate.limits]
"""


@pytest.fixture
def contextnet(exports):
    return str(exports.fp32("contextnet", size="64x64"))


@pytest.mark.parametrize(("max_abs", "code"), [(1e-4, 0), (0.99, 1), (1e-9, 1)])
def test_self_test(run, contextnet, max_abs, code):
    """The usual limits stop every fault; loose ones let some through, and too strict ones stop the good file."""
    psnr = 90.0 if max_abs < 0.5 else 1.0
    Path("r.toml").write_text(f"{SCENE}contextnet_fp32 = {{ max_abs = {max_abs}, psnr_db = {psnr} }}\n")
    found, out, err = run("--self-test", contextnet, "--recipe", "r.toml", "--json")
    content = json.loads(out)
    assert (found, err) == (code, "")
    assert bool(content["problems"]) is bool(code)
    assert content["good"]["outcome"] == ("failed" if max_abs < 1e-5 else "passed")
    assert {trial["name"] for trial in content["mutants"]} >= {"nearest", "fp16-coordinates", "fixed-timestep"}


def test_self_test_refuses_other_weights(run, contextnet, references):
    torch.save({key: value + 1 for key, value in references("IFNet").state_dict().items()}, "other.pkl")
    Path("r.toml").write_text(SCENE)
    model = onnx.load(contextnet)
    model.metadata_props.add(key="refine_export.checkpoint_sha256", value="0" * 64)
    onnx.save(model, "known.onnx")
    code, _, err = run("--self-test", "known.onnx", "--recipe", "r.toml", "--checkpoint", "other.pkl", "--quiet")
    assert (code, "--checkpoint" in err) == (2, True)
