"""A weights file is read without running code from it, or refused with a code that says why."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from refine_export.checkpoint.weights_file import tensors_from_file
from refine_export.errors import CheckpointError
from tests.support.refusals import refused


class Attack:
    def __reduce__(self):
        return (print, ("this code must never run",))


class System:
    def __reduce__(self):
        return (os.system, ("echo this code must never run",))


def saved(content, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def compressed(content) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return buffer.getvalue()


def archived(name) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, b"content")
    return buffer.getvalue()


def script() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("net/constants.pkl", pickle.dumps(()))
        archive.writestr("net/data.pkl", pickle.dumps({}))
        archive.writestr("net/version", "3")
    return buffer.getvalue()


STATE = {"a": torch.ones(64, 64), "b": torch.zeros(3, dtype=torch.float16)}
BAD = {
    "not-a-checkpoint": {
        "empty": b"",
        "picture": b"\x89PNG\r\n\x1a\n" + bytes(99),
        "page": b"<!DOCTYPE html><html>404</html>" + b" " * 99,
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "text": b"these are my notes, and not weights",
        "noise": bytes(range(200, 250)) * 5,
        "a file in an archive": archived("train_log/flownet.pkl"),
        "other files in an archive": archived("readme.txt"),
    },
    "unsafe-checkpoint": {
        "attack in an archive": saved({"a": Attack()}),
        "attack in a pickle": pickle.dumps(System(), protocol=2),
        "script": script(),
        "compressed script": compressed(script()),
        "bomb": compressed(saved(STATE)),
    },
    "damaged-checkpoint": {
        "attack in a pickle that torch never writes": pickle.dumps(Attack()),
        "numpy": pickle.dumps({"a": np.zeros(3)}),
        "plain": pickle.dumps({}),
        "changed in a weight": saved(STATE).replace(torch.ones(64).numpy().tobytes(), bytes(256), 1),
        "cut": saved(STATE)[: len(saved(STATE)) // 2],
        "cut, old format": saved(STATE, _use_new_zipfile_serialization=False)[:-99],
        "cut safetensors": (300).to_bytes(8, "little") + b'{"a":',
        "a pickle whose ninth byte is a brace": pickle.dumps("{{{{{", protocol=2).replace(b"\x80\x02", b"\x80\x05"),
    },
    "not-weights": {
        "list": saved([torch.zeros(1)]),
        "tensor": saved(torch.zeros(3)),
        "nested": saved({"epoch": 3, "state_dict": STATE}),
        "integers": saved({"a": torch.zeros(1, dtype=torch.int64)}),
        "eight bits": saved({"a": torch.zeros(2).to(torch.float8_e4m3fn)}),
        "sparse": saved({"a": torch.zeros(2, 2).to_sparse()}),
        "nothing": saved({}),
    },
}


@pytest.mark.parametrize(("code", "name"), [(code, name) for code, files in BAD.items() for name in files])
def test_refuses(tmp_path, capfd, code, name):
    path = tmp_path / "weights.pkl"
    path.write_bytes(BAD[code][name])
    with refused(code, CheckpointError, path=path) as caught:
        tensors_from_file(path)
    assert "weights_only=False" not in str(caught.value)
    assert "must never run" not in capfd.readouterr().out


def test_weights_in_an_archive_are_named(tmp_path):
    (tmp_path / "w.zip").write_bytes(archived("train_log/flownet.pkl"))
    with pytest.raises(CheckpointError) as caught:
        tensors_from_file(tmp_path / "w.zip")
    assert caught.value.fields["members"] == ["train_log/flownet.pkl"]


@pytest.mark.parametrize("new", [False, True])
def test_reads_both_formats_of_torch(tmp_path, new):
    path = tmp_path / "weights"
    path.write_bytes(saved(STATE, _use_new_zipfile_serialization=new))
    read = tensors_from_file(path)
    assert list(read) == list(STATE)
    assert all(torch.equal(read[key], tensor) for key, tensor in STATE.items())


def test_a_safetensors_header_may_begin_like_a_pickle(tmp_path):
    """The first byte is the low byte of the header's length."""
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(0x180)
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert (tmp_path / "a.safetensors").read_bytes().startswith(b"\x80")
    assert tensors_from_file(tmp_path / "a.safetensors") == {"a": torch.zeros(1)}


def test_paths_that_are_not_files(tmp_path):
    for path, code in ((tmp_path, "is-directory"), (tmp_path / "absent.pkl", "not-found")):
        with refused(code, CheckpointError):
            tensors_from_file(path)
