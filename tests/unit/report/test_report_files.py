"""`report.json` is written, published as a schema, and read back; files of strangers are checked."""

import copy
import dataclasses
import json
import os
from pathlib import Path

import jsonschema
import pytest

from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.data.frame_options import SceneOptions
from refine_export.errors import RecipeError, RequestError
from refine_export.jobs.gate_report import gate
from refine_export.jobs.recipe import Recipe
from refine_export.jobs.recipe_file import recipe_from_toml
from refine_export.jobs.validate_files import validate
from refine_export.report.report_data import SCHEMA, Report
from refine_export.report.report_files import report_from_file
from refine_export.report.schema import SCHEMA_FILE, report_schema
from refine_export.support.text import json_text
from refine_export.validate.validate_options import ValidateOptions
from tests.support.gate_reports import FEEDS, artifact, comparison, metrics, no_tensorrt, not_finite, report_of

PUBLISHED = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
ENGINE_FILE = dataclasses.asdict(dataclasses.replace(artifact("refine.fp16.rtx"), engine="RTX GPUs, fallback native"))
ENGINE = {
    "graph": "refine",
    "file": "refine.fp16.rtx",
    "library": "rtx",
    "target": "RTX GPUs",
    "proven": "built",
    "executed": False,
    "fallback": "native",
    "types": {},
    "promised": {},
    "unchecked": [],
    "samplers": 8,
    "sampling": {"LINEAR CLAMP aligned": 8},
    "repairs": [],
    "memory": {},
    "layers": {},
}
CHECKER = jsonschema.Draft202012Validator(PUBLISHED)


def reports():
    made = artifact()
    yield report_of()
    rows = [comparison(made, feed, metrics(flicker=0.001, ssim=0.99)) for feed in FEEDS]
    yield report_of(rows, shortfalls=[no_tensorrt(counts=True)], options=ValidateOptions(share=0.5, may_fail=1))
    yield report_of([comparison(made, "network", not_finite())])
    yield report_of([comparison(made, "network", None, missing="no CUDA")])
    yield report_of([])


@pytest.fixture
def read(tmp_path):
    """Read a report with this content, as JSON types or bytes."""

    def reading(content):
        path = tmp_path / "report.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return report_from_file(path)

    return reading


def refused(read, content):
    with pytest.raises(RequestError) as caught:
        read(content)
    assert caught.value.fields["path"].name == "report.json"
    return caught.value


# The schema


def test_the_published_schema_is_generated_from_the_dataclasses():
    assert report_schema() == PUBLISHED, (
        'run: python -c "from refine_export.report.schema import write_schema; write_schema()"'
    )
    jsonschema.Draft202012Validator.check_schema(PUBLISHED)
    assert PUBLISHED["properties"]["schema"]["const"] == SCHEMA
    assert set(PUBLISHED["required"]) == {field.name for field in dataclasses.fields(Report)}
    assert "description" in PUBLISHED["$defs"]["Metrics"]["properties"]["max_abs"]


def test_generating_the_schema_changes_nothing_else():
    """A recipe, which has some of the classes in it, still refuses unknown keys."""
    report_schema()
    with pytest.raises(RecipeError):
        recipe_from_toml("[validate.limits]\nrefine_fp16 = { max_abs = 0.1, psnr_db = 50.0, other = 1 }")


@pytest.mark.parametrize("report", list(reports()))
def test_reports_conform_and_are_read_back(report, read):
    content = json.loads(json_text(report.to_dict()))
    CHECKER.validate(content)
    assert read(content) == report


def test_a_real_report_conforms_and_passes_the_gate(exports, tmp_path):
    recipe = Recipe(
        checkpoint=CheckpointOptions(weights="seeded"),
        scene=SceneOptions(height=64, width=64, motion_px=4),
        validate=ValidateOptions(sizes=(), flows=("subpixel",)),
    )
    validate([exports.fp32("contextnet", size="64x64")], recipe=recipe, report=tmp_path)
    path = tmp_path / "report.json"
    content = json.loads(path.read_text())
    CHECKER.validate(content)
    assert report_from_file(path).to_dict() == content
    baseline = tmp_path / "baseline.json"
    assert gate(path, require=("torch", "ort"), baseline=baseline, accept=True).passed
    result = gate(path, baseline=baseline)
    (group,) = result.decision.groups
    assert len(group.comparisons) == len(content["comparisons"])
    assert result.changes.same == 4 * len(content["comparisons"])


# Files of strangers


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\xff\xfe", "not-json"),
        (b"[" * 100_000, "not-json"),
        (b'{"schema": 6, "seconds": NaN}', "not-json"),
        (b"[]", "wrong-schema"),
        (b'{"schema": [5]}', "wrong-schema"),
        (b'{"schema": 5}', "wrong-schema"),
        (b'{"schema": 6}', "schema-violation"),
    ],
)
def test_other_files_are_refused(read, content, code):
    assert refused(read, content).code == code


def test_what_is_not_a_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none.json", tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(RequestError) as caught:
            report_from_file(path)
        assert caught.value.code == "file-not-readable"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda c: c["comparisons"][0]["verdict"].update(status="green"), "comparisons.0.verdict.status"),
        (lambda c: c["comparisons"][0]["verdict"]["limits"].update(max_abs=5), "comparisons.0.verdict.limits"),
        (lambda c: c.pop("groups"), "groups"),
    ],
)
def test_what_does_not_conform_is_refused_with_its_place(read, change, place):
    content = report_of().to_dict()
    change(content)
    error = refused(read, content)
    assert error.code == "schema-violation"
    assert [problem.partition(" is ")[0].partition(":")[0] for problem in error.fields["problems"]] == [place]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["comparisons"].append(c["comparisons"][0]),
        lambda c: c["artifacts"][0].update(file="other.onnx"),
        lambda c: c["comparisons"].pop(),  # it was judged with the others
        lambda c: c["groups"].pop(),
        lambda c: c.update(share=2.0),
        lambda c: c.update(may_fail=-1),
        lambda c: c["comparisons"][0]["verdict"].update(runtime="tensorrt"),  # its file is ONNX
        lambda c: c.update(engines=[ENGINE]),  # not among the artifacts
        lambda c: c.update(engines=[ENGINE | {"executed": True}], artifacts=[*c["artifacts"], ENGINE_FILE]),
        lambda c: c.update(engines=[ENGINE, ENGINE], artifacts=[*c["artifacts"], ENGINE_FILE]),
    ],
)
def test_what_contradicts_itself_is_refused(read, change):
    content = report_of().to_dict()
    change(content)
    assert refused(read, content).code == "invalid-report"


def test_an_engine_that_was_built_alone_is_read_back(read):
    content = report_of().to_dict()
    content |= {"engines": [ENGINE], "artifacts": [*content["artifacts"], ENGINE_FILE]}
    assert [one.file for one in read(content).engines] == ["refine.fp16.rtx"]


def test_what_a_later_version_adds_is_ignored(read):
    assert read(report_of().to_dict() | {"more": 1}) == report_of()


def places(content, at=()):
    """Every value of a report but those of open dictionaries."""
    if isinstance(content, dict):
        for key, part in content.items():
            if at[:1] not in [("pair",), ("checkpoint",), ("environment",), ("thresholds",)]:
                yield from places(part, (*at, key))
    elif isinstance(content, list):
        for index, part in enumerate(content[:1]):
            yield from places(part, (*at, index))
    if at:
        yield at


def test_what_the_schema_refuses_is_refused(read):
    """Each value in turn becomes one of another type."""
    content = report_of(shortfalls=[no_tensorrt(counts=True)]).to_dict()
    tried = 0
    for place in places(content):
        spoilt = copy.deepcopy(content)
        inner = spoilt
        for part in place[:-1]:
            inner = inner[part]
        inner[place[-1]] = {"no": ["such", "thing"]}
        if not CHECKER.is_valid(spoilt):
            tried += 1
            refused(read, spoilt)
    assert tried > 60


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "1" + "0" * 400])
def test_numbers_that_are_not_finite_are_refused(tmp_path, number):
    """JSON has none, but a parser takes a number that is too large for an infinite one."""
    path = tmp_path / "report.json"
    path.write_text(json_text(report_of().to_dict()).replace('"psnr_db": 70.0', f'"psnr_db": {number}', 1))
    with pytest.raises(RequestError) as error:
        report_from_file(path)
    assert error.value.code == "not-json"
