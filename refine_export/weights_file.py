"""A weights file to named tensors, without running code from it.

A checkpoint is untrusted. It is read as safetensors or with `torch.load(weights_only=True)`, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from refine_export.errors import CheckpointError
from refine_export.optional import require

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
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; give a .pkl, .pth or .safetensors file") from None
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror}") from error
    if head[8:9] == b"{":
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
    import pickle
    import warnings

    torch = require("torch", extra="torch")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a TorchScript archive warns, then raises
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error)
        if "nsupported" in reason or "GLOBAL" in reason or "TorchScript" in reason:
            raise CheckpointError(
                f"{path} is refused: it holds more than tensors, and reading it could run code "
                f"({_first_reason(reason)}); save the state dict alone, best as .safetensors"
            ) from error
        raise CheckpointError(
            f"{path} starts like a pickle but can't be read ({_first_reason(reason)}); it is truncated, damaged, "
            "or no torch file: save the state dict with torch.save or as .safetensors"
        ) from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise CheckpointError(
            f"{path} starts like a torch checkpoint but can't be read ({type(error).__name__}: "
            f"{_first_reason(str(error))}); it is truncated or damaged: fetch it again"
        ) from error


def _first_reason(message: str) -> str:
    """The sentence of torch's message that names the cause, without its advice to lower the guard."""
    for line in message.splitlines():
        line = line.strip()
        if "WeightsUnpickler error:" in line:
            line = line.partition("WeightsUnpickler error:")[2].strip()
            if not line:
                continue
            return line.split(" was not an allowed global")[0][:160]
        if "TorchScript" in line:
            return "it is a TorchScript archive, which carries code"
    return (message.strip().splitlines() or ["no reason given"])[0][:160]


def _checked_entries(path: Path, loaded: object) -> dict[str, Tensor]:
    torch = require("torch", extra="torch")
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(loaded).__name__}; expected a state dict: a dictionary of names to tensors"
        )
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise CheckpointError(
                f"{path} holds {type(value).__name__} under {key!r}; expected a state dict with tensors alone: "
                "save model.state_dict(), not the training state around it"
            )
        if not value.is_floating_point() or value.is_sparse:
            raise CheckpointError(f"{path}: {key} has the type {value.dtype}; expected floating-point weights")
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{path}: {key} has NaN or infinite values; these weights are damaged")
    if not loaded:
        raise CheckpointError(f"{path} holds no tensors; expected the weights of IFNet, IFNet_m or the refinement")
    return dict(loaded)
