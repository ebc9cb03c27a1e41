"""A model repository as it lies on a disk, read with care: anyone may have made it.

Whatever can't be read becomes a finding. Nothing outside the repository is opened, nothing that is no regular file, and
nothing beyond a size that its kind can have.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from refine_export.deploy.preflight.rules_text import Finding, finding
from refine_export.deploy.triton.names import CONFIG_FILE, ONNX_FILE, PLAN_FILE, PYTHON_FILE
from refine_export.errors import RequestError
from refine_export.support.imports import require

MODEL_FILES: Final[Mapping[str, str]] = {"onnxruntime": ONNX_FILE, "tensorrt": PLAN_FILE, "python": PYTHON_FILE}
"""Backend -> what Triton calls the file in each version, where the config names none."""
PLATFORMS: Final[Mapping[str, str]] = {
    "onnxruntime_onnx": "onnxruntime",
    "tensorrt_plan": "tensorrt",
    "ensemble": "ensemble",
}
TEXT_BYTES: Final = 2**20
"""Most that a config, a manifest of a repository or a model.py has."""
MODEL_BYTES: Final = 2**31
"""Most that a model file has: protobuf takes no larger ONNX file, and engines of these graphs have far less."""
_DEPTH: Final = 32
_LINE: Final = 300
_LIKE_A_VERSION = re.compile(r"[vV]?\d")


@dataclass(frozen=True, kw_only=True)
class Model:
    """A folder of the repository whose config could be read."""

    name: str
    folder: Path
    root: Path
    """The repository."""
    config: Any
    """`inference.ModelConfig`."""
    backend: str
    """onnxruntime, tensorrt, python, ensemble, another's name, or "" where neither config nor files say it."""
    versions: Mapping[int, Path]
    """Those that the version policy serves, in order."""

    @property
    def filename(self) -> str:
        """Of the model in each version."""
        return str(self.config.default_model_filename) or MODEL_FILES.get(self.backend, "")

    def found(self, rule: str, where: str, message: str) -> Finding:
        """A finding in this model."""
        return finding(rule, self.name, where, message)

    def where(self, path: Path) -> str:
        """A path as seen from the model's folder: `1/model.onnx`."""
        return path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else str(path)


def repository_folders(root: Path) -> list[Path]:
    """The folders of the models, by name; Triton takes hidden ones too.

    Raises:
        RequestError: there is no such folder, or it can't be listed.
    """
    if not root.is_dir():
        raise RequestError(f"{root} is no folder; expected a model repository: the folder with the models' folders")
    try:
        return sorted(entry for entry in root.iterdir() if entry.is_dir())
    except OSError as error:
        raise RequestError(f"can't list {root}: {error.strerror}; check its permissions") from error


def stray_entries(root: Path) -> Iterator[Finding]:
    """Links that lead out, folders that can't be listed or have no end, and files that are none."""
    inside, open_ = root.resolve(), [(root, 0)]
    while open_:
        folder, depth = open_.pop()
        model = _model_of(folder, root)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            yield finding("unreadable", model, _below(folder, root), f"can't list it: {error.strerror}")
            continue
        for entry in entries:
            path = folder / entry.name
            where, model = _below(path, root), _model_of(path, root)
            if entry.is_symlink():
                yield from _link(path, inside, model, where)
            elif entry.is_dir(follow_symlinks=False):
                if depth < _DEPTH:
                    open_.append((path, depth + 1))
                else:
                    yield finding("unreadable", model, where[:_LINE], f"folders are nested deeper than {_DEPTH}")
            elif not entry.is_file(follow_symlinks=False):
                yield finding("unreadable", model, where, "a pipe, a device or a socket")


def _link(path: Path, inside: Path, model: str, where: str) -> Iterator[Finding]:
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):  # a loop is a RuntimeError before Python 3.13
        yield finding("symlink", model, where, "the link leads nowhere")
        return
    if not target.is_relative_to(inside):
        yield finding("symlink", model, where, f"the link leads out of the repository, to {target}")


def _below(path: Path, root: Path) -> str:
    parts = path.relative_to(root).parts
    return Path(*parts[1:]).as_posix() if len(parts) > 1 else path.name if parts else "."


def _model_of(path: Path, root: Path) -> str:
    """The model's folder that a path is in; "" at the root."""
    parts = path.relative_to(root).parts
    return parts[0] if len(parts) > 1 or (parts and path.is_dir()) else ""


def unreadable(path: Path, root: Path, largest: int) -> str | None:
    """Why a file is not to be opened, in words; None where it can be read."""
    try:
        if not path.resolve().is_relative_to(root.resolve()):
            return "it is outside of the repository"
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            return "it is no regular file"
        if state.st_size > largest:
            return f"it has {state.st_size} bytes; expected {largest} at most"
        with path.open("rb"):
            return None
    except FileNotFoundError:
        return "it is missing"
    except (OSError, RuntimeError, ValueError) as error:
        return f"it can't be read: {getattr(error, 'strerror', None) or error}"


def text_of(path: Path, root: Path) -> tuple[str, str | None]:
    """The text of a file, and None; or "" and why there is none, in words."""
    if problem := unreadable(path, root, TEXT_BYTES):
        return "", problem
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        return "", f"it is no text: byte {error.start} is no UTF-8"
    return (text, None) if "\0" not in text else ("", "it is no text: it has NUL characters")


def read_model(folder: Path, root: Path, findings: list[Finding]) -> Model | None:
    """A model's config, backend and versions; None, with a finding, where there is no config to check it by.

    Raises:
        UnavailableError: tritonclient is missing, which has the schema.
    """
    config = _config(folder, root, findings)
    numbers = _version_folders(folder, findings)
    if config is None:
        return None
    return Model(
        name=folder.name,
        folder=folder,
        root=root,
        config=config,
        backend=_backend(config, numbers),
        versions=_served(config, numbers, folder.name, findings),
    )


def _config(folder: Path, root: Path, findings: list[Finding]) -> Any:
    schema = require("tritonclient.grpc.model_config_pb2", extra="triton")
    text_format = require("google.protobuf.text_format", extra="triton")
    text, problem = text_of(folder / CONFIG_FILE, root)
    if problem:
        rule = "config-missing" if problem == "it is missing" else "unreadable"
        findings.append(finding(rule, folder.name, CONFIG_FILE, problem))
        return None
    try:
        return text_format.Parse(text, schema.ModelConfig())
    except (ValueError, RecursionError, OverflowError, text_format.ParseError) as error:
        line, column = (getattr(error, name, lambda: None)() for name in ("GetLine", "GetColumn"))
        where = f"{CONFIG_FILE}, line {line}, column {column}" if line else CONFIG_FILE
        said = re.sub(r"^\d+:\d+ : ", "", str(error))
        said = said if len(said) <= _LINE else f"{said[: _LINE // 2]} ... {said[-_LINE // 2 :]}"
        findings.append(finding("config-parse", folder.name, where, said))
        return None


def _version_folders(folder: Path, findings: list[Finding]) -> dict[int, Path]:
    numbers = {}
    try:
        folders = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    except OSError:  # `stray_entries` says it
        folders = []
    for entry in folders:
        if re.fullmatch(r"[1-9][0-9]{0,17}", entry.name):
            numbers[int(entry.name)] = entry
        elif _LIKE_A_VERSION.match(entry.name):
            findings.append(finding("version-name", folder.name, entry.name, "expected a number without leading zeros"))
    return dict(sorted(numbers.items()))


def _backend(config: Any, numbers: Mapping[int, Path]) -> str:
    if config.platform == "ensemble":
        return "ensemble"
    return config.backend or PLATFORMS.get(config.platform) or ("" if config.platform else _guess(config, numbers))


def _guess(config: Any, numbers: Mapping[int, Path]) -> str:
    """As Triton completes it where neither backend nor platform is given: by the model file's name."""
    for backend, filename in MODEL_FILES.items():
        if config.default_model_filename == filename:
            return backend
        if not config.default_model_filename and any((path / filename).exists() for path in list(numbers.values())[:1]):
            return backend
    return ""


def _served(config: Any, numbers: Mapping[int, Path], name: str, findings: list[Finding]) -> dict[int, Path]:
    """The versions that are loaded: the newest, where the config has no policy."""
    policy = config.version_policy
    which = policy.WhichOneof("policy_choice")
    if which == "specific":
        wanted = list(policy.specific.versions)
        for number in wanted:
            if number not in numbers:
                message = f"version {number} has no folder, though version_policy names it"
                findings.append(finding("version-missing", name, f"{CONFIG_FILE}: version_policy", message))
        return {number: numbers[number] for number in sorted(wanted) if number in numbers}
    latest = policy.latest.num_versions if which == "latest" else len(numbers) if which == "all" else 1
    served = dict(list(numbers.items())[-latest:]) if latest > 0 else {}
    if not served:
        there = ", ".join(map(str, numbers)) or "none"
        message = f"the versions with a folder: {there}; expected at least one that version_policy serves"
        findings.append(finding("version-missing", name, f"{CONFIG_FILE}: version_policy", message))
    return served
