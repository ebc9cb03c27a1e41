"""Clocks, temperature and power by NVML."""

import torch

from refine_export.bench import gpu_state as module
from refine_export.bench.gpu_state import GpuState, gpu_state
from refine_export.errors import UnavailableError
from tests.support.refusals import refused


def test_torch_asks_nvml_for_the_device(monkeypatch):
    for name, value in {"clock_rate": 1980, "temperature": 61, "power_draw": 412_500}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: {"cuda:1": value}[device])
    assert gpu_state("cuda:1") == GpuState(clock_mhz=1980, temperature_c=61, power_w=412.5)


def test_without_nvml_or_torch_nothing_is_zero(monkeypatch):
    def lacking(device):
        raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed")

    monkeypatch.setattr(torch.cuda, "clock_rate", lacking)
    with refused("no-nvml", UnavailableError):
        gpu_state("cuda:0")
    monkeypatch.setattr(module, "import_if_installed", lambda name: None)
    with refused("no-nvml", UnavailableError):
        gpu_state("cuda:0")
