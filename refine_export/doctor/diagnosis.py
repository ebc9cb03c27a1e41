"""Test what this machine can run, and name the commands that add what is missing."""

from __future__ import annotations

from collections.abc import Callable

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


def _torch() -> Check:
    torch = import_if_installed("torch")
    exporter = import_if_installed("onnxscript")
    missing = [name for name, module in (("torch", torch), ("onnxscript", exporter)) if module is None]
    return Check(
        name="torch",
        works=not missing,
        found=f"missing: {', '.join(missing)}" if missing else _versions("torch", "onnxscript"),
        enables="checkpoints, export, the reference",
        add=pip_install("torch") if missing else None,
    )


def _ort_cpu() -> Check:
    return _provider("ONNX Runtime, CPU", "cpu", "validation of ONNX files")


def _ort_cuda() -> Check:
    return _provider("ONNX Runtime, CUDA", "cuda", "validation of ONNX files on the GPU")


def _ort_tensorrt() -> Check:
    return _provider(
        "ONNX Runtime, TensorRT", "tensorrt", "validation of ONNX files on TensorRT without an engine file"
    )


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


def _triton() -> Check:
    client = import_if_installed("tritonclient")
    return Check(
        name="Triton client",
        works=client is not None,
        found="missing: tritonclient" if client is None else _versions("tritonclient"),
        enables="checks against an inference server",
        add=pip_install("triton") if client is None else None,
    )


def _video() -> Check:
    works = import_if_installed("av") is not None
    return Check(
        name="video",
        works=works,
        found=_versions("av") if works else "missing: av",
        enables="reading and writing videos",
        add=None if works else pip_install("video"),
    )


def _versions(*packages: str) -> str:
    known = versions(packages)
    return ", ".join(f"{package} {known.get(package, '')}".strip() for package in packages)


_CHECKS: tuple[Callable[[], Check], ...] = (
    _system,
    _torch,
    _ort_cpu,
    doctor_engines.gpu,
    doctor_engines.torch_cuda,
    _ort_cuda,
    doctor_engines.tensorrt,
    doctor_engines.tensorrt_rtx,
    doctor_engines.polygraphy,
    _ort_tensorrt,
    _triton,
    _video,
)
