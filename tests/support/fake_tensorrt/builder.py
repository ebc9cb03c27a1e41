"""Builder, its configuration, and what a build refuses."""

# ruff: noqa: A002 (the argument names are the bindings')

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any, ClassVar

from .behaviour import Behaviour
from .callbacks import ILogger, IProgressMonitor, say, tell
from .network import INetworkDefinition
from .plan import payload_from_network, plan_from_payload
from .values import (
    Dims,
    HardwareCompatibilityLevel,
    IHostMemory,
    MemoryPoolType,
    ProfilingVerbosity,
    Shape,
    TilingOptimizationLevel,
    checked,
    sizes,
)


class IOptimizationProfile:
    __slots__ = ("_shapes",)

    def __init__(self) -> None:
        self._shapes: dict[str, tuple[Shape, Shape, Shape]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        low, best, high = sizes(min), sizes(opt), sizes(max)
        for kind, lower, upper in (("opt", low, best), ("max", best, high)):
            if len(lower) != len(upper) or any(a > b for a, b in zip(lower, upper, strict=True)):
                raise RuntimeError(f"Shape provided for {kind} is inconsistent with other shapes.")
        self._shapes[input] = low, best, high

    def get_shape(self, input: str) -> list[Dims]:
        return [Dims(shape) for shape in self._shapes.get(input, ())]

    def __bool__(self) -> bool:
        return True


class ITimingCache:
    __slots__ = ("_entries", "_origin")

    def __init__(self, origin: str, entries: dict[str, float]) -> None:
        self._origin, self._entries = origin, entries

    def serialize(self) -> IHostMemory:
        return IHostMemory(b"ftcache:" + json.dumps({"origin": self._origin, "entries": self._entries}).encode())


class IBuilderConfig:
    __slots__ = (
        "_cache",
        "_fake",
        "_logger",
        "_pools",
        "_profiles",
        "builder_optimization_level",
        "flags",
        "hardware_compatibility_level",
        "max_aux_streams",
        "profiling_verbosity",
        "progress_monitor",
        "tiling_optimization_level",
    )

    def __init__(self, fake: Behaviour, logger: ILogger) -> None:
        self._fake, self._logger = fake, logger
        self.flags: int = 1 << int(self._fake.module.BuilderFlag.TF32)
        self.builder_optimization_level: int = 3
        self.max_aux_streams: int = 4
        self.hardware_compatibility_level: Any = HardwareCompatibilityLevel.NONE
        self.profiling_verbosity: Any = ProfilingVerbosity.LAYER_NAMES_ONLY
        self.tiling_optimization_level: Any = TilingOptimizationLevel.NONE
        self.progress_monitor: IProgressMonitor | None = None
        self._pools: dict[str, int] = {}
        self._profiles: list[IOptimizationProfile] = []
        self._cache: ITimingCache | None = None

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._profiles)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._pools[checked(MemoryPoolType, pool).name] = pool_size

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self._pools.get(checked(MemoryPoolType, pool).name, 1 << 40)

    def set_flag(self, flag: Any) -> None:
        self.flags |= 1 << int(checked(self._fake.module.BuilderFlag, flag))

    def clear_flag(self, flag: Any) -> None:
        self.flags &= ~(1 << int(checked(self._fake.module.BuilderFlag, flag)))

    def get_flag(self, flag: Any) -> bool:
        return bool(self.flags >> int(checked(self._fake.module.BuilderFlag, flag)) & 1)

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        if self._fake.fails("add_optimization_profile", self._logger):
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: Any) -> ITimingCache | None:
        blob = bytes(memoryview(serialized_timing_cache))
        if self._fake.fails("create_timing_cache", self._logger):
            return None
        try:
            known = json.loads(blob.removeprefix(b"ftcache:")) if blob else {}
            return ITimingCache(known["origin"], known["entries"]) if blob else ITimingCache(self._origin, {})
        except (ValueError, KeyError, TypeError):
            say(self._logger, "ERROR", "createTimingCache: Error Code 1: Serialization (the timing cache is damaged)")
            return None

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if self._fake.fails("set_timing_cache", self._logger):
            return False
        if cache._origin != self._origin and not ignore_mismatch:
            say(self._logger, "ERROR", f"setTimingCache: the cache is of {cache._origin}, this is {self._origin}")
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache

    @property
    def _origin(self) -> str:
        return f"{self._fake.version} {self._fake.compute_capability}"

    def _has(self, flag: str) -> bool:
        member = self._fake.module.BuilderFlag.__members__.get(flag)
        return member is not None and self.get_flag(member)


class Root:
    """What a process makes first, and what fails first without a GPU."""

    __slots__ = ("_logger",)
    _fake: ClassVar[Behaviour]

    def __init__(self, logger: ILogger) -> None:
        self._logger: ILogger = checked(ILogger, logger)
        if not self._fake.gpu:
            say(logger, "ERROR", "CUDA initialization failure with error: 35. Is a GPU there, and its driver?")
            raise TypeError("pybind11::init(): factory function returned nullptr")


class Builder(Root):
    __slots__ = ()

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        if self._fake.fails("create_network", self._logger):
            return None  # type: ignore[return-value]
        return INetworkDefinition(self._fake, self._logger, int(checked(int, flags)))

    def create_builder_config(self) -> IBuilderConfig:
        if self._fake.fails("create_builder_config", self._logger):
            return None  # type: ignore[return-value]
        return IBuilderConfig(self._fake, self._logger)

    def create_optimization_profile(self) -> IOptimizationProfile:
        if self._fake.fails("create_optimization_profile", self._logger):
            return None  # type: ignore[return-value]
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
        for severity, text in self._fake.build_log:
            say(self._logger, severity, text)
        if self._fake.fails("build_serialized_network", self._logger):
            return None
        refusals = list(_refusals(network, config))
        for refusal in refusals:
            say(self._logger, "ERROR", f"IBuilder::buildSerializedNetwork: {refusal}")
        if refusals or not self._work(config):
            return None
        return IHostMemory(plan_from_payload(self._fake.numbers, payload_from_network(network, config)))

    def _work(self, config: IBuilderConfig) -> bool:
        monitor, steps = config.progress_monitor, 3
        outer, inner = "Building engine", "Selecting tactics"
        tell(monitor, "phase_start", outer, None, 1)
        tell(monitor, "phase_start", inner, outer, steps)
        goes_on = True
        for step in range(steps):
            if step == self._fake.dies_at_step:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(self._fake.build_seconds / steps)
            goes_on = tell(monitor, "step_complete", inner, step)
            if not goes_on:
                say(self._logger, "ERROR", "IBuilder::buildSerializedNetwork: the build was cancelled")
                break
        tell(monitor, "phase_finish", inner)
        tell(monitor, "phase_finish", outer)
        return goes_on


def _refusals(network: INetworkDefinition, config: IBuilderConfig) -> Iterator[str]:
    """Yield why TensorRT would refuse this build."""
    for name in network._inputs:
        shape = network._tensors[name].shape
        if -1 in shape and not any(name in profile._shapes for profile in config._profiles):
            yield f"Error Code 4: API Usage Error (Network has dynamic inputs, but no profile has been defined: {name})"
        for profile in config._profiles:
            for wanted in profile._shapes.get(name, ()):
                if len(wanted) != len(shape) or any(a not in (-1, b) for a, b in zip(shape, wanted, strict=True)):
                    yield f"Error Code 4: API Usage Error (input {name} is {shape}, its profile has {wanted})"
    for node in network._nodes:
        if node.layer == "GRID_SAMPLE":
            types = [network._tensors[name].dtype for name in node.inputs]
            if len(set(types)) > 1:
                yield f"Error Code 4: API Usage Error ({node.name}: IGridSampleLayer input and grid are {types})"
