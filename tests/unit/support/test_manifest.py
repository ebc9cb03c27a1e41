import dataclasses
import os

import pytest

from refine_export.errors import RequestError
from refine_export.support.manifest import (
    Manifest,
    fingerprint,
    manifest_path,
    read_manifest,
    reusable,
    sha256_of_file,
    write_with_manifest,
)
from tests.support.refusals import refused


@pytest.fixture
def artifact(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"model")
    write_with_manifest(
        path,
        b"model",
        Manifest(
            artifact=path.name,
            kind="onnx",
            sha256=sha256_of_file(path),
            size_bytes=5,
            inputs={},
            options={},
            versions={},
            signature={},
            fingerprint=fingerprint({"a": 1, "b": 2}),
            seconds=0.5,
        ),
    )
    return path


def test_an_artifact_is_reused_while_nothing_changed(artifact):
    assert reusable(artifact, fingerprint({"b": 2, "a": 1})) == read_manifest(artifact)
    assert reusable(artifact, fingerprint({"a": 2})) is None
    artifact.write_bytes(b"other")
    assert reusable(artifact, fingerprint({"a": 1, "b": 2})) is None
    artifact.unlink()
    assert reusable(artifact, fingerprint({"a": 1, "b": 2})) is None


def test_options_are_part_of_the_fingerprint():
    @dataclasses.dataclass
    class Options:
        size: int

    assert fingerprint(Options(1)) == fingerprint({"size": 1}) != fingerprint(Options(2))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"artifact": "m.onnx"}', "[" * 99999])
def test_a_damaged_manifest_means_make_it_again(artifact, text):
    manifest_path(artifact).write_text(text)
    assert reusable(artifact, "x") is None
    with refused("damaged-manifest", RequestError):
        read_manifest(artifact)
    manifest_path(artifact).unlink()
    with refused("missing-manifest", RequestError):
        read_manifest(artifact)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_numbers_that_json_has_not_are_refused(artifact, number):
    path = manifest_path(artifact)
    path.write_text(path.read_text().replace('"details": {}', f'"details": {{"one": [{number}]}}'))
    with refused("damaged-manifest", RequestError, path=path):
        read_manifest(artifact)


def test_a_manifest_that_is_not_a_file_is_not_read(artifact):
    """A pipe or a device may have no end."""
    reader, writer = os.pipe()
    os.write(writer, manifest_path(artifact).read_bytes())
    os.close(writer)
    manifest_path(artifact).unlink()
    manifest_path(artifact).symlink_to(f"/proc/self/fd/{reader}")
    with refused("damaged-manifest", RequestError, path=manifest_path(artifact)):
        read_manifest(artifact)
    os.close(reader)
