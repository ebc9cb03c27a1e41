"""Read a weights file as named tensors without running code from it.

A checkpoint is untrusted: it is read as safetensors or with `torch.load(weights_only=True)`, nothing else.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from refine_export.errors import CheckpointError
from refine_export.support.files import check_input_file
from refine_export.support.imports import require
from refine_export.support.text import listed

if TYPE_CHECKING:
    from torch import Tensor

EXPECTED = "give a .pkl, .pth or .safetensors file with the weights of a network"
_STATE_DICT = "expected a state dict, names to dense tensors of a floating type: save model.state_dict() alone"

# How files that are often given by mistake begin.
_MISTAKES = {
    b"\x89PNG": "is a PNG picture",
    b"\xff\xd8\xff": "is a JPEG picture",
    b"version https://git-lfs": "is a Git LFS pointer, not the file it points to (run `git lfs pull`)",
    b"<": "looks like an HTML or XML page, often a failed download",
    b"\x1f\x8b": "is gzip-compressed (unpack it first)",
    b"\x08": "looks like an ONNX file",
}


def tensors_from_file(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a .pkl, .pth or .safetensors file; its content decides, not its suffix.

    Returns:
        Tensors by name, dense, of a floating type, on the CPU.

    Raises:
        CheckpointError: `not-a-checkpoint`, `damaged-checkpoint`, `unsafe-checkpoint` or `not-weights`; or the file
            cannot be read.
        UnavailableError: torch or safetensors is missing.
    """
    check_input_file(path, CheckpointError, f"{EXPECTED}, or the name of released weights: rife-4.0, hdv3")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise CheckpointError.about(path, "cannot-read", f"cannot be read: {error.strerror}") from error
    if head[4:9] == b"\0\0\0\0{":  # safetensors: a header below 4 GiB of JSON; its length can begin with any byte
        return _checked_entries(path, _read_safetensors(path))
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return _checked_entries(path, _read_torch(path))
    raise CheckpointError.about(path, "not-a-checkpoint", f"is not a checkpoint: it {_describe(head)}; {EXPECTED}")


def _describe(head: bytes) -> str:
    if not head:
        return "is empty"
    for start, meaning in _MISTAKES.items():
        if head.startswith(start):
            return meaning
    return "is text" if head.isascii() and b"\0" not in head else f"starts with the bytes {head[:8].hex(' ')}"


def _read_safetensors(path: Path) -> object:
    safetensors = require("safetensors", extra="torch")
    load_file = require("safetensors.torch", extra="torch").load_file
    try:
        return load_file(path)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise _damaged(path, f"a safetensors file ({error})") from error


def _read_torch(path: Path) -> object:
    torch = require("torch", extra="torch")
    _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a TorchScript archive warns, then raises
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile pickle can raise nearly anything
        # Only the text tells the two apart, and it must not be shown: torch advises to load with weights_only=False.
        if wanted := re.search(r"GLOBAL (\S{1,100})|TorchScript", str(error)):
            raise CheckpointError.about(
                path,
                "unsafe-checkpoint",
                f"is refused: it holds more than tensors, and reading it could run code ({wanted[1] or wanted[0]}); "
                "save the state dict alone, best as .safetensors",
            ) from error
        raise _damaged(path, f"a file of torch.save ({type(error).__name__})") from error


def _check_archive(path: Path) -> None:
    """Say what a zip archive is that torch.save did not write; its tensors are stored uncompressed."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            damaged = archive.testzip() if stored else None  # torch does not compare checksums
    except (zipfile.BadZipFile, OSError, ValueError):
        return  # not an archive, or a damaged one, which torch refuses
    if damaged is not None:
        raise _damaged(path, f"a file of torch.save (the checksum of {damaged[:80]} is wrong)")
    names = [entry.filename for entry in entries]
    if any(name.endswith("/constants.pkl") for name in names):
        problem = "is refused: it is a TorchScript program; expected weights alone: save model.state_dict()"
        raise CheckpointError.about(path, "unsafe-checkpoint", problem)
    if not any(name.endswith("/data.pkl") for name in names):
        weights = [name for name in names if name.endswith((".pkl", ".pth", ".pt", ".safetensors"))]
        found = (
            f"with {listed(name[:80] for name in weights)}: unpack it, and give that file" if weights else "of files"
        )
        problem = f"is not a checkpoint: it is a zip archive {found}; {EXPECTED}"
        raise CheckpointError.about(path, "not-a-checkpoint", problem, members=weights)
    if not stored:  # unpacks to more than its size
        problem = (
            "is refused: it is a compressed zip archive, which torch.save does not write; save the state dict again"
        )
        raise CheckpointError.about(path, "unsafe-checkpoint", problem)


def _damaged(path: Path, kind: str) -> CheckpointError:
    problem = f"cannot be read as {kind}: it is truncated, damaged, or another program's; fetch it again"
    return CheckpointError.about(path, "damaged-checkpoint", problem)


def _checked_entries(path: Path, loaded: object) -> dict[str, Tensor]:
    """Return the entries if all are plain weights; nothing is computed with a tensor before it is checked."""
    torch = require("torch", extra="torch")
    if not isinstance(loaded, Mapping) or not loaded:
        found = "no tensors" if isinstance(loaded, Mapping) else f"a {type(loaded).__name__}"
        raise CheckpointError.about(path, "not-weights", f"holds {found}; {_STATE_DICT}")
    floats = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
    for key, value in loaded.items():
        named = isinstance(key, str) and isinstance(value, torch.Tensor)
        if not named or value.dtype not in floats or value.layout != torch.strided or value.device.type != "cpu":
            found = f"{value.dtype}, {value.layout}, {value.device}" if named else type(value).__name__
            raise CheckpointError.about(path, "not-weights", f"has {found} under {str(key)[:80]!r}; {_STATE_DICT}")
    return dict(loaded)
