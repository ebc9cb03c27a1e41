"""Doctor tells, for every way that a machine can lack an engine's needs, what it found and the command that helps."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import onnxruntime
import pytest

from refine_export.doctor import diagnosis as doctor
from refine_export.doctor import engine_diagnosis as doctor_engines
from refine_export.errors import UnavailableError
from tests.support.fake_tensorrt import make_fake

EXTRA = "pip install tensorrt"
CU12 = "pip install 'tensorrt-cu12>=10.12,<12'"
DRIVERS = "https://www.nvidia.com/drivers"


def without(cuda):
    """The command that makes room for TensorRT of another CUDA or version."""
    packages = " ".join(f"tensorrt-cu{one} tensorrt-cu{one}-libs tensorrt-cu{one}-bindings" for one in cuda)
    return f"pip uninstall -y {f'tensorrt {packages}'.strip()} && "


def fake_torch(cuda, *, works=True):
    return SimpleNamespace(
        __version__="2.13.0", version=SimpleNamespace(cuda=cuda), cuda=SimpleNamespace(is_available=lambda: works)
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
            else:
                monkeypatch.setattr(doctor_engines, name, lambda value=value: value)

    set_to(
        torch=fake_torch("13.0"),
        tensorrt=make_fake("11.4.0"),
        driver_status=0,
        driver_cuda=(13, 0),
        tensorrt_cudas=(13,),
        current_gpu=("NVIDIA H200", (9, 0)),
    )
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return set_to


def told(check):
    assert check.works == (check.add is None)
    assert check.enables
    return check.found, check.add


def test_a_gpu_is_told_with_its_driver(machine):
    found = "NVIDIA H200, of compute capability 9.0, with a driver for CUDA up to 13.0"
    assert told(doctor_engines.gpu()) == (found, None)


TROUBLES = {
    "no driver": (
        {"driver_status": None, "driver_cuda": None},
        f"no GPU can be used: NVIDIA's driver library {doctor_engines.DRIVER_LIBRARY} is not found",
        f"NVIDIA's driver from {DRIVERS}; in a container, start it with: docker run --gpus all",
    ),
    "no device": (
        {"driver_status": 100},
        "no GPU can be used: NVIDIA's driver, for CUDA up to 13.0, finds none",
        "an NVIDIA GPU that nvidia-smi lists; in a container, start it with: docker run --gpus all",
    ),
    "hidden": (
        {"driver_status": 100, "hidden": "-1"},
        "no GPU can be used: CUDA_VISIBLE_DEVICES='-1' hides all there are",
        "unset CUDA_VISIBLE_DEVICES",
    ),
    "broken driver": (
        {"driver_status": 803, "hidden": "0"},
        "no GPU can be used: NVIDIA's driver does not start (cuInit gives CUresult 803)",
        "a restart of the machine, which reloads the driver's kernel module; then look at nvidia-smi",
    ),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_no_gpu_is_told_with_its_reason_in_all_three_lines(machine, monkeypatch, trouble):
    changes, found, add = TROUBLES[trouble]
    if "hidden" in changes:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", changes["hidden"])
    machine(torch=fake_torch("13.0", works=False), **{k: v for k, v in changes.items() if k != "hidden"})
    assert told(doctor_engines.gpu()) == (found, add)
    assert told(doctor_engines.torch_cuda()) == (f"torch 2.13.0 is built for CUDA 13.0, but {found}", add)
    assert told(doctor_engines.tensorrt()) == (f"tensorrt 11.4.0 for CUDA 13 is installed, but {found}", add)


def test_a_driver_that_stops_answering_is_no_gpu(machine, monkeypatch):
    def stops():
        raise UnavailableError("no GPU is found: cuDeviceGet failed")

    monkeypatch.setattr(doctor_engines, "current_gpu", stops)
    assert told(doctor_engines.gpu()) == ("no GPU is found: cuDeviceGet failed", f"a newer driver: {DRIVERS}")


# ------------------------------------------------------------------------------------------- torch

CUDA_13 = "torch built for CUDA 13: https://pytorch.org/get-started has the pip command"


@pytest.mark.parametrize(
    ("torch", "driver", "found", "add"),
    [
        (fake_torch("13.0"), (13, 0), "torch 2.13.0 is built for CUDA 13.0", None),
        (None, (13, 0), "torch is not installed", "pip install torch onnxscript safetensors"),
        (fake_torch(None), None, "torch 2.13.0 is built for CPU only", CUDA_13),
        (fake_torch(None), (12, 4), "torch 2.13.0 is built for CPU only", CUDA_13.replace("13", "12")),
        (
            fake_torch("13.0", works=False),
            (12, 4),
            "torch 2.13.0 is built for CUDA 13.0, the driver is for CUDA up to 12.4",
            CUDA_13.replace("13", "12"),
        ),
        (
            fake_torch("12.6", works=False),
            (11, 4),
            "torch 2.13.0 is built for CUDA 12.6, the driver is for CUDA up to 11.4",
            f"a driver for CUDA 12 or 13: {DRIVERS}",
        ),
        (
            fake_torch("12.6", works=False),
            (13, 0),
            "torch 2.13.0 is built for CUDA 12.6, but finds no GPU that it can use",
            CUDA_13,
        ),
    ],
)
def test_torch_is_told_with_the_build_that_fits_the_driver(machine, torch, driver, found, add):
    machine(torch=torch, driver_cuda=driver)
    assert told(doctor_engines.torch_cuda()) == (found, add)


def test_torchs_own_warning_of_an_old_driver_is_not_shown(machine):
    import warnings

    torch = fake_torch("13.0")
    torch.cuda.is_available = lambda: warnings.warn("The NVIDIA driver on your system is too old", stacklevel=1)
    machine(torch=torch, driver_cuda=(12, 4))
    assert not doctor_engines.torch_cuda().works  # warnings are errors in these tests


@pytest.mark.parametrize(("version", "wheels"), [("10.12.0", (13,)), ("11.9.0", (13,)), ("11.4.0", ())])
def test_tensorrt_that_makes_a_builder_works(machine, version, wheels):
    machine(tensorrt=make_fake(version), tensorrt_cudas=wheels)
    assert told(doctor_engines.tensorrt()) == (f"tensorrt {version}{' for CUDA 13' if wheels else ''}", None)


@pytest.mark.parametrize(
    ("torch", "driver", "add"),
    [
        ("13.0", (13, 0), EXTRA),
        (None, (13, 1), EXTRA),
        (None, (12, 4), CU12),
        ("12.8", (13, 0), CU12),  # they share a process
        ("13.0", (12, 4), CU12),  # nothing for CUDA 13 runs there
        (None, (11, 4), f"a driver for CUDA 12 or 13 ({DRIVERS}), then {EXTRA}"),
        (None, None, f"{EXTRA}, or with a driver for CUDA 12: {CU12}"),
    ],
)
def test_missing_tensorrt_is_told_with_the_command_for_this_cuda(machine, torch, driver, add):
    machine(tensorrt=None, tensorrt_cudas=(), torch=fake_torch(torch), driver_cuda=driver)
    assert told(doctor_engines.tensorrt()) == ("tensorrt is not installed", add)


def test_a_system_that_has_no_tensorrt_gets_no_command(machine, monkeypatch):
    machine(tensorrt=None, tensorrt_cudas=())
    monkeypatch.setattr(doctor_engines.platform, "system", lambda: "Darwin")
    found = "tensorrt is not installed, and NVIDIA has none for Darwin"
    assert told(doctor_engines.tensorrt()) == (found, "a machine with Linux or Windows and an NVIDIA GPU")


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
    found = f"tensorrt is installed, but cannot be imported: {error}"
    assert told(doctor_engines.tensorrt()) == (found, without([13]) + EXTRA)


def test_a_wheel_without_its_module_is_broken_not_missing(machine):
    machine(tensorrt=None)
    found, add = told(doctor_engines.tensorrt())
    assert found.startswith("tensorrt is installed, but cannot be imported: import of tensorrt halted")
    assert add == without([13]) + EXTRA


def test_an_empty_folder_of_that_name_is_broken(machine):
    machine(tensorrt=SimpleNamespace(), tensorrt_cudas=())
    found, add = told(doctor_engines.tensorrt())
    assert found.startswith("tensorrt is installed, but fails: ")
    assert add == without([]) + EXTRA


def test_wheels_for_two_cudas_are_told(machine):
    machine(tensorrt_cudas=(13, 12))
    found = "tensorrt 11.4.0 is installed for CUDA 13 and CUDA 12 at once, each over the other's files"
    assert told(doctor_engines.tensorrt()) == (found, without([13, 12]) + EXTRA)


@pytest.mark.parametrize("version", ["10.11.9", "12.0.0"])
def test_a_version_that_engines_are_not_built_with_is_told(machine, version):
    fake = make_fake("11.4.0")
    fake.__version__ = version
    machine(tensorrt=fake)
    found = f"tensorrt {version} is installed; engines are built with 10.12 to 11.x"
    assert told(doctor_engines.tensorrt()) == (found, without([13]) + EXTRA)


def test_tensorrt_for_an_older_cuda_than_the_drivers_runs(machine):
    machine(tensorrt_cudas=(12,), torch=fake_torch("12.6"))
    assert told(doctor_engines.tensorrt()) == ("tensorrt 11.4.0 for CUDA 12", None)


@pytest.mark.parametrize(("wheel", "torch", "add"), [(13, "12.6", CU12), (12, "13.0", EXTRA)])
def test_tensorrt_for_another_cuda_than_torchs_is_told(machine, wheel, torch, add):
    machine(tensorrt_cudas=(wheel,), torch=fake_torch(torch))
    found = (
        f"tensorrt 11.4.0 for CUDA {wheel} is installed, but torch 2.13.0 is for CUDA {torch[:2]}; they share a process"
    )
    assert told(doctor_engines.tensorrt()) == (found, without([wheel]) + add)


@pytest.mark.parametrize("torch", [None, fake_torch(None)], ids=["no torch", "torch for the CPU"])
def test_a_torch_without_cuda_is_no_other_cuda(machine, torch):
    machine(torch=torch)
    assert doctor_engines.tensorrt().works


@pytest.mark.parametrize(("version", "works"), [("1.7.1", True), ("1.5.0", False), (None, False)])
def test_tensorrt_for_rtx_is_a_line_of_its_own(monkeypatch, version, works):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", version and SimpleNamespace(__name__="x", __version__=version))
    found, add = told(doctor_engines.tensorrt_rtx())
    assert (add is None) == works
    assert (found == "tensorrt-rtx is not installed") == (version is None)


def test_polygraphy_is_a_line_of_its_own(machine, monkeypatch):
    assert told(doctor_engines.polygraphy()) == ("polygraphy is not installed", "pip install polygraphy")
    assert doctor_engines.polygraphy().enables.endswith("building and running engines need none")
    assert doctor_engines.tensorrt().works
    monkeypatch.setattr(doctor_engines, "import_if_installed", {"polygraphy": object()}.get)
    monkeypatch.setattr(doctor_engines, "versions", lambda packages: dict.fromkeys(packages, "0.53.6"))
    assert told(doctor_engines.polygraphy()) == ("polygraphy 0.53.6", None)


def test_a_provider_works_where_a_session_on_it_does(monkeypatch):
    class Loads:
        def __init__(self, model, provider):
            assert isinstance(model, bytes)

        def close(self):
            pass

    monkeypatch.setattr(doctor, "OrtRunner", Loads)
    for check in (doctor._ort_cpu(), doctor._ort_cuda(), doctor._ort_tensorrt()):
        assert told(check) == (f"onnxruntime {onnxruntime.__version__}", None)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_can_not_be_loaded_is_told_with_its_reason(monkeypatch, provider):
    def fails(*_, **__):
        raise RuntimeError("CUDA failure 35: driver version is insufficient")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fails)
    monkeypatch.setattr("refine_export.runners.onnxruntime.ctypes.CDLL", lambda path: None)
    found, add = told(getattr(doctor, f"_ort_{provider}")())
    assert found.endswith("has it, but cannot load it: CUDA failure 35: driver version is insufficient")
    assert add.startswith("pip install 'onnxruntime-gpu[cuda,cudnn]'")
    assert ("'tensorrt-cu" in add) == add.endswith("with no other TensorRT") == (provider == "tensorrt")


def test_a_build_without_a_provider_is_told(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    found, add = told(doctor._ort_tensorrt())
    assert found == f"onnxruntime {onnxruntime.__version__} was built without it"
    assert add == "pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'"


def test_a_broken_onnxruntime_is_told(monkeypatch):
    def fails(model, provider):
        raise AttributeError("module has no attribute 'RunOptions'")

    monkeypatch.setattr(doctor, "OrtRunner", fails)
    found, add = told(doctor._ort_cpu())
    assert found.endswith("fails: module has no attribute 'RunOptions'")
    assert add == "pip install onnxruntime-gpu --force-reinstall"
    monkeypatch.setattr(doctor, "import_if_installed", lambda name: SimpleNamespace())
    assert "without a version fails: " in told(doctor._ort_tensorrt())[0]


def test_a_missing_onnxruntime_is_told(monkeypatch):
    monkeypatch.setattr(doctor, "import_if_installed", lambda name: None)
    for check in (doctor._ort_cpu(), doctor._ort_cuda(), doctor._ort_tensorrt()):
        assert told(check) == ("onnxruntime is not installed", "pip install onnxruntime-gpu")


def test_every_line_of_this_machine_is_one_sentence_with_what_to_add():
    """In a process of its own: nothing is printed beside it, whatever is missing here."""
    command = [sys.executable, "-c", "from refine_export.cli.main import main; main(['doctor', '--json'])"]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    checks = json.loads(completed.stdout)
    assert completed.stderr == ""
    assert [check["name"] for check in checks] == [
        "system",
        "torch",
        "ONNX Runtime, CPU",
        "GPU",
        "torch, CUDA",
        "ONNX Runtime, CUDA",
        "TensorRT",
        "TensorRT for RTX",
        "Polygraphy",
        "ONNX Runtime, TensorRT",
        "Triton client",
        "video",
    ]
    for check in checks:
        assert check["works"] == (check["add"] is None)
        assert "\n" not in check["found"]
