"""Test what this machine can run, and name the commands that add what is missing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from onnx import TensorProto, helper

from refine_export.doctor import engine_diagnosis as doctor_engines
from refine_export.doctor.engine_diagnosis import Check as Check
from refine_export.errors import UnavailableError
from refine_export.runners.onnxruntime import OrtRunner, Provider
from refine_export.support.environment import machine, versions
from refine_export.support.imports import import_if_installed, pip_install


def diagnose() -> list[Check]:
    """Try everything that a stage may need; never raises because of something that is missing."""
    return [check() for check in _CHECKS]


def _system() -> Check:
    known = machine()
    found = f"{known['system']}, {known['processor']}, Python {versions(())['python']}"
    return Check(name="system", works=True, found=found, enables="everything")


def _provider(name: str, provider: Provider, enables: str) -> Check:
    """Load a one-node model: a provider that is listed may still not load."""
    ort = import_if_installed("onnxruntime")
    if ort is None:
        add = pip_install("ort")
        return Check(name=name, works=False, found="onnxruntime is not installed", enables=enables, add=add)
    version = f"onnxruntime {getattr(ort, '__version__', 'without a version')}"
    try:
        OrtRunner(_probe(), provider=provider).close()
    except UnavailableError as error:
        found, add = f"{version} was built without it", error.fields["install"]
        if error.code == "provider-not-loaded":
            found = f"{version} has it, but cannot load it: {error.fields['reason']}"
            alone = " and with no other TensorRT" if provider == "tensorrt" else ""
            add = f"{add}, on a machine with an NVIDIA GPU{alone}"
        return Check(name=name, works=False, found=found, enables=enables, add=add)
    except Exception as error:  # whatever a broken installation raises is the finding
        add = f"{pip_install('ort')} --force-reinstall"
        return Check(name=name, works=False, found=f"{version} fails: {error}", enables=enables, add=add)
    return Check(name=name, works=True, found=version, enables=enables)


def _probe() -> bytes:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def _packages(name: str, enables: str, add: str, *packages: str) -> Check:
    """Import packages; `add` is the command that installs them."""
    missing = [package for package in packages if import_if_installed(package) is None]
    found = f"missing: {', '.join(missing)}" if missing else _versions(*packages)
    return Check(name=name, works=not missing, found=found, enables=enables, add=add if missing else None)


def _versions(*packages: str) -> str:
    known = versions(packages)
    return ", ".join(f"{package} {known.get(package, '')}".strip() for package in packages)


_CHECKS: tuple[Callable[[], Check], ...] = (
    _system,
    partial(_packages, "torch", "checkpoints, export, the reference", pip_install("torch"), "torch", "onnxscript"),
    partial(_provider, "ONNX Runtime, CPU", "cpu", "validation of ONNX files"),
    doctor_engines.gpu,
    doctor_engines.torch_cuda,
    partial(_provider, "ONNX Runtime, CUDA", "cuda", "validation of ONNX files on the GPU"),
    doctor_engines.tensorrt,
    doctor_engines.tensorrt_rtx,
    partial(
        _packages,
        "Polygraphy",
        "cross-checks of engines (`refine-export reproduce`); building and running engines need none",
        "pip install polygraphy",
        "polygraphy",
    ),
    partial(
        _provider,
        "ONNX Runtime, TensorRT",
        "tensorrt",
        "validation of ONNX files on TensorRT without an engine file",
    ),
    partial(
        _provider,
        "ONNX Runtime, TensorRT for RTX",
        "rtx",
        "validation of ONNX files on RTX GPUs without an engine file",
    ),
    partial(_packages, "Triton client", "checks against an inference server", pip_install("triton"), "tritonclient"),
    partial(_packages, "video", "reading and writing videos", pip_install("video"), "av"),
)
