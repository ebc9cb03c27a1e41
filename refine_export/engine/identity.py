"""The identity of an engine: all that it was built from and for, and how two of them differ.

TensorRT runs a plan on the version, kind of GPU and operating system that it was built on, unless it was built to be
compatible with more; what it says otherwise is a null pointer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from refine_export import __version__
from refine_export.engine.machine import Machine as Machine
from refine_export.engine.machine import numbers_of
from refine_export.engine.machine import this_machine as this_machine
from refine_export.support.manifest import fingerprint as fingerprint_of_tool
from refine_export.support.text import size_text

if TYPE_CHECKING:
    from refine_export.engine.build_options import BuildOptions

Profile = Mapping[str, Sequence[Sequence[int]]]
"""Input -> its smallest, best and largest shape."""

NOT_IN_THE_ENGINE = ("time_limit_s", "memory_limit_mib", "timing_cache")
"""Options of a build that leave the same engine behind."""
_NOT_RECORDED = "not recorded"


@dataclass(frozen=True, kw_only=True)
class EngineKey:
    """Two equal keys mean that building again would change nothing; a driver's version is no part of it."""

    tensorrt: str
    """The full version."""
    gpu: str
    """Its name, such as `NVIDIA H200`."""
    compute_capability: str
    """Such as `9.0`."""
    system: str
    """Such as `Linux`."""
    architecture: str
    """Such as `x86_64`."""
    cuda: int
    """Major version."""
    onnx_sha256: str
    """Of the file; where it has external data, of the file and of those (`graph.load.sha256_of_model`)."""
    profiles: tuple[Profile, ...]
    """None for a file of fixed sizes."""
    options: Mapping[str, Any]
    """`BuildOptions` by name, without `NOT_IN_THE_ENGINE`; its `rung` is the one that was asked for."""
    rung: str
    """The lowering that the engine has."""
    tool: str
    """This package, by version and source: a changed guard or proof is no old one."""

    def described(self) -> dict[str, Any]:
        """The key as the JSON of a manifest holds it."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))
        return content

    def fingerprint(self) -> str:
        """SHA-256 of the key; the order of names does not matter."""
        return fingerprint_of_key(self.described())


def engine_key(
    machine: Machine, *, onnx_sha256: str, profiles: Sequence[Profile], options: BuildOptions, rung: str
) -> EngineKey:
    """The key of the engine that `machine` builds, or has built, from these."""
    return EngineKey(
        tensorrt=machine.tensorrt,
        gpu=machine.gpu,
        compute_capability=machine.capability,
        system=machine.system,
        architecture=machine.architecture,
        cuda=machine.cuda,
        onnx_sha256=onnx_sha256,
        profiles=tuple(profiles),
        options={name: value for name, value in asdict(options).items() if name not in NOT_IN_THE_ENGINE},
        rung=rung,
        tool=f"refine-export {__version__} {fingerprint_of_tool()[:12]}",
    )


def fingerprint_of_key(described: Mapping[str, Any]) -> str:
    """SHA-256 of a key as a manifest holds it; for a key that was not altered, that of the manifest."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def differences(old: Mapping[str, Any], new: EngineKey) -> list[str]:
    """What makes `new` another engine, field by field: `optimization_level: was 3, is 5`.

    Args:
        old: `EngineKey.described`, as read from a manifest; fields may be missing.
        new: what is asked for.

    Returns:
        One line per field that differs, in the order of the fields; none where the keys are equal.
    """
    before, after = dict(_flat(old)), dict(_flat(new.described()))
    return [
        f"{name}: was {_words(before, name)}, is {_words(after, name)}"
        for name in (*after, *(name for name in before if name not in after))
        if name not in before or name not in after or before[name] != after[name]
    ]


def describe_mismatch(old: Mapping[str, Any], machine: Machine) -> str | None:
    """Why this machine can't run an engine, in one phrase; None where it can.

    `version_compatible` engines run on newer TensorRT, `ampere_plus` ones on every GPU from 8.0 on, and
    `same_compute_capability` ones on each of the same number; all others on the very version and kind of GPU. Where
    system or processor differ, they are named behind the GPU. The CUDA version is no reason: TensorRT brings its own.

    Args:
        old: `EngineKey.described` of the engine, as read from its manifest.
        machine: this one.
    """
    options = old.get("options")
    options = options if isinstance(options, Mapping) else {}
    version, here = numbers_of(str(old.get("tensorrt"))), numbers_of(machine.tensorrt)
    newer = options.get("version_compatible") is True and () < version <= here
    same_version = newer or old.get("tensorrt") == machine.tensorrt
    gpu, capability = str(old.get("gpu", _NOT_RECORDED)), str(old.get("compute_capability", _NOT_RECORDED))
    fits = {
        "ampere_plus": machine.compute_capability >= (8, 0),
        "same_compute_capability": capability == machine.capability,
    }.get(str(options.get("hardware_compatibility")), (gpu, capability) == (machine.gpu, machine.capability))
    there = f"{old.get('system', _NOT_RECORDED)} {old.get('architecture', _NOT_RECORDED)}"
    same_system = there == f"{machine.system} {machine.architecture}"
    if same_version and fits and same_system:
        return None
    under = ("", "") if same_system else (f" under {there}", f" under {machine.system} {machine.architecture}")
    return (
        f"built for TensorRT {old.get('tensorrt', _NOT_RECORDED)} on {_short(gpu)} ({capability}){under[0]}, "
        f"this is {machine.tensorrt} on {_short(machine.gpu)} ({machine.capability}){under[1]}"
    )


def described_machine(described: Mapping[str, Any]) -> str:
    """`TensorRT 11.4.0 on H200 (9.0)`, of a key as a manifest has it."""
    names = ("tensorrt", "gpu", "compute_capability")
    version, gpu, capability = (str(described.get(name, _NOT_RECORDED)) for name in names)
    return f"TensorRT {version} on {_short(gpu)} ({capability})"


def _short(gpu: str) -> str:
    return gpu.removeprefix("NVIDIA ")


def _flat(described: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in described.items():
        if name == "options" and isinstance(value, Mapping):
            for option, setting in value.items():
                yield "rung asked for" if option == "rung" else str(option), setting
        elif name == "profiles" and isinstance(value, Sequence) and all(isinstance(one, Mapping) for one in value):
            for index, profile in enumerate(value):
                yield from ((f"profile {index} of {tensor}", shapes) for tensor, shapes in profile.items())
        else:
            yield name, value


def _words(fields: Mapping[str, Any], name: str) -> str:
    if name not in fields:
        return "not there"
    value = fields[name]
    if name.startswith("profile ") and isinstance(value, list) and all(isinstance(shape, list) for shape in value):
        return " / ".join(size_text(shape) for shape in value)
    return "not set" if value is None else str(value)
