"""Clocks, temperature and power of a GPU, by NVML."""

from __future__ import annotations

from dataclasses import dataclass

from refine_export.errors import UnavailableError
from refine_export.support.imports import import_if_installed


@dataclass(frozen=True, kw_only=True)
class GpuState:
    """State of a GPU at one time."""

    clock_mhz: int
    """Clock of the multiprocessors."""
    temperature_c: int
    power_w: float


def gpu_state(device: str) -> GpuState:
    """Read the state of a GPU; torch asks NVML for the device that it computes on.

    Args:
        device: as torch names it, such as `cuda:0`.

    Raises:
        UnavailableError: `no-nvml`; torch, nvidia-ml-py or the driver's NVML is missing.
    """
    torch = import_if_installed("torch")
    if torch is None:
        raise UnavailableError("torch, which reads NVML, is missing; pip install torch", code="no-nvml")
    try:
        return GpuState(
            clock_mhz=torch.cuda.clock_rate(device),
            temperature_c=torch.cuda.temperature(device),
            power_w=torch.cuda.power_draw(device) / 1000,
        )
    except Exception as error:  # pynvml's and torch's errors share no base class but this one
        raise UnavailableError(
            f"NVML gives no clocks ({error}); expected NVIDIA's driver and pip install nvidia-ml-py", code="no-nvml"
        ) from error
