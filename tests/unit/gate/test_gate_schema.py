"""`report/schema.json` is what reports are: of the dataclasses, of built reports and of a real one."""

import copy
import dataclasses
import json

import jsonschema
import onnx
import pytest

from refine_export.checkpoint.checkpoint_options import CheckpointOptions
from refine_export.data.frame_options import SceneOptions
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.jobs import main_job as pipeline
from refine_export.jobs.gate_report import gate
from refine_export.jobs.recipe import Recipe
from refine_export.jobs.recipe_file import recipe_with
from refine_export.report.data import SCHEMA, Report, json_from_report
from refine_export.report.parsing import report_from_content, report_from_file
from refine_export.report.schema import SCHEMA_FILE, schema_of_report
from tests.support.gate_reports import FEEDS, artifact, comparison, metrics, no_tensorrt, not_finite, report_of

PUBLISHED = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
CHECKER = jsonschema.Draft202012Validator(PUBLISHED)


@pytest.fixture(scope="module")
def real(references, tmp_path_factory):
    """The report of a small static file."""
    folder = tmp_path_factory.mktemp("real")
    options = ExportOptions(dynamic=False, size="64x64")
    onnx.save(onnx_from_network(references("IFNet"), "contextnet", options), folder / "contextnet.onnx")
    scene = SceneOptions(height=64, width=64, motion_px=4)
    recipe = dataclasses.replace(Recipe(), checkpoint=CheckpointOptions(weights="seeded"), scene=scene)
    pipeline.validate_files([folder / "contextnet.onnx"], recipe_with(recipe, {"sizes": []}), folder / "report")
    return folder / "report" / "report.json"


def test_the_published_schema_is_of_the_dataclasses():
    assert schema_of_report() == PUBLISHED, (
        'it is old: python -c "from refine_export.gate.schema import write_schema; write_schema()"'
    )
    jsonschema.Draft202012Validator.check_schema(PUBLISHED)
    assert PUBLISHED["properties"]["schema"]["const"] == SCHEMA
    assert set(PUBLISHED["required"]) == {field.name for field in dataclasses.fields(Report)}


def test_making_the_schema_leaves_no_trace():
    """The recipe refuses unknown keys by the same setting of the same classes."""
    from refine_export.errors import RecipeError
    from refine_export.jobs.recipe_file import recipe_from_toml

    for _ in range(2):
        with pytest.raises(RecipeError, match="there is no key"):
            recipe_from_toml("[validate.limits]\nrefine_fp16 = { max_abs = 0.1, psnr_db = 50.0, other = 1 }")
        assert schema_of_report() == PUBLISHED


def reports():
    made = artifact()
    rows = [comparison(made, feed, metrics(flicker=0.001)) for feed in FEEDS]
    yield report_of()
    yield report_of(rows, shortfalls=[no_tensorrt(counts=True)])
    yield report_of([comparison(made, "network", not_finite())])
    yield report_of([comparison(made, "network", None, missing="no CUDA")])
    yield report_of([])


@pytest.mark.parametrize("report", list(reports()))
def test_built_reports_keep_to_it_and_come_back(report):
    content = json.loads(json_from_report(report))
    CHECKER.validate(content)
    again = report_from_content(content)
    assert json_from_report(again) == json_from_report(report)


def test_a_real_report_keeps_to_it_and_passes_the_gate(real, tmp_path):
    content = json.loads(real.read_text())
    CHECKER.validate(content)
    assert report_from_file(real).as_json() == content
    result = gate(real, require=("torch", "ort"), baseline=tmp_path / "baseline.json", accept=True)
    assert (result.status, result.decision.problems) == ("passed", ())
    (group,) = result.decision.groups
    assert group.name.endswith("/contextnet.onnx in onnxruntime-cpu at 1x64x64")
    assert len(group.rows) == len(content["comparisons"])
    again = gate(real, baseline=tmp_path / "baseline.json")
    assert (again.status, again.changes.same) == ("passed", 4 * len(content["comparisons"]))
    assert gate(real, require=("trt",)).status == "not compared"


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


def test_what_the_schema_refuses_the_gate_refuses():
    """Each value in turn becomes one of another type; both must say so."""
    content = json.loads(json_from_report(report_of(shortfalls=[no_tensorrt(counts=True)])))
    tried = 0
    for place in places(content):
        spoilt = copy.deepcopy(content)
        inner = spoilt
        for part in place[:-1]:
            inner = inner[part]
        inner[place[-1]] = {"no": ["such", "thing"]}
        if not CHECKER.is_valid(spoilt):
            tried += 1
            with pytest.raises(Exception, match="schema|report"):
                report_from_content(spoilt)
    assert tried > 60
