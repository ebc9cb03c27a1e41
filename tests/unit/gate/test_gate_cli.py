"""`refine-export gate`: exit codes, what GitHub Actions reads, and the documented workflows."""

import json
import re
import shlex
from pathlib import Path

import onnx
import pytest
import torch
import typer
import yaml

from refine_export.cli.main import app, main
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.report.data import json_from_report
from tests.support.gate_reports import FEEDS, artifact, comparison, metrics, report_of
from tests.support.paths import ROOT

FILE = artifact()
DOCUMENT = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def run(capfd, here):
    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(["gate", *arguments])
        out, err = capfd.readouterr()
        return caught.value.code or 0, out, err

    return call


def write(first=70.0, **more):
    rows = [comparison(FILE, FEEDS[0], metrics(first), **more), *(comparison(FILE, f, metrics()) for f in FEEDS[1:])]
    Path("report.json").write_text(json_from_report(report_of(rows)))


def test_passed(run):
    write()
    code, out, err = run("report.json")
    assert (code, err) == (0, "")
    assert "refine.fp16.onnx in half at 1x64x64" in out
    assert "passed: 1 of 1 groups" in out


def test_failed(run):
    write(50.0)
    code, out, _ = run("report.json")
    assert code == 1
    assert "failed: refine.fp16.onnx in half at 1x64x64: 1 of 4 feeds failed; " in out
    assert "PSNR 50.00 dB, below 58 (accuracy)" in out


@pytest.mark.parametrize("arguments", [(), ("--require", "ort,trt")])
def test_not_compared(run, arguments):
    write(None, missing="no CUDA here") if not arguments else write()
    code, out, _ = run("report.json", *arguments)
    assert code == 3
    assert "not compared" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no report was given"),
        (("none.json",), "does not exist"),
        (("report.json", "--baseline", "none.json"), "does not exist; give a baseline"),
        (("report.json", "--accept"), "accept without a baseline"),
        (("report.json", "--require", "cuda"), "cuda"),
        (("report.json", "--checkpoint", "a.pkl"), "--checkpoint is for --self-test"),
        (("report.json", "--self-test", "a.onnx"), "--self-test was given with a report"),
        (("report.json", "--recipe", "none.toml"), "none.toml does not exist"),
        (("report.json", "--junit", "."), "is a directory"),
    ],
)
def test_wrong_requests(run, arguments, said):
    write()
    code, _, err = run(*arguments)
    assert (code, said in err) == (2, True), err


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
    write(65.0)
    code, out, _ = run("report.json", "--baseline", "b.json")
    assert code == 1
    assert "PSNR 70.00 dB to 65.00 dB, worse by 5.00 dB (noise 0.20 dB) (baseline-drop)" in out
    write(80.0)
    code, out, _ = run("report.json", "--baseline", "b.json")
    assert code == 0
    assert "better: refine.fp16.onnx in half: refine 64x64, network flow, residual: PSNR 70.00 dB to 80.00 dB" in out
    assert "--accept writes it" in out


def test_github_reads_annotations_and_the_summary(run, monkeypatch):
    write(50.0)
    assert "::error" not in run("report.json")[1]
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    _, out, _ = run("report.json")
    assert out.startswith("::error file=refine.fp16.onnx,title=accuracy gate%3A failed::refine.fp16.onnx in half")
    _, out, err = run("report.json", "--json")
    assert json.loads(out)["status"] == "failed"
    assert err.startswith("::error ")
    assert Path("summary.md").read_text().count("## ❌ failed: accuracy gate") == 2


def test_json(run):
    write(50.0)
    code, out, _ = run("report.json", "--json")
    content = json.loads(out)
    assert (code, content["status"], content["baseline"]) == (1, "failed", None)
    assert content["problems"][0]["rule"] == "accuracy"
    write()
    run("report.json", "--baseline", "b.json", "--accept")
    assert json.loads(run("report.json", "--baseline", "b.json", "--json")[1])["baseline"]["same"] == 4


def test_names_can_not_steer_the_terminal(run):
    made = artifact("\x1b[31m[red]a")
    Path("report.json").write_text(
        json_from_report(report_of([comparison(made, "\x1b[2J", None, refused="\x07")], artifacts=[made]))
    )
    code, out, _ = run("report.json")
    assert code == 1
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "\\x1b[31m[red]a" in out


@pytest.fixture(scope="module")
def contextnet(references, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "contextnet.onnx"
    onnx.save(onnx_from_network(references("IFNet"), "contextnet", ExportOptions(dynamic=False, size="64x64")), path)
    return str(path)


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


@pytest.mark.parametrize(
    ("max_abs", "code", "said"),
    [
        (1e-4, 0, "passed: the limits of contextnet_fp32 pass"),
        (0.99, 1, "the limits let"),
        (1e-9, 1, "the good file fails its limits"),
    ],
)
def test_self_test(run, contextnet, max_abs, code, said):
    """The usual limits stop every fault; loose ones let some through, and too strict ones stop the good file."""
    psnr = 90.0 if max_abs < 0.5 else 1.0
    Path("r.toml").write_text(f"{SCENE}contextnet_fp32 = {{ max_abs = {max_abs}, psnr_db = {psnr} }}\n")
    found, out, err = run("--self-test", contextnet, "--recipe", "r.toml", "--quiet")
    assert (found, said in out) == (code, True), out + err
    assert "nearest" in out


def test_self_test_as_json(run, contextnet):
    Path("r.toml").write_text(SCENE)
    code, out, err = run("--self-test", contextnet, "--recipe", "r.toml", "--json")
    content = json.loads(out)
    assert (code, content["status"], content["problems"], err) == (0, "passed", [], "")
    assert {trial["name"] for trial in content["mutants"]} >= {"nearest", "fp16-coordinates", "fixed-timestep"}


def test_self_test_refuses_other_weights(run, contextnet, references):
    torch.save({key: value + 1 for key, value in references("IFNet").state_dict().items()}, "other.pkl")
    Path("r.toml").write_text(SCENE)
    model = onnx.load(contextnet)
    model.metadata_props.add(key="refine_export.checkpoint_sha256", value="0" * 64)
    onnx.save(model, "known.onnx")
    code, _, err = run("--self-test", "known.onnx", "--recipe", "r.toml", "--checkpoint", "other.pkl", "--quiet")
    assert code == 2
    assert "give the file's own weights with --checkpoint" in err


# docs/ci.md


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)


def documented_commands():
    """Every command line of the workflows and of the examples."""
    for text in blocks("yaml"):
        workflow = yaml.safe_load(text)
        for job in workflow.get("jobs", workflow).values():
            if isinstance(job, dict):
                for step in job.get("steps", []):
                    yield from step.get("run", "").splitlines()
                for part in ("before_script", "script"):
                    yield from job.get(part, [])
    for text in blocks("sh"):
        yield from text.splitlines()


def test_the_workflows_are_complete():
    github, gitlab = (yaml.safe_load(text) for text in blocks("yaml"))
    assert set(github) == {"name", True, "permissions", "jobs"}  # YAML 1.1 reads `on` as true
    (job,) = github["jobs"].values()
    assert job["timeout-minutes"]
    assert all(step.keys() & {"run", "uses"} for step in job["steps"])
    (job,) = (part for part in gitlab.values() if "script" in part)
    assert job["artifacts"]["reports"]["junit"] == "gate.xml"
    assert job["artifacts"]["when"] == "always"
    assert job["cache"]["paths"]


@pytest.mark.parametrize("line", sorted({line for line in documented_commands() if "refine-export " in line}))
def test_every_command_has_known_verbs_and_options(line):
    words = shlex.split(line, comments=True)
    if words[0] != "refine-export":
        return
    command = typer.main.get_command(app).commands[words[1]]
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
    assert {word for word in words if word.startswith("-")} <= known
