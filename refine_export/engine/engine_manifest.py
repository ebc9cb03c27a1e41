"""The manifest beside a plan as it is read: anyone may have written it, so it is typed, bounded in size and sealed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from refine_export.errors import GraphError
from refine_export.support.manifest import Manifest, manifest_path

KIND = "engine"
"""`Manifest.kind` of a plan."""
SEAL = "seal"
"""Where `Manifest.details` has the SHA-256 of all the rest of the manifest."""
LARGEST_BYTES = 16 * 2**20
"""Of a manifest; those of builds have some kilobytes."""


@dataclass(frozen=True, kw_only=True)
class _Key:
    """`EngineKey.described`, which is printed: one line each."""

    tensorrt: str
    gpu: str
    compute_capability: str
    system: str
    architecture: str
    cuda: int
    onnx_sha256: str
    profiles: list[dict[str, list[list[int]]]]
    options: dict[str, str | int | bool | None]
    rung: str
    tool: str

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, str) and not value.isprintable():
                raise ValueError(f"{name} has control characters")


@dataclass(frozen=True, kw_only=True)
class _Repair:
    layer: str
    attribute: str
    found: str
    set: str


@dataclass(frozen=True, kw_only=True)
class _Guard:
    layers: int
    repairs: list[_Repair]


@dataclass(frozen=True, kw_only=True)
class _Canary:
    passed: bool | None
    words: str


@dataclass(frozen=True, kw_only=True)
class _Numbers:
    max_abs: float | None
    psnr_db: float | None


@dataclass(frozen=True, kw_only=True)
class _Limits:
    max_abs: float
    psnr_db: float


@dataclass(frozen=True, kw_only=True)
class _Tried:
    rung: str
    status: Literal["passed", "failed", "not built", "not run"]
    numbers: list[_Numbers]
    limits: _Limits | None
    reason: str | None

    def __post_init__(self) -> None:
        if self.limits is not None and not self.numbers:
            raise ValueError("limits without numbers")


@dataclass(frozen=True, kw_only=True)
class _Precision:
    proven: bool
    convolutions: dict[str, int]
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class _Onnx:
    file: str
    sha256: str
    types: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class _Refitted:
    plan_sha256: str


@dataclass(frozen=True, kw_only=True)
class _Details:
    """Of `Manifest.details` what is read again; `artifact_from_plan` checks the artifact."""

    key: _Key
    seal: str
    artifact: dict[str, Any] | None = None
    onnx: _Onnx | None = None
    guard: _Guard | None = None
    unfused: list[str] | None = None
    canary: _Canary | None = None
    precision: _Precision | None = None
    ladder: list[_Tried] | None = None
    notes: list[str] | None = None
    refitted: _Refitted | None = None


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    artifact: str
    kind: str
    sha256: str
    size_bytes: int
    inputs: dict[str, Any]
    options: dict[str, Any]
    versions: dict[str, str]
    signature: dict[str, Any]
    fingerprint: str
    seconds: float
    details: _Details
    schema: int


def sealed(manifest: Manifest) -> Manifest:
    """With the seal, by which an altered one is known; it is no signature, and who forges can make one."""
    return dataclasses.replace(manifest, details={**manifest.details, SEAL: _seal(dataclasses.asdict(manifest))})


def read_engine_manifest(plan: Path) -> Manifest:
    """The manifest beside a plan: of an engine's types throughout, and as it was written.

    Raises:
        GraphError: it is missing, can't be read, is too large, damaged, no engine's, or was altered.
    """
    from pydantic import TypeAdapter, ValidationError

    path = manifest_path(plan)
    expected = f"expected the manifest that the build wrote beside {plan.name}"
    build = f"build it again: refine-export build FILE.onnx -o {plan.name}"
    try:
        if path.exists() and not path.is_file():
            raise GraphError(f"{path} is no regular file; {expected}: copy it there, or {build}")
        if path.stat().st_size > LARGEST_BYTES:
            raise ValueError(f"it has {path.stat().st_size} bytes, {LARGEST_BYTES} are the most")
        text = path.read_text(encoding="utf-8")
        content = json.loads(text, parse_constant=_refuse)
        if isinstance(content, dict) and content.get("kind", KIND) != KIND:
            raise GraphError(f"{path} is of kind {content['kind']!r}; expected an engine's: copy it there, or {build}")
        TypeAdapter(_Manifest).validate_json(text, strict=True)
        json.dumps(content, allow_nan=False)  # 1e999 is an infinity too
    except FileNotFoundError as error:
        raise GraphError(f"{path} is missing; {expected}: copy it there, or {build}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:80]
        raise GraphError(f"{path} is damaged ({where or 'all'}: {first['msg']}); {expected}: copy it again") from error
    except OSError as error:
        raise GraphError(f"can't read {path}: {error.strerror}; {expected}: check its permissions") from error
    except (ValueError, RecursionError) as error:
        raise GraphError(f"{path} is damaged ({error}); {expected}: copy it again") from error
    if content["details"][SEAL] != _seal(content):
        raise GraphError(f"{path} was altered: its seal is another; {expected}: copy it again, or {build}")
    return Manifest(**{field.name: content[field.name] for field in dataclasses.fields(Manifest)})


def _seal(content: Mapping[str, Any]) -> str:
    details = {name: value for name, value in content["details"].items() if name != SEAL}
    text = json.dumps({**content, "details": details}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")
