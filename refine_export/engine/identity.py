"""Identity of an engine: everything that it was built from and for, and how two of them differ.

TensorRT runs an engine on the version, kind of GPU and operating system that it was built on, unless it was built to be
compatible with more; otherwise it answers with a null pointer. TensorRT for RTX builds for several GPUs at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field, PositiveInt

from refine_export import __version__
from refine_export.engine.build_options import BuildOptions, Target
from refine_export.engine.machine import Machine, numbers_of, runs_on
from refine_export.runners.runtime_names import REQUIRED_NAMES
from refine_export.support.manifest import fingerprint as fingerprint_of_tool
from refine_export.support.text import size_text

Profile = Mapping[str, Annotated[Sequence[Sequence[PositiveInt]], Field(min_length=3, max_length=3)]]
"""Input -> its smallest, best and largest shape."""

NOT_IN_THE_ENGINE = ("target", "gpu", "time_limit_s", "memory_limit_mib", "timing_cache")
"""Options that leave the same engine behind, or that the key has in resolved form."""


@dataclass(frozen=True, kw_only=True)
class EngineKey:
    """Two equal keys mean that building again would change nothing; the driver's version is not part of it."""

    library: Target
    tensorrt: str
    """Full version of the library."""
    gpu: str
    """Its name, such as `NVIDIA H200`."""
    compute_capability: str
    """Such as `9.0`; of an rtx engine `sm86, sm89` or `Ampere and newer`."""
    system: str
    """Such as `Linux`."""
    architecture: str
    """Such as `x86_64`."""
    cuda: int | None
    """Major version."""
    onnx_sha256: str
    """SHA-256 of the file and its external data."""
    profiles: tuple[Profile, ...]
    """Empty for a file of fixed sizes."""
    options: Mapping[str, Any]
    """`BuildOptions` by name, without `NOT_IN_THE_ENGINE`; its `fallback` is the one that was asked for."""
    fallback: str
    """The fallback that the engine has."""
    tool: str
    """This package, by version and source: an engine that an older check let through is built again."""

    def described(self) -> dict[str, Any]:
        """Return the key as the JSON of a manifest holds it."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content

    def fingerprint(self) -> str:
        """Return the SHA-256 of the key."""
        return hashlib.sha256(json.dumps(self.described(), sort_keys=True).encode()).hexdigest()


def engine_key(
    machine: Machine, *, onnx_sha256: str, profiles: Sequence[Profile], options: BuildOptions, fallback: str
) -> EngineKey:
    """Return the key of the engine that is built for `machine` from these."""
    return EngineKey(
        library=machine.library,
        tensorrt=machine.tensorrt,
        gpu=machine.gpu,
        compute_capability=machine.capability,
        system=machine.system,
        architecture=machine.architecture,
        cuda=machine.cuda,
        onnx_sha256=onnx_sha256,
        profiles=tuple(profiles),
        options={name: value for name, value in asdict(options).items() if name not in NOT_IN_THE_ENGINE},
        fallback=fallback,
        tool=f"refine-export {__version__} {fingerprint_of_tool()[:12]}",
    )


def differences(old: EngineKey, new: EngineKey) -> list[str]:
    """List what makes `new` another engine, field by field: `optimization_level: was 3, is 5`."""
    before, after = dict(_flat(old.described())), dict(_flat(new.described()))
    return [
        f"{name}: was {_text(before, name)}, is {_text(after, name)}"
        for name in dict.fromkeys((*after, *before))
        if name not in before or name not in after or before[name] != after[name]
    ]


def describe_mismatch(key: EngineKey, machine: Machine) -> str | None:
    """Say in one phrase why this machine cannot run an engine; None where it can.

    `version_compatible` engines run on newer TensorRT, `ampere_plus` ones on every GPU from 8.0 on, and
    `same_compute_capability` ones on each of the same number; all others on the very version and kind of GPU. The CUDA
    version is not a reason: TensorRT brings its own.
    """
    capability, here = key.compute_capability, machine.compute_capability or (0, 0)
    system = f"{key.system} {key.architecture}"
    if key.library == "rtx":
        fits = runs_on(capability, here)
        same_system = key.architecture == machine.architecture
    else:
        fits = {
            "ampere_plus": here >= (8, 0),
            "same_compute_capability": capability == machine.capability,
        }.get(
            str(key.options.get("hardware_compatibility")), (key.gpu, capability) == (machine.gpu, machine.capability)
        )
        same_system = system == f"{machine.system} {machine.architecture}"
    if key.library == machine.library and runs_in(key, machine.tensorrt) and fits and same_system:
        return None
    under = ("", "") if same_system else (f" under {system}", f" under {machine.system} {machine.architecture}")
    return (
        f"built for {described_machine(key)}{under[0]}, this is {REQUIRED_NAMES[machine.library]} {machine.tensorrt} "
        f"on {_short(machine.gpu)} ({machine.capability}){under[1]}"
    )


def runs_in(key: EngineKey, version: str) -> bool:
    """Return whether an engine runs in a version of its library: its own, or a newer one where it is compatible."""
    newer = bool(key.options.get("version_compatible")) and numbers_of(key.tensorrt) <= numbers_of(version)
    return newer or key.tensorrt == version


def described_machine(key: EngineKey) -> str:
    """Return `TensorRT 11.4.0 on H200 (9.0)`."""
    return f"{REQUIRED_NAMES[key.library]} {key.tensorrt} on {_short(key.gpu)} ({key.compute_capability})"


def _short(gpu: str) -> str:
    return gpu.removeprefix("NVIDIA ")


def _flat(described: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in described.items():
        if name == "options":
            for option, setting in value.items():
                yield "fallback asked for" if option == "fallback" else str(option), setting
        elif name == "profiles":
            for index, profile in enumerate(value):
                yield from ((f"profile {index} of {tensor}", shapes) for tensor, shapes in profile.items())
        else:
            yield name, value


def _text(fields: Mapping[str, Any], name: str) -> str:
    if name not in fields:
        return "not there"
    value = fields[name]
    if name.startswith("profile "):
        return " / ".join(size_text(shape) for shape in value)
    return "not set" if value is None else str(value)
