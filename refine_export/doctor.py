"""What this machine can do, found out by trying, and the command that adds what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from refine_export.environment import machine, versions
from refine_export.optional import installed
from refine_export.runners.ort import quiet_loading


@dataclass(frozen=True, kw_only=True)
class Check:
    """One ability of this machine."""

    name: str
    works: bool
    found: str
    """What is there, or what happened."""
    enables: str
    """What it is for."""
    add: str | None = None
    """The command, or the advice, that adds it where it is missing."""


def diagnose() -> list[Check]:
    """Try everything that a stage may need; never raises because of something that is missing."""
    return [check() for check in _CHECKS]


def _system() -> Check:
    known = machine()
    found = f"{known['system']}, {known['processor']}, Python {versions(())['python']}"
    return Check(name="system", works=True, found=found, enables="everything")


def _torch() -> Check:
    torch = installed("torch")
    exporter = installed("onnxscript")
    missing = [name for name, module in (("torch", torch), ("onnxscript", exporter)) if module is None]
    return Check(
        name="torch",
        works=not missing,
        found=f"missing: {', '.join(missing)}" if missing else _versions("torch", "onnxscript"),
        enables="checkpoints, export, the reference",
        add="pip install 'refine-export[torch]'" if missing else None,
    )


def _gpu() -> Check:
    torch = installed("torch")
    enables = "CUDA runtimes and engines"
    if torch is None:
        add = "pip install 'refine-export[torch]', then ask again"
        return Check(name="GPU", works=False, found="not looked for: torch is missing", enables=enables, add=add)
    if not torch.cuda.is_available():
        built = torch.version.cuda
        found = f"none found by torch ({f'built for CUDA {built}' if built else 'a CPU build'})"
        add = "a machine with an NVIDIA GPU and its driver" + ("" if built else ", and torch built for CUDA")
        return Check(name="GPU", works=False, found=found, enables=enables, add=add)
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Check(name="GPU", works=True, found=", ".join(names), enables=enables)


def _ort_cpu() -> Check:
    return _provider("ONNX Runtime, CPU", "CPUExecutionProvider", "validation of ONNX files")


def _ort_cuda() -> Check:
    return _provider("ONNX Runtime, CUDA", "CUDAExecutionProvider", "validation of ONNX files on the GPU")


def _provider(name: str, provider: str, enables: str) -> Check:
    """Load a one-node model: a provider that is listed may still not load."""
    ort = installed("onnxruntime")
    add = "pip install 'refine-export[ort]'"
    if ort is None:
        return Check(name=name, works=False, found="missing: onnxruntime", enables=enables, add=add)
    version = f"onnxruntime {ort.__version__}"
    if provider not in ort.get_available_providers():
        add = "pip uninstall onnxruntime; pip install onnxruntime-gpu"
        return Check(name=name, works=False, found=f"{version}, built without it", enables=enables, add=add)
    try:
        loaded = _loaded_providers(ort, provider)
    except Exception as error:  # whatever a broken installation raises is the finding
        return Check(name=name, works=False, found=f"{version} fails: {error}", enables=enables, add=add)
    if loaded[0] != provider:
        found = f"{version} has it, but loads {', '.join(loaded)}"
        add = "an NVIDIA GPU with its driver, and the CUDA and cuDNN libraries of this onnxruntime build"
        return Check(name=name, works=False, found=found, enables=enables, add=add)
    return Check(name=name, works=True, found=version, enables=enables)


def _loaded_providers(ort: Any, provider: str) -> list[str]:
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    with quiet_loading(ort):
        session = ort.InferenceSession(model.SerializeToString(), providers=[provider])
    return list(session.get_providers())


def _tensorrt() -> Check:
    tensorrt, polygraphy = installed("tensorrt"), installed("polygraphy")
    missing = [name for name, module in (("tensorrt", tensorrt), ("polygraphy", polygraphy)) if module is None]
    return Check(
        name="TensorRT",
        works=not missing,
        found=f"missing: {', '.join(missing)}" if missing else _versions("tensorrt", "polygraphy"),
        enables="engines",
        add="pip install 'refine-export[trt]' (Linux or Windows, x86-64, with an NVIDIA GPU)" if missing else None,
    )


def _triton() -> Check:
    client = installed("tritonclient")
    return Check(
        name="Triton client",
        works=client is not None,
        found="missing: tritonclient" if client is None else _versions("tritonclient"),
        enables="checks against an inference server",
        add="pip install 'refine-export[triton]'" if client is None else None,
    )


def _versions(*packages: str) -> str:
    known = versions(packages)
    return ", ".join(f"{package} {known.get(package, '')}".strip() for package in packages)


_CHECKS: tuple[Callable[[], Check], ...] = (_system, _torch, _gpu, _ort_cpu, _ort_cuda, _tensorrt, _triton)
