"""A weights file to named tensors, without running code from it.

A checkpoint is untrusted. It is read as safetensors or with `torch.load(weights_only=True)`, nothing else.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from refine_export.errors import CheckpointError
from refine_export.support.imports import require

if TYPE_CHECKING:
    from torch import Tensor


def tensors_from_file(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pkl, .pth or .safetensors file by name; its content decides, not its suffix.

    Raises:
        CheckpointError: the message says what the file seems to be.
        UnavailableError: torch or safetensors is missing.
    """
    return _checked_entries(path, _read(path))


def _read(path: Path) -> object:
    if path.is_dir():
        raise CheckpointError(f"{path} is a directory; give the weights file itself, such as flownet.pkl")
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path} is no regular file; give a .pkl, .pth or .safetensors file")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; give a .pkl, .pth or .safetensors file") from None
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror}") from error
    if head[4:9] == b"\0\0\0\0{":  # a header below 4 GiB that begins as JSON; its length can begin with any byte
        return _read_safetensors(path)
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return _read_torch(path)
    raise CheckpointError(
        f"{path} is no checkpoint: it {_describe(head)}; expected a .pkl, .pth or .safetensors file with the "
        "weights of IFNet, IFNet_m or the refinement"
    )


def _describe(head: bytes) -> str:
    signatures = {
        b"\x89PNG": "is a PNG picture",
        b"\xff\xd8\xff": "is a JPEG picture",
        b"version https://git-lfs": "is a Git LFS pointer, not the file it points to (run `git lfs pull`)",
        b"<": "looks like an HTML or XML page, often a failed download",
        b"\x1f\x8b": "is gzip-compressed (unpack it first)",
        b"\x08": "looks like an ONNX file",
    }
    if not head:
        return "is empty"
    for start, meaning in signatures.items():
        if head.startswith(start):
            return meaning
    return "is text" if head.isascii() and b"\0" not in head else f"starts with the bytes {head[:8].hex(' ')}"


def _read_safetensors(path: Path) -> object:
    safetensors = require("safetensors", extra="torch")
    load_file = require("safetensors.torch", extra="torch").load_file
    try:
        return load_file(path)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} starts like a safetensors file but can't be read ({error}); it is truncated or damaged: "
            "fetch it again"
        ) from error


def _read_torch(path: Path) -> object:
    import warnings

    torch = require("torch", extra="torch")
    _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a TorchScript archive warns, then raises
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile pickle can raise nearly anything
        reason = str(error)
        wanted = _wanted_globals(path)
        if wanted or "TorchScript" in reason:
            what = f"it refers to {wanted[0]}" if wanted else "it is a TorchScript archive"
            raise CheckpointError(
                f"{path} is refused: it holds more than tensors, and reading it could run code ({what[:120]}); save "
                "the state dict alone, best as .safetensors"
            ) from error
        if "magic number" in reason or "Unsupported operand" in reason:
            raise CheckpointError(
                f"{path} is a pickle, but not one that torch.save wrote, or it is damaged; save the state dict with "
                "torch.save or as .safetensors"
            ) from error
        raise CheckpointError(
            f"{path} starts like a torch checkpoint but can't be read ({type(error).__name__}); it is truncated or "
            "damaged: fetch it again"
        ) from error


def _check_archive(path: Path) -> None:
    """Refuse a zip archive that unpacks to more than it is: torch stores its tensors uncompressed.

    Raises:
        CheckpointError: compressed entries.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [entry for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
    except (zipfile.BadZipFile, OSError, ValueError):
        return  # torch says what is wrong with it
    if packed:
        raise CheckpointError(
            f"{path} is refused: it is a compressed zip archive ({packed[0].filename[:80]}), which torch.save does "
            "not write; unpack it, or save the state dict again"
        )


def _wanted_globals(path: Path) -> list[str]:
    """What a pickle would import, but for torch's own tensors; read as text, nothing is run."""
    found: list[str] = []
    strings = [""]
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                content = archive.read(name)
        else:
            content = path.read_bytes()
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name in ("GLOBAL", "INST"):
                found.append(str(argument).replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL":
                found.append(".".join(strings[-2:]))
            elif isinstance(argument, str):
                strings.append(argument)
    except Exception:  # damaged: what was found until there counts
        pass
    return [name for name in found if not name.startswith(("torch.", "torch._utils.", "collections.OrderedDict"))]


def _checked_entries(path: Path, loaded: object) -> dict[str, Tensor]:
    """The entries, if they are plain weights; nothing is read or allocated for a tensor before it is checked."""
    torch = require("torch", extra="torch")
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(loaded).__name__}; expected a state dict: a dictionary of names to tensors"
        )
    allowed = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise CheckpointError(
                f"{path} holds {type(value).__name__} under {str(key)[:80]!r}; expected a state dict with tensors "
                "alone: save model.state_dict(), not the training state around it"
            )
        if value.dtype not in allowed or value.layout != torch.strided or value.device.type != "cpu":
            raise CheckpointError(
                f"{path}: {key} is {value.dtype}, {value.layout}, {value.device}; expected dense weights of the type "
                "float16, bfloat16, float32 or float64"
            )
    if not loaded:
        raise CheckpointError(f"{path} holds no tensors; expected the weights of IFNet, IFNet_m or the refinement")
    return dict(loaded)
