"""Heavy packages wait for their use, and a missing one is named with the command that installs it."""

import subprocess
import sys

import pytest

from refine_export import __version__
from refine_export.cli.main import SUBVERBS, VERBS

HEAVY = ("torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "numpy", "PIL", "jinja2", "pydantic", "safetensors")
BARE = """
import sys

sys.modules.update(dict.fromkeys({heavy}))  # None: import raises ModuleNotFoundError, find_spec finds nothing
from refine_export.cli.main import main
for arguments in {commands}:
    try:
        main(arguments)
    except SystemExit as ended:
        if ended.code:
            raise
"""


def bare(*commands, heavy=HEAVY):
    """Run command lines, until one fails, in an interpreter that has none of the heavy packages."""
    code = BARE.format(heavy=list(heavy), commands=list(commands))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_help_answers_without_any_heavy_package():
    verbs = ["", *VERBS, *SUBVERBS]
    result = bare(*([*verb.split(), "--help"] for verb in verbs))
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("Usage: ") == len(verbs)


def test_version_answers_without_any_heavy_package():
    assert bare(["--version"]).stdout == f"refine-export {__version__}\n"


@pytest.mark.parametrize("arguments", [["run"], ["export", "--graph", "unet"], ["inspect", "weights.safetensors"]])
def test_without_torch_the_command_is_named(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    result = bare(arguments, heavy=("torch", "safetensors"))
    assert result.returncode == 3
    assert "pip install torch onnxscript safetensors" in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_without_onnxruntime_nothing_is_green(tmp_path):
    recipe = tmp_path / "r.toml"
    seeded = '[checkpoint]\nweights = "seeded"\n[scene]\nheight = 64\nwidth = 64\n'
    static = '[export]\ndynamic = false\nsize = "64x64"\n[lower]\nprecision = "fp32"\n'
    recipe.write_text(f'{seeded}{static}[validate]\nsizes = []\nflows = ["subpixel"]\n')
    command = f"run --graph contextnet -o {tmp_path} --quiet --recipe {recipe}"
    result = bare(command.split(), heavy=("onnxruntime",))
    assert result.returncode == 3, result.stderr
    assert "not compared" in result.stdout
    assert "pip install onnxruntime" in result.stdout.replace("\n", " ")
    assert "passed:" not in result.stdout


def test_doctor_names_all_that_is_missing():
    result = bare(["doctor"], heavy=("torch", "onnxscript", "onnxruntime", "tensorrt", "polygraphy", "tritonclient"))
    assert result.returncode == 0, result.stderr
    for package in ("torch onnxscript safetensors", "onnxruntime", "tensorrt", "'tritonclient[grpc,http]'"):
        assert f"pip install {package}" in result.stdout
