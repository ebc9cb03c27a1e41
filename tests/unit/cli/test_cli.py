"""The command line: exit codes, messages that say what to do, JSON alone where JSON was asked for."""

import errno
import json
import os
import pickle
import re
import signal
import subprocess
import sys
from contextlib import suppress

import onnx
import pytest
import torch

from refine_export.cli import main as cli_main
from refine_export.cli.render.print_files import print_description
from refine_export.cli.render.screen import Screen
from refine_export.errors import InternalError, RequestError
from refine_export.support.text import clean

RECIPE = """
[run]
graphs = ["contextnet"]
[checkpoint]
weights = "seeded"
[frames]
scene_frames = 2
[scene]
height = 64
width = 96
motion_px = 4.0
[export]
dynamic = false
size = "64x96"
[lower]
precision = "fp32"
[build]
target = "trt"
[validate]
sizes = []
flows = ["subpixel"]
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def run(command):
    return command


@pytest.fixture(scope="module")
def contextnet(exports):
    return exports.fp32("contextnet", size="64x96")


def test_run_twice(run, here):
    code, out, err = run("run", "--recipe", "small.toml", "-o", "out")
    assert code == 0
    assert "passed: 2 of 2 comparisons" in out
    assert "report: out/report.html" in out
    assert "export contextnet ...\n" in err
    code, out, err = run("run", "--recipe", "small.toml", "-o", "out", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["status"] == "passed"
    code, out, err = run("run", "--recipe", "small.toml", "-o", "out", "--quiet")
    assert (code, err) == (0, "")
    assert "passed: 2 of 2 comparisons" in out


def test_a_failed_verdict_is_exit_code_1(run, here, contextnet):
    (here / "strict.toml").write_text(
        RECIPE + "[validate.limits]\ncontextnet_fp32 = { max_abs = 1e-9, psnr_db = 90.0 }\n"
    )
    code, out, _ = run("validate", str(contextnet), "--recipe", "strict.toml", "--quiet")
    assert code == 1
    assert "failed: 0 of 2 comparisons" in out


def test_validate(run, here, contextnet):
    arguments = ("validate", str(contextnet), "--recipe", "small.toml")
    assert run(*arguments, "--report", "checked")[0] == 0
    assert (here / "checked" / "report.html").is_file()
    code, out, _ = run(*arguments, "--float64", "--quiet")
    assert code == 0
    assert "float64" in out
    assert run(*arguments, "--require", "ort,trt", "--quiet")[0] == 3


def test_init(run, here):
    assert run("init")[0] == 0
    assert "[export]" in (here / "refine-export.toml").read_text()
    code, _, err = run("init")
    assert (code, "overwrite it with --force" in err) == (2, True)
    assert run("init", "--force")[0] == 0
    assert run("init", "small.toml", "--force")[0] == 0
    assert "\x1b" not in run("init", "\x1b[31m.toml")[1]


def test_inspect(run, here, contextnet, references):
    code, out, _ = run("inspect", str(contextnet))
    assert (code, "GridSample 4" in out) == (0, True)
    torch.save(references("IFNet").state_dict(), here / "w.pkl")
    code, out, _ = run("inspect", "w.pkl")
    assert (code, "architecture: IFNet" in out, "10,708,215" in out) == (0, True, True)
    assert codes_of(run("inspect", "rife-4")[2]) == ["not-found"]
    assert json.loads(run("inspect", "w.pkl", "--json")[1])["parts"]["unet"]["parameters"] == 2_957_875


def test_a_list_of_names_is_described_on_one_line(capsys):
    inputs = [{"name": "x", "dtype": "float", "shape": ["N", 3]}]
    print_description(Screen(), {"unused": ["block_tea"], "inputs": inputs})
    assert capsys.readouterr().out.split("\n") == ["unused: block_tea", "inputs:", "  x: float [N, 3]", ""]


def test_export(run, here):
    arguments = (
        "export",
        "--recipe",
        "small.toml",
        "--graph",
        "contextnet",
        "--size",
        "32x64",
        "--batch",
        "2",
        "-o",
        "files",
    )
    code, out, _ = run(*arguments)
    assert (code, "2x3x32x64" in out) == (0, True)
    code, out, err = run(*arguments, "--json")
    assert (json.loads(out)[0]["reused"], err) == (True, "")


def test_lint(run, here, contextnet):
    model = onnx.load(contextnet)
    sample = next(node for node in model.graph.node if node.op_type == "GridSample")
    next(attribute for attribute in sample.attribute if attribute.name == "mode").s = b"nearest"
    onnx.save(model, here / "bad.onnx")
    code, out, _ = run("lint", str(contextnet), "bad.onnx")
    assert code == 1
    assert f"{contextnet}: nothing found" in out
    assert f"error: bad.onnx: {sample.name}: " in out
    code, out, _ = run("lint", "bad.onnx", "--json")
    assert (code, json.loads(out)["bad.onnx"]["findings"][0]["rule"]) == (1, "gridsample-nearest")


def codes_of(err):
    """Return the code at the end of the error line."""
    return re.findall(r"^(?:error|missing|bug in refine-export): (?:.|\n)* \[([a-z0-9-]+)\]$", err, re.MULTILINE)


@pytest.mark.parametrize("verb", [["inspect"], ["run", "--checkpoint"], ["validate", "x.onnx", "--checkpoint"]])
def test_a_bad_checkpoint_is_exit_code_2(run, here, contextnet, verb):
    (here / "w.pkl").write_bytes(pickle.dumps(print))
    (here / "x.onnx").write_bytes(contextnet.read_bytes())
    code, _, err = run(*verb, "w.pkl")
    assert code == 2
    assert err.splitlines()[-1].startswith("error: ")
    assert "w.pkl" in err


def test_names_can_not_steer_the_terminal(run, here):
    torch.save({"\x1b[31mred": torch.zeros(1)}, "w.pkl")
    code, _, err = run("inspect", "w.pkl")
    assert code == 2
    assert "\x1b" not in err
    assert "\\x1b[31mred" in err


def test_a_full_disk_is_exit_code_2(run, here, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = run("init", "r.toml")
    assert (code, codes_of(err)) == (2, ["cannot-write"])
    assert not list(here.glob("*r.toml*"))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["run", "--recipe", "absent.toml"], "not-found"),
        (["run", "--recipe", "/dev/zero"], "not-a-recipe"),
        (["run", "--graph", "ifnet"], "wrong-option"),
        (["export", "--dynamic", "--size", "64x96"], "wrong-option"),
        (["export", "--size", "٣٢x٣٢"], "wrong-option"),
        (["export", "--size", "3200000x3200000"], "wrong-option"),
        (["validate", "x.onnx", "--runtime", "tpu"], "wrong-option"),
        (["lint", "/dev/zero"], "not-a-file"),
        (["inspect", "absent.onnx"], "not-found"),
        (["bisect", "x.onnx", "--runtime", "tpu"], "wrong-option"),
        (["gate"], "missing-argument"),
        (["interpolate", "a.mp4", "-o", "c.mp4", "--timestep", "0.2"], "options-do-not-fit"),
        (["deploy", "triton", "x.onnx", "-o", "models", "--instances", "0"], None),
        (["deploy", "verify", "--url", "a:1", "--requests", "-1"], "wrong-option"),
        (["run", "--frames", "a.png"], None),
        (["run", "-o", "small.toml"], None),
        (["run", "-o", "~no-such-user/x"], None),
        (["deploy", "nonsense"], None),
        (["run", "--nonsense"], None),
        (["gate", "r.json", "--sarif", "x"], None),
    ],
)
def test_a_wrong_request_is_exit_code_2(run, here, arguments, error):
    for name in ("a.png", "a.mp4"):
        (here / name).touch()
    code, out, err = run(*arguments)
    assert code == 2, out + err
    assert "Traceback" not in err
    assert error is None or codes_of(err) == [error], err


@pytest.mark.parametrize(
    ("line", "taken"),
    [
        ("run --frames a.png --checkpoint w.pkl", "--checkpoint"),
        ("validate x.onnx --frames a.png --float64", "--float64"),
    ],
)
def test_an_option_is_not_taken_for_the_second_picture(run, line, taken):
    code, _, err = run(*line.split())
    assert (code, codes_of(err)) == (2, ["wrong-option"])
    assert f"--frames takes two picture files, and the second is {taken}" in err


@pytest.mark.parametrize(("given", "kept"), [(None, "1"), ("0", "0")])
def test_onnx_runtime_sends_nothing_unless_the_environment_says_so(run, monkeypatch, given, kept):
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    if given:
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", given)
    run("--version")
    assert os.environ["ORT_DISABLE_TELEMETRY"] == kept


def test_a_bug_is_exit_code_70(run, monkeypatch):
    def broken():
        raise ZeroDivisionError

    monkeypatch.setattr("refine_export.doctor.diagnosis.diagnose", broken)
    code, _, err = run("doctor")
    assert code == 70
    assert "ZeroDivisionError" in err

    def promised():
        raise InternalError("a promise", code="broken-promise")

    monkeypatch.setattr("refine_export.doctor.diagnosis.diagnose", promised)
    code, _, err = run("doctor")
    assert (code, err) == (70, "bug in refine-export: a promise [broken-promise]\n")


def test_a_long_message_keeps_its_begin_and_its_end(run, monkeypatch):
    """A damaged file may have a name of a megabyte."""

    def refused():
        raise RequestError("begin" + "x" * 10**6 + "end", code="too-long")

    monkeypatch.setattr("refine_export.doctor.diagnosis.diagnose", refused)
    code, _, err = run("doctor")
    assert (code, len(err) < 5000) == (2, True)
    assert err.startswith("error: begin")
    assert err.endswith("end [too-long]\n")


def test_no_line_of_another_looks_like_ours():
    assert clean("9\nnote: all is well\x1b[2J") == "9\n    note: all is well\\x1b[2J"


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_as_ctrl_c_does(ending):
    """`program` is the console script: what is half-written is removed on the way out."""
    code = (
        "import os, signal, sys, refine_export.doctor.diagnosis as doctor; from refine_export.cli.main import program; "
        f"signal.signal({int(ending)}, signal.SIG_DFL); "  # nohup ignores it, and so would what it starts
        f"sys.argv[1:] = ['doctor']; doctor.diagnose = lambda: os.kill(os.getpid(), {int(ending)}); program()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, "interrupted: what was not finished is not written" in result.stderr) == (130, True)


def test_a_signal_that_a_library_turns_into_its_own_error_is_exit_code_130(run, monkeypatch):
    """Torch does so where it imports itself; `run` is not the console script: the handler is called here."""

    def swallowed():
        with suppress(KeyboardInterrupt):
            cli_main._interrupt(signal.SIGINT, None)
        raise ValueError

    monkeypatch.setattr("refine_export.doctor.diagnosis.diagnose", swallowed)
    assert run("doctor")[0] == 130
    monkeypatch.setattr("refine_export.doctor.diagnosis.diagnose", lambda: 1 / 0)
    assert run("doctor")[0] == 70


def test_a_signal_while_torch_is_imported_is_exit_code_130(tmp_path):
    """An exception within torch's C++ aborts the process (SIGABRT)."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGTERM)\nexcept KeyboardInterrupt:\n    os.abort()"
    )
    code = "import sys; sys.path.insert(0, sys.argv.pop()); from refine_export.cli.main import program; program()"
    command = [sys.executable, "-c", code, "doctor", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "interrupted: what was not finished is not written\n")


def test_completion_works():
    """What the shell asks for and what it gets: the verbs that begin with the letters typed."""
    typed = {"COMP_WORDS": "refine-export va", "COMP_CWORD": "1", "_REFINE_EXPORT_COMPLETE": "complete_bash"}
    code = "import sys; sys.argv[0] = 'refine-export'; from refine_export.cli.main import program; program()"
    program = [sys.executable, "-c", code]
    completed = subprocess.run(program, env=os.environ | typed, capture_output=True, text=True, check=False)
    assert completed.stdout.split() == ["validate"], completed.stderr
    typed |= {"COMP_WORDS": "refine-export run --graph inter", "COMP_CWORD": "3"}
    completed = subprocess.run(program, env=os.environ | typed, capture_output=True, text=True, check=False)
    assert completed.stdout.split() == ["interpolator"], completed.stderr
