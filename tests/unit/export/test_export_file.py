"""A file is reused while nothing that it depends on changes, and made again when anything does."""

import dataclasses
import json
import shutil
from pathlib import Path

import onnx
import pytest

from refine_export.checkpoint.checkpoint import seeded_checkpoint
from refine_export.errors import InternalError
from refine_export.export import export_file as module
from refine_export.export.export_file import export_file
from refine_export.export.export_options import ExportOptions
from refine_export.graph.lint_texts import LintFinding
from refine_export.support.manifest import Manifest, manifest_path, sha256_of_file
from tests.support.paths import names_in
from tests.support.refusals import refused

STATIC = ExportOptions(dynamic=False, size="64x96")
OTHER = ExportOptions(dynamic=False, size="32x32")


@pytest.fixture(scope="module")
def contextnet(exports):
    return exports.fp32("contextnet", size=STATIC.size)


@pytest.fixture
def copied(contextnet, tmp_path):
    """The file and its manifest in a folder of its own."""
    shutil.copy(manifest_path(contextnet), tmp_path)
    return shutil.copy(contextnet, tmp_path / contextnet.name)


class NotReusedError(Exception):
    """The reference network was asked for."""


def never():
    raise NotReusedError


def test_manifest_and_metadata(contextnet, checkpoint):
    manifest = Manifest(**json.loads(manifest_path(contextnet).read_text()))
    weights = {
        "checkpoint": checkpoint.source,
        "checkpoint_sha256": checkpoint.sha256,
        "architecture": checkpoint.network,
    }
    assert manifest.sha256 == sha256_of_file(contextnet)
    assert manifest.inputs == {**weights, "graph": "contextnet"}
    assert manifest.options == dataclasses.asdict(STATIC)
    assert {"torch", "onnx", "onnxscript", "refine-export", "python"} <= set(manifest.versions)
    assert manifest.signature["inputs"] == {"image": [1, 3, 64, 96], "flow": [1, 2, 64, 96]}
    assert list(manifest.signature["outputs"]) == ["f1", "f2", "f3", "f4"]
    metadata = {entry.key: entry.value for entry in onnx.load(contextnet).metadata_props}
    assert {f"refine_export.{name}": value for name, value in weights.items()}.items() <= metadata.items()
    stated = [metadata[f"refine_export.{name}"] for name in ("graph", "multiple_of", "scale")]
    assert stated == ["contextnet", "32", "1"]
    assert "flow: pixels of the full-size frame" in metadata["refine_export.units"]


def test_unchanged_is_reused(copied, checkpoint):
    artifact = export_file(never, checkpoint, "contextnet", STATIC, copied)
    assert (artifact.reused, artifact.seconds, artifact.file) == (True, None, "contextnet.onnx")


@pytest.mark.parametrize(
    ("seed", "graph", "options", "used"),
    [
        (0, "contextnet", OTHER, None),
        (1, "contextnet", STATIC, None),
        (0, "unet", STATIC, None),
        (0, "contextnet", STATIC, {"torch": "99"}),
    ],
    ids=["options", "weights", "graph", "versions"],
)
def test_anything_changed_is_made_again(copied, monkeypatch, seed, graph, options, used):
    if used:
        monkeypatch.setattr(module, "versions", lambda packages: used)
    with pytest.raises(NotReusedError):
        export_file(never, seeded_checkpoint("IFNet", seed), graph, options, copied)


@pytest.mark.parametrize("damage", ["bytes", "manifest", "no manifest", "no file"])
def test_damage_is_not_reused(copied, checkpoint, damage):
    if damage == "bytes":
        copied.write_bytes(copied.read_bytes()[:-1])
    elif damage == "manifest":
        manifest_path(copied).write_text('{"artifact": "contextnet.onnx"')
    else:
        (copied if damage == "no file" else manifest_path(copied)).unlink()
    with pytest.raises(NotReusedError):
        export_file(never, checkpoint, "contextnet", STATIC, copied)


def test_a_failure_leaves_the_old_file(copied, references, checkpoint, monkeypatch):
    """Interrupted while it is written: the old file and manifest stay, nothing half-written is left."""
    before = copied.read_bytes()

    def interrupted(path, content):
        with path.open("wb") as file:
            file.write(content[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_file(lambda: references("IFNet"), checkpoint, "contextnet", OTHER, copied)
    assert copied.read_bytes() == before
    assert names_in(copied.parent) == ["contextnet.onnx", "contextnet.onnx.json"]


def test_our_own_files_are_linted(references, checkpoint, monkeypatch, tmp_path):
    finding = LintFinding(rule="r", severity="error", node="n", message="bad", why="w", fix="f")
    monkeypatch.setattr(module, "lint_model", lambda model: [finding])
    with refused("lint-failed", InternalError, rule="r"):
        export_file(lambda: references("IFNet"), checkpoint, "unet", STATIC, tmp_path / "unet.onnx")
    assert list(tmp_path.iterdir()) == []
