"""Doctor finds, for every way that a machine can lack an engine's needs, the command that helps."""

import json
import subprocess
import sys
import warnings
from types import SimpleNamespace

import onnxruntime
import pytest

from refine_export.doctor import diagnosis as doctor
from refine_export.doctor import engine_diagnosis as doctor_engines
from refine_export.errors import UnavailableError
from tests.support.engine_models import bare_module

TRT = "pip install tensorrt"
CU12 = "pip install 'tensorrt-cu12>=10.12,<12'"
TORCH = "pip install torch onnxscript safetensors"
DRIVERS = "https://www.nvidia.com/drivers"
NEWER, DRIVER_12_OR_13 = f"a newer driver: {DRIVERS}", f"a driver for CUDA 12 or 13: {DRIVERS}"
CUDA_13 = "torch built for CUDA 13: https://pytorch.org/get-started has the pip command"
CUDA_12 = CUDA_13.replace("13", "12")
CONTAINER = "in a container, start it with: docker run --gpus all"
MACHINE = "a machine with Linux or Windows and an NVIDIA GPU"
RTX_WITHOUT_GPU = "an NVIDIA GPU; without one, TensorRT for RTX builds engines for RTX GPUs: pip install tensorrt-rtx"
BROKEN = SimpleNamespace()


def without(*cuda):
    """The command that makes room for TensorRT of another CUDA or version."""
    packages = " ".join(f"tensorrt-cu{one} tensorrt-cu{one}-libs tensorrt-cu{one}-bindings" for one in cuda)
    return f"pip uninstall -y {f'tensorrt {packages}'.strip()} && "


def torch_of(cuda, *, works=True):
    def is_available():
        if not works:
            warnings.warn("The NVIDIA driver on your system is too old", stacklevel=1)
        return works

    return SimpleNamespace(
        __version__="2.13.0", version=SimpleNamespace(cuda=cuda), cuda=SimpleNamespace(is_available=is_available)
    )


@pytest.fixture
def machine(monkeypatch):
    """A machine on which all is well: an H200, a driver and a torch for CUDA 13, TensorRT 11.4 for it."""

    def set_to(**changes):
        for name, value in changes.items():
            if name == "torch":
                monkeypatch.setattr(doctor_engines, "import_if_installed", {"torch": value}.get)
            elif name == "tensorrt":
                monkeypatch.setitem(sys.modules, "tensorrt", value)
            elif name == "visible":
                monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
            elif name == "system":
                monkeypatch.setattr(doctor_engines.platform, "system", lambda value=value: value)
            else:
                monkeypatch.setattr(doctor_engines, name, lambda value=value: value)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    set_to(torch=torch_of("13.0"), tensorrt=bare_module("tensorrt", "11.4.0"), driver_status=0, driver_cuda=(13, 0))
    set_to(tensorrt_cudas=(13,), current_gpu=("NVIDIA H200", (9, 0)))
    return set_to


def told(check):
    """What is found and what is to be added; that is None where it works, and nowhere else."""
    assert check.works == (check.add is None)
    assert check.enables
    return check.found, check.add


@pytest.mark.parametrize(
    ("changes", "add"),
    [
        ({"driver_status": None, "driver_cuda": None}, f"NVIDIA's driver from {DRIVERS}; {CONTAINER}"),
        ({"driver_status": 100}, f"an NVIDIA GPU that nvidia-smi lists; {CONTAINER}"),
        ({"driver_status": 100, "visible": "-1"}, "unset CUDA_VISIBLE_DEVICES"),
        (
            {"driver_status": 803, "visible": "0"},
            "a restart of the machine, which reloads the driver's kernel module; then look at nvidia-smi",
        ),
    ],
)
def test_no_gpu_is_told_in_all_three_lines(machine, changes, add):
    machine(torch=torch_of("13.0", works=False), **changes)
    found, advice = told(doctor_engines.gpu())
    assert advice == add
    for check in (doctor_engines.torch_cuda(), doctor_engines.tensorrt()):
        assert told(check)[1] == add
        assert check.found.endswith(found)


def test_a_gpu_is_told_and_one_whose_driver_stops_answering_is_none(machine, monkeypatch):
    found = "NVIDIA H200, of compute capability 9.0, with a driver for CUDA up to 13.0"
    assert told(doctor_engines.gpu()) == (found, None)

    def stops():
        raise UnavailableError("no GPU is found: cuDeviceGet failed")

    monkeypatch.setattr(doctor_engines, "current_gpu", stops)
    assert told(doctor_engines.gpu()) == ("no GPU is found: cuDeviceGet failed", NEWER)


@pytest.mark.parametrize(
    ("torch", "driver", "add"),
    [
        (torch_of("13.0"), (13, 0), None),
        (None, (13, 0), TORCH),
        (torch_of(None), None, CUDA_13),
        (torch_of(None), (12, 4), CUDA_12),
        (torch_of("13.0", works=False), (12, 4), CUDA_12),
        (torch_of("12.6", works=False), (11, 4), DRIVER_12_OR_13),
        (torch_of("12.6", works=False), (13, 0), CUDA_13),  # and no GPU that it can use
    ],
)
def test_torch_is_told_with_the_build_that_fits_the_driver(machine, torch, driver, add):
    """Its own warning of an old driver is not shown: warnings are errors in these tests."""
    machine(torch=torch, driver_cuda=driver)
    found, advice = told(doctor_engines.torch_cuda())
    assert advice == add
    assert torch is None or torch.version.cuda is None or torch.version.cuda in found


MISSING = {"tensorrt": None, "tensorrt_cudas": ()}


@pytest.mark.parametrize(
    ("changes", "add"),
    [
        ({}, None),
        ({"tensorrt": bare_module("tensorrt", "10.12.0")}, None),
        ({"tensorrt": bare_module("tensorrt", "11.9.0")}, None),
        ({"tensorrt_cudas": ()}, None),
        ({"tensorrt_cudas": (12,), "torch": torch_of("12.6")}, None),  # for an older CUDA than the driver's
        ({"torch": None}, None),
        ({"torch": torch_of(None)}, None),
        (MISSING, TRT),
        (MISSING | {"torch": torch_of(None), "driver_cuda": (13, 1)}, TRT),
        (MISSING | {"torch": torch_of(None), "driver_cuda": (12, 4)}, CU12),
        (MISSING | {"torch": torch_of("12.8")}, CU12),  # they share a process
        (MISSING | {"driver_cuda": (12, 4)}, CU12),  # nothing for CUDA 13 runs there
        (MISSING | {"torch": None, "driver_cuda": (11, 4)}, f"a driver for CUDA 12 or 13 ({DRIVERS}), then {TRT}"),
        (MISSING | {"driver_status": None, "driver_cuda": None}, RTX_WITHOUT_GPU),
        (MISSING | {"driver_status": 100}, RTX_WITHOUT_GPU),
        (MISSING | {"system": "Darwin"}, MACHINE),
        ({"tensorrt": None}, without(13) + TRT),  # its wheel is there
        ({"tensorrt": BROKEN, "tensorrt_cudas": ()}, without() + TRT),  # an empty folder of that name
        ({"tensorrt_cudas": (13, 12)}, without(13, 12) + TRT),  # each over the other's files
        ({"tensorrt": bare_module("tensorrt", "10.11.9")}, without(13) + TRT),
        ({"tensorrt": bare_module("tensorrt", "12.0.0")}, without(13) + TRT),
        ({"torch": torch_of("12.6")}, without(13) + CU12),
        ({"tensorrt_cudas": (12,)}, without(12) + TRT),
        ({"driver_cuda": (12, 4)}, without(13) + CU12),
    ],
)
def test_tensorrt_is_told_with_the_command_for_this_cuda(machine, changes, add):
    machine(**changes)
    found, advice = told(doctor_engines.tensorrt())
    assert advice == add
    assert changes.get("tensorrt") is None or changes["tensorrt"] is BROKEN or changes["tensorrt"].__version__ in found


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'tensorrt_bindings'", name="tensorrt_bindings"),
        RuntimeError("TensorRT currently builds wheels for Python 3.8 to 3.13"),
    ],
)
def test_tensorrt_that_can_not_be_imported_is_told_with_its_error(machine, monkeypatch, error):
    def broken(name):
        raise error

    monkeypatch.setattr("refine_export.support.imports.import_module", broken)
    found, add = told(doctor_engines.tensorrt())
    assert (str(error) in found, add) == (True, without(13) + TRT)


@pytest.mark.parametrize(("version", "works"), [("1.7.1", True), ("1.5.0", False), (None, False)])
def test_tensorrt_for_rtx_is_a_line_of_its_own(monkeypatch, version, works):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", version and SimpleNamespace(__name__="x", __version__=version))
    assert (told(doctor_engines.tensorrt_rtx())[1] is None) == works


def providers():
    return [told(doctor._provider("a provider", name, "validation")) for name in ("cpu", "cuda", "tensorrt")]


def test_packages_work_where_all_can_be_imported(monkeypatch):
    assert told(doctor._packages("two", "something", "pip install", "numpy", "no_such_package"))[1] == "pip install"
    assert told(doctor._packages("one", "something", "pip install", "numpy"))[1] is None


def test_a_provider_works_where_a_session_on_it_does(monkeypatch):
    monkeypatch.setattr(doctor, "OrtRunner", lambda model, provider: SimpleNamespace(close=lambda: None))
    assert providers() == [(f"onnxruntime {onnxruntime.__version__}", None)] * 3
    monkeypatch.setattr(doctor, "import_if_installed", lambda name: None)
    assert providers() == [("onnxruntime is not installed", "pip install onnxruntime-gpu")] * 3


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_can_not_be_loaded_is_told_with_its_reason(monkeypatch, provider):
    def fails(*_, **__):
        raise RuntimeError("CUDA failure 35: driver version is insufficient")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fails)
    monkeypatch.setattr("refine_export.runners.onnxruntime.ctypes.CDLL", lambda path: None)
    found, add = told(doctor._provider("a provider", provider, "validation"))
    assert found.endswith("CUDA failure 35: driver version is insufficient")
    assert add.startswith("pip install 'onnxruntime-gpu[cuda,cudnn]'")
    assert ("'tensorrt-cu" in add) == add.endswith("with no other TensorRT") == (provider == "tensorrt")


def test_a_build_without_a_provider_and_a_broken_one_are_told(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    add = providers()[-1][1]
    assert add == "pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'"

    def fails(model, provider):
        raise AttributeError("module has no attribute 'RunOptions'")

    monkeypatch.setattr(doctor, "OrtRunner", fails)
    monkeypatch.setattr(doctor, "import_if_installed", lambda name: SimpleNamespace())  # one without a version
    assert [add for _, add in providers()] == ["pip install onnxruntime-gpu --force-reinstall"] * 3


def test_every_line_of_this_machine_has_what_to_add():
    """In a process of its own: nothing is printed beside it, whatever is missing here."""
    command = [sys.executable, "-c", "from refine_export.cli.main import main; main(['doctor', '--json'])"]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    checks = json.loads(completed.stdout)
    assert completed.stderr == ""
    assert len({check["name"] for check in checks}) == len(checks) == 13
    for check in checks:
        assert check["works"] == (check["add"] is None)
        assert "\n" not in check["found"]
