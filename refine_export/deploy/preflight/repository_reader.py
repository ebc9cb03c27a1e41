"""Read a model repository that any tool may have written.

What cannot be read becomes a finding. Nothing outside the repository is opened, nothing that is not a regular file (a
pipe would block for ever), and nothing beyond a size that its kind can have.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from refine_export.deploy.preflight.findings import RepositoryFinding, finding
from refine_export.deploy.triton.names import CONFIG_FILE, ONNX_FILE, PLAN_FILE, PYTHON_FILE
from refine_export.errors import RepositoryError
from refine_export.support.imports import require

MODEL_FILES: Final[Mapping[str, str]] = {"onnxruntime": ONNX_FILE, "tensorrt": PLAN_FILE, "python": PYTHON_FILE}
"""Backend -> name of its model file, where the config gives none."""
PLATFORMS: Final[Mapping[str, str]] = {
    "onnxruntime_onnx": "onnxruntime",
    "tensorrt_plan": "tensorrt",
    "ensemble": "ensemble",
}
MAX_BYTES: Final = 2**31
"""Upper bound of the size of a file: protobuf reads no larger ONNX file, and our engines are much smaller."""
MISSING: Final = "it is missing"
_LONGEST_MESSAGE: Final = 300


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
    """onnxruntime, tensorrt, python, ensemble, another's name, or "" where neither config nor files show it."""
    versions: Mapping[int, Path]
    """Folders of the versions that the version policy serves, in order."""

    @property
    def batched(self) -> bool:
        """True where requests have a batch, which the dims of the config leave out."""
        return bool(self.config.max_batch_size > 0)

    @property
    def builds_engines(self) -> bool:
        """True where ONNX Runtime has TensorRT compile the file on the server."""
        accelerators = self.config.optimization.execution_accelerators.gpu_execution_accelerator
        return any(accelerator.name == "tensorrt" for accelerator in accelerators)

    @property
    def capabilities(self) -> list[str]:
        """Compute capabilities with an engine of their own, such as `8.9`."""
        return sorted(self.config.cc_model_filenames)

    def files(self, version: Path) -> list[Path]:
        """Return the model files of a version: one, or one for each compute capability."""
        default = self.config.default_model_filename or MODEL_FILES.get(self.backend, "")
        names = dict.fromkeys((default, *(self.config.cc_model_filenames[key] for key in self.capabilities)))
        paths = [version / name for name in names]
        if self.capabilities and not self.config.default_model_filename and not paths[0].exists():
            paths = paths[1:]  # each GPU has its own engine: the default name is only for others
        # An ONNX model with external data may be a folder of the file's name.
        return [path / path.name if self.backend == "onnxruntime" and path.is_dir() else path for path in paths]

    def readable_files(self) -> list[Path]:
        """Return the model files of all versions that can be opened; `check_files` reports the others."""
        paths = [path for version in self.versions.values() for path in self.files(version)]
        return [path for path in paths if why_unreadable(path, self.root) is None]

    def found(self, rule: str, where: str, message: str) -> RepositoryFinding:
        """Return a finding in this model."""
        return finding(rule, self.name, where, message)

    def in_config(self, rule: str, field: str, message: str) -> RepositoryFinding:
        """Return a finding in a field of the config."""
        return finding(rule, self.name, f"{CONFIG_FILE}: {field}", message)

    def where(self, path: Path) -> str:
        """Return a path as seen from the model's folder: `1/model.onnx`."""
        return path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else str(path)


def read_models(root: Path, findings: list[RepositoryFinding]) -> tuple[list[str], list[Model]]:
    """Read the models of a repository; those without a readable config are only findings.

    Args:
        root: the repository.
        findings: list that findings are appended to.

    Returns:
        The names of all models' folders (Triton takes hidden ones too), and the models that could be read.

    Raises:
        RepositoryError: `not-a-repository`.
        UnavailableError: `missing-package`; tritonclient, which has the schema.
        OSError: a folder cannot be listed.
    """
    if not root.is_dir():
        problem = "is not a folder; expected a model repository: the folder with the models' folders"
        raise RepositoryError.about(root, "not-a-repository", problem)
    # `links_that_lead_out` reports the others.
    folders = sorted(path for path in root.iterdir() if path.is_dir() and _is_inside(path, root))
    models = (_read_model(folder, root, findings) for folder in folders)
    return [folder.name for folder in folders], [model for model in models if model is not None]


def links_that_lead_out(root: Path) -> Iterator[RepositoryFinding]:
    """Report links to files outside the repository, or to nothing."""
    for folder, folders, files in os.walk(root):
        for path in (Path(folder, name) for name in sorted((*folders, *files))):
            if path.is_symlink() and not (path.exists() and _is_inside(path, root)):
                model, *below = path.relative_to(root).parts
                target = f"leads out of the repository, to {path.resolve()}" if path.exists() else "leads nowhere"
                yield finding("symlink", model, Path(*below).as_posix(), f"the link {target}")


def _is_inside(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def why_unreadable(path: Path, root: Path) -> str | None:
    """Return why a file must not or cannot be opened; None where it can."""
    try:
        if not _is_inside(path, root):
            return "it is outside of the repository"
        if not path.exists():
            return MISSING
        if not path.is_file():
            return "it is not a regular file"
        if (size := path.stat().st_size) > MAX_BYTES:
            return f"it has {size} bytes; expected {MAX_BYTES} at most"
        path.open("rb").close()
    except (OSError, RuntimeError, ValueError) as error:  # permissions, a loop of links, a NUL in the name
        return f"it cannot be read: {getattr(error, 'strerror', None) or error}"
    return None


def read_text(path: Path, root: Path) -> tuple[str, str | None]:
    """Return the text of a file and None, or "" and why there is none."""
    if problem := why_unreadable(path, root):
        return "", problem
    try:
        return path.read_text(encoding="utf-8"), None
    except UnicodeDecodeError as error:
        return "", f"it is not text: byte {error.start} is not UTF-8"


def _read_model(folder: Path, root: Path, findings: list[RepositoryFinding]) -> Model | None:
    schema = require("tritonclient.grpc.model_config_pb2", extra="triton")
    text_format = require("google.protobuf.text_format", extra="triton")
    text, problem = read_text(folder / CONFIG_FILE, root)
    if problem:
        rule = "config-missing" if problem == MISSING else "unreadable"
        findings.append(finding(rule, folder.name, CONFIG_FILE, problem))
        return None
    try:
        config = text_format.Parse(text, schema.ModelConfig())
    except (ValueError, RecursionError, OverflowError, text_format.ParseError) as error:
        # Its text begins with `line:column : `, and may quote the whole file.
        findings.append(finding("config-parse", folder.name, CONFIG_FILE, str(error)[:_LONGEST_MESSAGE]))
        return None
    numbers = _version_folders(folder, findings)
    return Model(
        name=folder.name,
        folder=folder,
        root=root,
        config=config,
        backend=_backend(config, numbers),
        versions=_served_versions(config, numbers, folder.name, findings),
    )


def _version_folders(folder: Path, findings: list[RepositoryFinding]) -> dict[int, Path]:
    numbers = {}
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        if re.fullmatch(r"[1-9][0-9]{0,17}", path.name):
            numbers[int(path.name)] = path
        elif re.match(r"[vV]?\d", path.name):
            findings.append(finding("version-name", folder.name, path.name, "expected a number without leading zeros"))
    return dict(sorted(numbers.items()))


def _backend(config: Any, numbers: Mapping[int, Path]) -> str:
    """Return the backend; where the config has none, Triton completes it by the name of the model file."""
    if config.backend or config.platform:
        known = PLATFORMS.get(config.platform, "")
        return known if known == "ensemble" else config.backend or known
    newest = list(numbers.values())[-1:]
    for backend, name in MODEL_FILES.items():
        if config.default_model_filename == name or any((path / name).exists() for path in newest):
            return backend
    return ""


def _served_versions(
    config: Any, numbers: Mapping[int, Path], model: str, findings: list[RepositoryFinding]
) -> dict[int, Path]:
    """Return the versions that are loaded: the newest one, where the config has no policy."""
    policy = config.version_policy
    which = policy.WhichOneof("policy_choice")
    if which == "specific":
        wanted = sorted(policy.specific.versions)
    else:
        count = policy.latest.num_versions if which == "latest" else len(numbers) if which == "all" else 1
        wanted = list(numbers)[-count:] if count else []
    missing = ", ".join(str(number) for number in wanted if number not in numbers)
    if missing or not wanted:
        existing = ", ".join(map(str, numbers)) or "none"
        message = f"version {missing} has no folder" if missing else "it serves no version"
        where = f"{CONFIG_FILE}: version_policy"
        findings.append(finding("version-missing", model, where, f"{message}; the versions with a folder: {existing}"))
    return {number: numbers[number] for number in wanted if number in numbers}
