"""Engine files without a TensorRT library: header, manifest, and whether this machine can run one.

The manifest beside `m.plan` is `m.plan.json`. An engine is code that runs on the GPU (a version-compatible one on the
host as well), so that a file without a manifest of this tool is an unknown engine, which is not run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import pydantic

from refine_export.artifacts import Artifact, artifact_from_file
from refine_export.engine.bindings import MODULES, Library, load_library
from refine_export.engine.build_options import BuildOptions, Target
from refine_export.engine.fallbacks import Tried
from refine_export.engine.grid_sample_check import GridSampleReport
from refine_export.engine.identity import EngineKey, describe_mismatch, described_machine, runs_in
from refine_export.engine.inspector import Precision
from refine_export.engine.machine import Machine, current_gpu, runs_on
from refine_export.engine.network_types import TypeReport
from refine_export.errors import EngineError, RequestError, UnavailableError
from refine_export.graph.model_file import ENGINE_TAGS
from refine_export.runners.runtime_names import REQUIRED_NAMES
from refine_export.signature import SIGNATURES
from refine_export.support.manifest import Manifest, manifest_path, read_manifest
from refine_export.support.text import size_text

KIND: Final = "engine"
"""`Manifest.kind` of an engine."""
HEADER_BYTES: Final = 28
SUFFIXES: Final = (".plan", ".rtx")
_MAGIC: Final[Mapping[bytes, Target]] = dict(zip(ENGINE_TAGS, ("trt", "rtx"), strict=True))


@dataclass(frozen=True, kw_only=True)
class EngineDetails:
    """Contents of `Manifest.details` of an engine."""

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = {"extra": "forbid"}  # of the classes in it as well
    key: EngineKey
    artifact: Artifact | None
    """The file that it was built from, if that is one of our graphs."""
    onnx: Mapping[str, str]
    """Name (`file`) and `sha256` of that file."""
    samplers: GridSampleReport
    unfused: tuple[str, ...]
    """Tensors that were kept from fusing."""
    inferred: TypeReport
    probed: bool
    """The sampler probe was run, and passed."""
    precision: Precision | None
    """None where the engine could not be loaded where it was built."""
    memory: Mapping[str, int]
    """scratch_bytes, activation_bytes and weight_bytes, as far as TensorRT logs them."""
    fallbacks: tuple[Tried, ...]
    """Every fallback that was tried, in order; the last is the one that was kept."""
    proven: str
    """Extent of the proof, such as `built and type-checked by TensorRT 11.4.0; compared with torch`."""
    driver: str | None = None
    notes: tuple[str, ...]
    refitted: Mapping[str, str] | None = None
    """`plan_sha256` and `source_sha256` of what was refitted."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """Contents of an engine's first 28 bytes."""

    library: Target
    version: tuple[int, ...] | None
    """Version of the library that built it: four numbers; None in a header of an unknown form."""

    @property
    def text(self) -> str:
        """The version, such as `10.16.1.11`."""
        return ".".join(str(number) for number in self.version) if self.version else "not known"


def engine_header(content: bytes, path: Path) -> Header:
    """Read what an engine begins with: a tag, the form of the header, and for form 0 the version in bytes 24 to 27.

    As `trtexec --getPlanVersionOnly` reads it in samples/common/sampleEngines.cpp of TensorRT 10.14; engines of
    TensorRT for RTX 1.7 differ only in the tag.

    Args:
        content: the file, or its first 28 bytes.
        path: for messages.

    Raises:
        EngineError: `not-an-engine` or `truncated`.
    """
    library = _MAGIC.get(content[:4])
    if library is None:
        problem = (
            f"is not a TensorRT engine: it begins with {content[:4].hex(' ') or 'nothing'}, expected "
            f"{' or '.join(tag.hex(' ') for tag in _MAGIC)}{_hint(content)}"
        )
        raise EngineError.about(path, "not-an-engine", problem)
    if len(content) < HEADER_BYTES:
        problem = f"is truncated: {len(content)} bytes, expected a header of {HEADER_BYTES} and the engine; "
        raise EngineError.about(path, "truncated", problem + _build_again(path))
    form, *version = struct.unpack_from("<4xI16x4B", content)
    return Header(library=library, version=tuple(version) if form == 0 else None)


def seems_engine(path: Path) -> bool:
    """Return whether a file is an engine by its first four bytes."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in _MAGIC


def meant_as_engine(path: Path) -> bool:
    """Return whether a file is an engine by its first bytes, or by its name, so that errors on it speak of engines."""
    return path.suffix.lower() in SUFFIXES or seems_engine(path)


def engine_bytes(path: Path) -> bytes:
    """Read an engine, its manifest left aside.

    Raises:
        EngineError: `unreadable`, `not-an-engine` or `truncated`.
    """
    try:
        if path.exists() and not path.is_file():
            raise EngineError.about(path, "unreadable", "is not a file; give the path of an engine")
        content = path.read_bytes()
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}; expected a TensorRT engine: check the path"
        raise EngineError(message, code="unreadable", path=path) from error
    engine_header(content, path)
    return content


def read_engine_manifest(engine: Path) -> Manifest:
    """Read the manifest beside an engine.

    Raises:
        EngineError: `unknown-engine`; it is missing, damaged, or not that of an engine.
    """
    try:
        manifest = read_manifest(engine)
    except RequestError as error:
        problem = str(error).partition("; ")[0]  # without its advice, which is this error's too
        raise _unknown(engine, f"no manifest ({problem})") from error
    if manifest.kind != KIND:
        raise _unknown(engine, f"no manifest ({manifest_path(engine).name} is of kind {manifest.kind!r})")
    try:
        engine_details(manifest.details)
    except pydantic.ValidationError as error:
        [first, *_] = error.errors(include_url=False)
        where = ".".join(map(str, ("details", *first["loc"])))
        problem = f"no manifest that can be read ({where} of {manifest_path(engine).name}: {first['msg']})"
        raise _unknown(engine, problem) from error
    return manifest


def engine_details(details: Mapping[str, Any]) -> EngineDetails:
    """Return `Manifest.details` of an engine from their JSON, which `read_engine_manifest` has checked."""
    return pydantic.TypeAdapter(EngineDetails).validate_python(details)


def options_of(manifest: Manifest) -> BuildOptions:
    """Return the options that an engine was built with.

    Raises:
        EngineError: `unknown-engine`; they are not options of a build.
    """
    try:
        named = BuildOptions(**{**manifest.options, "gpu": tuple(manifest.options["gpu"])})
        return pydantic.TypeAdapter(BuildOptions).validate_python(dataclasses.asdict(named))
    except (KeyError, TypeError, ValueError) as error:
        problem = f"no manifest that can be read (its options: {' '.join(str(error).split())[:300]})"
        raise _unknown(Path(manifest.artifact), problem) from error


def why_not_executable(manifest: Manifest) -> str | None:
    """Return why this machine cannot run an engine for RTX GPUs, after what its build has proven.

    Without such a GPU that is expected, and not a fault of the engine; None for engines that are to be run here.
    """
    details = engine_details(manifest.details)
    if details.key.library != "rtx":
        return None
    try:
        if runs_on(details.key.compute_capability, current_gpu()[1]):
            return None
    except UnavailableError:
        pass
    proven = details.proven
    return proven if proven.endswith("no RTX GPU") else f"{proven} where it was built; not executed here: no RTX GPU"


def check_version(path: Path) -> None:
    """Refuse an engine that the TensorRT library on this machine cannot run: of the other one, or another version.

    This needs no GPU. Where no library is installed nothing is refused: whoever is to run the engine asks for one.

    Raises:
        EngineError: `unknown-engine` or `wrong-machine`.
    """
    if mismatch := _mismatch(path, engine_details(read_engine_manifest(path).details).key):
        raise EngineError(mismatch, code="wrong-machine", path=path)


def _mismatch(path: Path, built: Header | EngineKey) -> str | None:
    """Say why no library on this machine runs an engine, by its manifest's key or, without a manifest, its header."""
    library = _installed_library(built.library)
    if library is None:
        return None
    needed = REQUIRED_NAMES[built.library]
    if isinstance(built, EngineKey):
        fits, built_for = runs_in(built, library.version), described_machine(built)
    else:
        fits, built_for = built.text == library.version, f"{needed} {built.text}"
    if fits and library.name == built.library:
        return None
    advice = f"on this machine, {_build_again(path)}"
    if library.name != built.library:
        advice = f"run it where {needed} is installed, or build one for this machine: "
        advice += f"refine-export build FILE.onnx -o NAME.{'rtx --target rtx' if library.name == 'rtx' else 'plan'}"
    return f"{path} is built for {built_for}, this machine has {library.title} ({library.version}); {advice}"


def _installed_library(target: Target) -> Library | None:
    """Find the library of an engine, or else the other one; None where neither can be used."""
    for name in (target, *(other for other in MODULES if other != target)):
        with suppress(UnavailableError):
            return load_library(name)
    return None


def check_engine(path: Path, content: bytes, machine: Machine) -> Manifest:
    """Return the manifest of an engine whose bytes are known, if this machine can run it.

    Raises:
        EngineError: `unknown-engine`, `truncated`, or `wrong-machine`: it was built for another library, version, GPU
            or operating system.
    """
    manifest = manifest_of(path, content)
    if mismatch := describe_mismatch(engine_details(manifest.details).key, machine):
        raise EngineError(f"{path}: {mismatch}; on this machine, {_build_again(path)}", code="wrong-machine", path=path)
    return manifest


def manifest_of(path: Path, content: bytes) -> Manifest:
    """Read the manifest of an engine whose bytes are known, and check that it is theirs.

    Raises:
        EngineError: `unknown-engine`, or `truncated`.
    """
    manifest = read_engine_manifest(path)
    if manifest.sha256 != hashlib.sha256(content).hexdigest():
        if len(content) < manifest.size_bytes:
            problem = f"is truncated: {len(content)} bytes, its manifest has {manifest.size_bytes}; copy it again"
            raise EngineError.about(path, "truncated", problem)
        raise _unknown(path, f"no manifest of its own ({manifest_path(path).name} is that of another file)")
    return manifest


def engine_description(path: Path) -> dict[str, Any]:
    """Describe an engine for `inspect`, on any machine; what is wrong with the manifest is shown, and not an error.

    Returns:
        JSON: file, sha256, size_bytes, library and tensorrt (its name and version, from the header), mismatch (why the
        library on this machine does not run it, or null), manifest (`whole`, or what is wrong), and of a whole one:
        key, inputs, versions, signature, seconds, details.

    Raises:
        EngineError: `unreadable`, `not-an-engine` or `truncated`.
    """
    content = engine_bytes(path)
    header = engine_header(content, path)
    found: dict[str, Any] = {
        "file": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "library": REQUIRED_NAMES[header.library],
        "tensorrt": header.text,
    }
    try:
        manifest = manifest_of(path, content)
    except EngineError as error:
        return {**found, "mismatch": _mismatch(path, header) if header.version else None, "manifest": str(error)}
    details = dict(manifest.details)
    key = details.pop("key")
    return {
        **found,
        "mismatch": _mismatch(path, engine_details(manifest.details).key),
        "manifest": "whole",
        "key": key,
        "inputs": manifest.inputs,
        "versions": manifest.versions,
        "signature": manifest.signature,
        "seconds": manifest.seconds,
        "details": details,
    }


def artifact_from_path(path: Path) -> Artifact:
    """Recognise an ONNX file or an engine.

    Raises:
        EngineError: an engine, and not one of the graphs; see `artifact_from_engine`.
        GraphError: it is neither, or not one of the four graphs.
    """
    return artifact_from_engine(path) if meant_as_engine(path) else artifact_from_file(path)


def artifact_from_engine(path: Path) -> Artifact:
    """Read what an engine is from its manifest; this needs neither a TensorRT library nor a GPU.

    Raises:
        EngineError: as `engine_bytes` and `manifest_of`; or `unknown-graph`: the engine is not one of ours.
    """
    manifest = manifest_of(path, engine_bytes(path))
    details = engine_details(manifest.details)
    key, made = details.key, details.artifact
    if made is None:
        problem = f"is not one of the graphs {', '.join(SIGNATURES)}; expected an engine of one of them"
        raise EngineError.about(path, "unknown-graph", problem)
    artifact = dataclasses.replace(
        made,
        file=str(path),
        sha256=manifest.sha256,
        size_bytes=manifest.size_bytes,
        profile=None,
        engine=f"{described_machine(key)}, fallback {key.fallback}",
    )
    if not key.profiles:
        return artifact
    profile = key.profiles[0]
    try:
        image = artifact.signature.inputs[0].name if artifact.stacked is None else next(iter(profile))
        low, best, high = ((batch, height, width) for batch, _, height, width in profile[image])
    except (KeyError, StopIteration, ValueError) as error:
        raise _unknown(path, "no manifest that can be read (details.key.profiles lack the frames)") from error
    batch, height, width = (size if size == other else None for size, other in zip(low, high, strict=True))
    return dataclasses.replace(
        artifact,
        profile=(low, best, high),
        fixed=(batch, height, width),
        sizes=" to ".join(dict.fromkeys(size_text((one[0], artifact.stacked or 3, *one[1:])) for one in (low, high))),
    )


def _build_again(path: Path) -> str:
    target = " --target rtx" if path.suffix.lower() == ".rtx" else ""
    return f"build it again: refine-export build FILE.onnx -o {path.name}{target}"


def _unknown(path: Path, why: str) -> EngineError:
    problem = f"is an unknown engine: {why}; copy the manifest that the build wrote beside it, or "
    return EngineError.about(path, "unknown-engine", problem + _build_again(path))


def _hint(content: bytes) -> str:
    if content[:1] == b"\x08":
        return "; it seems to be ONNX: refine-export build makes an engine of it"
    length = int.from_bytes(content[:4], "little")
    if content[4 + length : 8 + length] in _MAGIC:
        return f"; an engine begins at byte {4 + length}, behind the header of another tool: cut that off"
    return "; check the path"
