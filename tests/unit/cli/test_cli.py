"""The command line: exit codes, messages that say what to do, JSON alone where JSON was asked for."""

import ast
import errno
import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch

from refine_export.cli import main as cli
from refine_export.cli.main import main
from refine_export.cli.render.console import clean
from refine_export.errors import InternalError
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network

RECIPE = '[checkpoint]\nweights = "seeded"\n[scene]\nheight = 64\nwidth = 96\nmotion_px = 4.0\n[validate]\nsizes = []\n'


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def run(capfd):
    """Call the command line as the console script does."""

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(list(arguments))
        out, err = capfd.readouterr()
        return caught.value.code or 0, out, err

    return call


@pytest.fixture(scope="module")
def contextnet(references, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "contextnet.onnx"
    onnx.save(onnx_from_network(references("IFNet"), "contextnet", ExportOptions(dynamic=False, size="64x96")), path)
    return path


def test_run_twice(run, here):
    code, out, err = run("run", "--recipe", "small.toml", "--graph", "contextnet", "-o", "out")
    assert code == 0
    assert "passed: 32 of 32 comparisons" in out
    assert "report: out/report.html" in out
    assert "export contextnet ...\n" in err
    code, out, err = run("run", "--recipe", "small.toml", "--graph", "contextnet", "-o", "out")
    assert (code, err.count("reused")) == (0, 2)


def test_run_quiet_json(run, here):
    code, out, err = run("run", "--recipe", "small.toml", "--graph", "contextnet", "--json")
    assert code == 0
    assert err == ""
    assert json.loads(out)["status"] == "passed"
    code, out, err = run("run", "--recipe", "small.toml", "--graph", "contextnet", "--quiet")
    assert (code, err) == (0, "")


def test_a_failed_verdict_is_exit_code_1(run, here):
    (here / "strict.toml").write_text(
        RECIPE + "[validate.limits]\ncontextnet_fp32 = { max_abs = 1e-9, psnr_db = 90.0 }\n"
    )
    code, out, _ = run("run", "--recipe", "strict.toml", "--graph", "contextnet", "--quiet")
    assert code == 1
    assert "failed: 16 of 32 comparisons" in out
    assert "largest error" in out
    assert "above 1e-09" in out


def test_validate(run, here, contextnet):
    arguments = ("validate", str(contextnet), "--recipe", "small.toml")
    code, out, _ = run(*arguments, "--report", "checked")
    assert code == 0
    assert "does not say which weights it was made from" in out
    assert (here / "checked" / "report.html").is_file()
    code, out, _ = run(*arguments, "--float64", "--quiet")
    assert code == 0
    assert "float64" in out


@pytest.mark.skipif(torch.cuda.is_available(), reason="shows what happens without a GPU, and this machine has one")
def test_a_missing_runtime_is_exit_code_3(run, here, contextnet):
    code, out, _ = run("validate", str(contextnet), "--recipe", "small.toml", "--runtime", "onnxruntime-cuda")
    assert code == 3
    assert "not compared: 0 of 10 comparisons" in out
    assert "; 10 could not be run" in out
    assert out.count("CUDAExecutionProvider") == 1
    assert "CUDAExecutionProvider" in out


def test_init(run, here):
    assert run("init")[0] == 0
    assert "[export]" in (here / "refine-export.toml").read_text()
    code, _, err = run("init")
    assert (code, "overwrite it with --force" in err) == (2, True)
    assert run("init", "--force")[0] == 0
    assert run("init", "small.toml", "--force")[0] == 0


def test_inspect(run, here, contextnet, references):
    code, out, _ = run("inspect", str(contextnet))
    assert (code, "GridSample 4" in out) == (0, True)
    torch.save(references("IFNet").state_dict(), here / "w.pkl")
    code, out, _ = run("inspect", "w.pkl")
    assert code == 0
    assert "architecture: IFNet" in out
    assert "10,708,215" in out
    assert "block_tea: parameters" in out
    code, out, _ = run("inspect", "w.pkl", "--json")
    assert json.loads(out)["parts"]["unet"]["parameters"] == 2_957_875


def test_export(run, here):
    code, out, _ = run("export", "--graph", "contextnet", "--size", "32x64", "--batch", "2", "-o", "files")
    assert code == 0
    assert "2x3x32x64" in out
    assert run("lint", "files/contextnet.onnx")[0] == 0
    code, out, err = run("export", "--graph", "contextnet", "--size", "32x64", "--batch", "2", "-o", "files", "--json")
    assert json.loads(out)[0]["reused"]
    assert err == ""


def test_lint(run, here, contextnet):
    model = onnx.load(contextnet)
    sample = next(node for node in model.graph.node if node.op_type == "GridSample")
    next(attribute for attribute in sample.attribute if attribute.name == "mode").s = b"nearest"
    onnx.save(model, here / "bad.onnx")
    code, out, _ = run("lint", str(contextnet), "bad.onnx")
    assert code == 1
    assert f"{contextnet}: nothing found" in out
    assert f"error bad.onnx: {sample.name}: " in out
    assert "why: " in out
    assert "do:  " in out
    assert "bad.onnx: 1 errors, 0 warnings" in out
    code, out, _ = run("lint", "bad.onnx", "--json")
    assert (code, json.loads(out)["bad.onnx"][0]["rule"]) == (1, "gridsample-nearest")


@pytest.mark.parametrize("verb", [["inspect"], ["run", "--checkpoint"], ["validate", "x.onnx", "--checkpoint"]])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (pickle.dumps(print), "reading it could run code (it refers to builtins.print)"),
        (b"PK\x03\x04 and no more", "truncated or damaged"),
        (b"RIFE", "is text"),
    ],
)
def test_a_bad_checkpoint_is_exit_code_2(run, here, contextnet, verb, content, message):
    (here / "w.pkl").write_bytes(content)
    (here / "x.onnx").write_bytes(contextnet.read_bytes())
    code, _, err = run(*verb, "w.pkl")
    assert code == 2
    assert err.splitlines()[-1].startswith("error: w.pkl ")
    assert message in err


def test_rife_4_is_exit_code_2(run, here):
    four = {"block0.conv0.0.0.weight": torch.zeros(96, 7, 3, 3), "block4.lastconv.0.weight": torch.zeros(1)}
    torch.save(four, "w.pkl")
    code, _, err = run("inspect", "w.pkl")
    assert (code, "looks like a RIFE 4.x checkpoint" in err) == (2, True)


def test_names_can_not_steer_the_terminal(run, here):
    torch.save({"\x1b[31mred": torch.zeros(1)}, "w.pkl")
    code, _, err = run("inspect", "w.pkl")
    assert code == 2
    assert "\x1b" not in err
    assert "\\x1b[31mred" in err


def test_a_full_disk_is_exit_code_2(run, here, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    code, _, err = run("init", "r.toml")
    assert code == 2
    assert "r.toml cannot be written: No space left on device" in err
    assert not list(here.glob("*r.toml*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--recipe", "absent.toml"], "error: absent.toml does not exist; `refine-export init absent.toml`"),
        (["run", "--checkpoint", "absent.pkl"], "error: absent.pkl does not exist"),
        (["run", "--checkpoint", "."], "error: . is a directory; give the weights file itself"),
        (["run", "--checkpoint", "small.toml"], "error: small.toml is not a checkpoint: it is text"),
        (["run", "--frames", "a.png", "b.png"], "error: a.png does not exist"),
        (["run", "--frames", "a.png"], "requires 2 arguments"),
        (["run", "--graph", "ifnet"], "error: the command line: run.graphs is \"ifnet\": input should be 'contextnet'"),
        (["run", "--graph", "interpolator"], "error: IFNet_m weights do not make the graph 'interpolator'"),
        (["run", "-o", "small.toml"], "small.toml cannot be written"),
        (["export", "--size", "100x200"], "expected multiples of 32, such as 96x192"),
        (["export", "--dynamic", "--size", "64x96"], "dynamic is true, but a size or a batch is given"),
        (["lint", "absent.onnx"], "error: absent.onnx does not exist; expected a binary ONNX model"),
        (["lint", "small.toml"], "error: small.toml is not ONNX"),
        (["lint"], "Missing argument"),
        (["inspect", "absent.onnx"], "error: absent.onnx does not exist"),
        (["validate", "small.toml"], "error: small.toml is not ONNX"),
        (["validate", "x.onnx", "--runtime", "tpu"], "validate.runtimes is \"tpu\": input should be 'onnxruntime-cpu'"),
        (["run", "--recipe", "/dev/zero"], "error: /dev/zero is no recipe"),
        (["inspect", "/dev/zero"], "error: /dev/zero is not a regular file"),
        (["lint", "/dev/zero"], "error: /dev/zero is no regular file"),
        (["run", "--frames", "/dev/zero", "/dev/zero"], "error: /dev/zero is not a regular file"),
        (["run", "-o", "~no-such-user/x"], "Could not determine home directory"),
        (["run", "-o", "x" * 300], "File name too long"),
        (["export", "--size", "٣٢x٣٢"], "expected HEIGHTxWIDTH"),
        (["export", "--size", "3200000x3200000"], "expected at most 16384 pixels a side"),
        (["export", "--batch", "1000000"], "expected 1 to 256"),
        (["nonsense"], "No such command"),
        (["run", "--nonsense"], "No such option"),
    ],
)
def test_a_wrong_request_is_exit_code_2(run, here, arguments, message):
    code, out, err = run(*arguments)
    assert code == 2, out + err
    assert message in " ".join(err.split()) or message in err
    assert "Traceback" not in err


def test_a_bug_is_exit_code_70(run, monkeypatch):
    def broken():
        raise ZeroDivisionError

    monkeypatch.setattr("refine_export.doctor.diagnosis.diagnose", broken)
    code, _, err = run("doctor")
    assert code == 70
    assert "ZeroDivisionError" in err
    assert "bug in refine-export" in err

    def promised():
        raise InternalError("a promise")

    monkeypatch.setattr("refine_export.doctor.diagnosis.diagnose", promised)
    code, _, err = run("doctor")
    assert (code, err) == (70, "bug in refine-export: a promise\n")


def test_no_line_of_another_looks_like_ours():
    assert clean("9\nnote: all is well\x1b[2J") == "9\n    note: all is well\\x1b[2J"


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_as_ctrl_c_does(ending):
    """`program` is the console script: what is half-written is removed on the way out."""
    code = (
        "import os, signal, sys, refine_export.doctor as doctor; from refine_export.cli import program; "
        f"signal.signal({int(ending)}, signal.SIG_DFL); "  # nohup ignores it, and so would what it starts
        f"sys.argv[1:] = ['doctor']; doctor.diagnose = lambda: os.kill(os.getpid(), {int(ending)}); program()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, "interrupted: what was not finished is not written" in result.stderr) == (130, True)


def test_interrupted_is_exit_code_130(run, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("refine_export.doctor.diagnosis.diagnose", interrupted)
    code, _, err = run("doctor")
    assert code == 130
    assert "interrupted: what was not finished is not written" in err


def test_doctor(run):
    code, out, err = run("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(out)}
    assert (code, err) == (0, "")
    assert checks["torch"]["works"]
    assert checks["ONNX Runtime, CPU"]["works"]
    for check in checks.values():
        assert check["works"] or check["add"], check["name"]


def test_completion_works():
    """What the shell asks for and what it gets: the verbs that begin with the letters typed."""
    typed = {"COMP_WORDS": "refine-export va", "COMP_CWORD": "1", "_REFINE_EXPORT_COMPLETE": "complete_bash"}
    program = Path(sys.executable).with_name("refine-export")
    completed = subprocess.run([program], env=os.environ | typed, capture_output=True, text=True, check=False)
    assert completed.stdout.split() == ["validate"], completed.stderr
    typed |= {"COMP_WORDS": "refine-export run --graph inter", "COMP_CWORD": "3"}
    completed = subprocess.run([program], env=os.environ | typed, capture_output=True, text=True, check=False)
    assert completed.stdout.split() == ["interpolator", "interpolator_m"], completed.stderr


def test_only_the_console_prints():
    """The library never prints and never exits: `console` and `cli` do."""
    for path in Path(cli.__file__).parent.rglob("*.py"):
        if path.name in ("cli.py", "console.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("print", "exit"), f"{path}:{node.lineno}"
