"""The report says what the verdicts say, shows where the error is, and is one file that needs nothing else."""

import base64
import dataclasses
import functools
import hashlib
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from gate_reports import STRICT, groups_of
from numpy.typing import NDArray
from PIL import Image

from refine_export.checkpoint import describe, seeded_checkpoint
from refine_export.console import print_report
from refine_export.feeds import feeds_for
from refine_export.frames import pair_from_arrays
from refine_export.limits import Limits
from refine_export.network import reference_network
from refine_export.onnx_file import FilePrecision
from refine_export.report import pictures as drawn
from refine_export.report.data import Artifact, Comparison, Report, Shortfall
from refine_export.report.html import FramePictures, html_from_report, margin, sentence_from_report, step_path
from refine_export.report.pictures import BAD, Pictures, amplification, difference_picture, pictures_from_compared
from refine_export.runners.base import Runner
from refine_export.runners.torch import TorchRunner
from refine_export.scenes import Scene, SceneOptions
from refine_export.signature import SIGNATURES, GraphName
from refine_export.validate import Candidate, Compared, Status, ValidateOptions, judged, overall, validate

Array = NDArray[Any]
HEIGHT, WIDTH = 64, 96
LIMITS = {"fp32": Limits(max_abs=1e-4, psnr_db=90.0), "fp16": Limits(max_abs=0.1, psnr_db=50.0)}
CHECKPOINT = describe(seeded_checkpoint("refinement"))
VOID = {"meta", "link", "img", "br", "input"}
PLACE = (20, 30)  # y, x of what is spoilt
LOW = "a.fp16.onnx"
FRAMES = FramePictures(
    img0="data:,0", img1="data:,1", middle=None, interpolated="data:,2", interpolated_caption="interpolator"
)


class Spoilt(Runner):
    """A runner whose outputs are changed: the first one at PLACE, or the width of all."""

    backend = "torch"

    def __init__(self, inner: Runner, how: str) -> None:
        self.inner, self.how = inner, how
        self.version, self.device, self.provider = inner.version, inner.device, inner.provider
        self.inputs, self.outputs = inner.inputs, inner.outputs

    def _run(self, feeds: Any) -> dict[str, Array]:
        outputs = {name: array.copy() for name, array in self.inner.run(feeds).items()}
        if self.how == "short":
            return {name: array[..., :-1] for name, array in outputs.items()}
        first = outputs[self.inner.outputs[0].name]
        first[0, 1, *PLACE] += {"nan": np.nan, "infinite": np.inf, "lost": 0.3, "far": 0.03, "near": 2e-5}[self.how]
        return outputs


@pytest.fixture(scope="module")
def compared() -> dict[str, Compared]:
    """`interpolator` at 64x96 against itself, spoilt and whole, and against nothing; `features`: contextnet.

    `fp16 far` and the like are held to the limits of FP16 files.
    """
    network = reference_network(seeded_checkpoint("IFNet"))
    scene = Scene(SceneOptions(height=HEIGHT, width=WIDTH))
    pair = pair_from_arrays("scene", scene.frame(0.0), scene.frame(1.0), scene.frame(0.5))

    def run(
        graph: GraphName, hows: tuple[str, ...], precision: FilePrecision = "fp32"
    ) -> Iterator[tuple[str, Compared]]:
        runner = TorchRunner(network, graph)
        tested = functools.partial(Candidate, file="tested.onnx", limits=LIMITS[precision])
        candidates = [tested(runtime=how, runner=Spoilt(runner, how)) for how in hows]
        candidates.append(tested(runtime="same", runner=runner))
        candidates.append(tested(runtime="none", runner=None, missing="no GPU"))
        feeds = feeds_for(network, graph, pair, kinds=("subpixel",))
        for one in validate(SIGNATURES[graph], runner, candidates, feeds):
            yield one.verdict.runtime, one

    found = dict(run("interpolator", ("near", "far", "nan", "infinite", "short")))
    found |= {f"fp16 {how}": one for how, one in run("interpolator", ("far", "lost"), "fp16")}
    return found | {"features": dict(run("contextnet", ()))["same"]}


def report_of(
    *all_compared: Compared,
    file: str = "a.onnx",
    notes: tuple[str, ...] = (),
    shortfalls: tuple[Shortfall, ...] = (),
) -> Report:
    """Of one FP32 file, and of `LOW` where there are comparisons within the limits of FP16."""
    files: dict[FilePrecision, str] = {"fp32": file, "fp16": LOW}

    def precision_of(one: Compared) -> FilePrecision:
        return "fp16" if one.verdict.limits == LIMITS["fp16"] else "fp32"

    def comparison(number: int, one: Compared) -> Comparison:
        graph: GraphName = "contextnet" if "contextnet" in one.verdict.feed else "interpolator"
        about: dict[str, Any] = {"graph": graph, "file": files[precision_of(one)], "verdict": one.verdict}
        about |= {"provider": "torch float32", "largest_flow_px": one.feed.largest_flow_px}
        return Comparison(key=str(number), size=one.feed.size, **about)

    precisions = list(dict.fromkeys(map(precision_of, all_compared))) or ["fp32"]
    artifact: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(Artifact))
    artifact |= {"graph": "interpolator", "sizes": "1x3x64x96", "opset": 18, "nodes": 12, "reused": False}
    artifact |= {"sha256": "ab" * 32, "size_bytes": 12345}
    comparisons = tuple(comparison(number, one) for number, one in enumerate(all_compared))
    return Report(
        status=overall([*(one.verdict.status for one in all_compared), *(s.status for s in shortfalls if s.counts)]),
        tool_version="0.1.0",
        created="2026-01-02T03:04:05+00:00",
        seconds=1.5,
        pair={"name": "scene", "size": [HEIGHT, WIDTH], "sha256": ["12" * 32, "34" * 32]},
        checkpoint=CHECKPOINT,
        reference="torch, float32, cpu",
        thresholds={f"interpolator_{name}": dataclasses.asdict(LIMITS[name]) for name in precisions},
        artifacts=tuple(Artifact(**artifact | {"file": files[name], "precision": name}) for name in precisions),
        comparisons=comparisons,
        groups=tuple(groups_of(comparisons, STRICT)),
        shortfalls=shortfalls,
        notes=notes,
        environment={"python": "3.11"},
        fingerprint="cd" * 32,
    )


def page_of(*all_compared: Compared, **options: Any) -> str:
    report = report_of(*all_compared, **options)
    found = [
        (comparison.key, pictures_from_compared(one, SIGNATURES[comparison.graph]))
        for comparison, one in zip(report.comparisons, all_compared, strict=True)
    ]
    return html_from_report(report, {key: pictures for key, pictures in found if pictures is not None}, FRAMES)


class Page(HTMLParser):
    """Tags and text of a page; every tag must be closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        """The text of each cell, by the class of the table; without a class, the last one."""
        self.feed(page)
        self.close()
        assert not self.open, f"not closed: {self.open}"
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.rows = self.tables[dict(attrs).get("class") or ""] = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another tag at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {data}".strip()

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def margin_in(text: str) -> str:
    """The one margin that the text has."""
    (found,) = re.findall(r"[\d.,]+ times (?:below|above) the limit", text)
    return str(found)


def pixels(uri: str) -> Array:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


def shown(compared: Compared, graph: GraphName = "interpolator", **options: Any) -> Pictures:
    pictures = pictures_from_compared(compared, SIGNATURES[graph], **options)
    assert pictures is not None
    return pictures


def test_page_is_whole_and_needs_nothing_else(compared: dict[str, Compared]) -> None:
    """All tags closed; ids once, links to them; no request; one script, whose hash the policy names."""
    source = page_of(*compared.values(), notes=("The weights are seeded random weights.",))
    assert not re.search(r"url\(|@import|https?://", source)
    page = Page(source)
    assert {name for name, _ in page.tags}.isdisjoint({"iframe", "object", "embed", "base", "form"})
    for name, attributes in page.tags:
        for key in ("src", "href", "srcset", "poster", "data", "action"):
            assert (attributes.get(key) or "#").startswith(("data:", "#")), (name, attributes)
        assert not [key for key in attributes if key.startswith("on")]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {(link["href"] or "")[1:] for link in page.named("a")} <= set(ids)
    assert all(attributes["alt"] for attributes in page.named("img"))
    assert all(attributes.get("scope") for attributes in page.named("th"))
    assert all({"aria-label", "type"} & set(attributes) for attributes in page.named("input"))
    assert page.named("html") == [{"lang": "en"}]
    (script,) = re.findall("<script>(.*?)</script>", source, re.S)
    assert page.named("script") == [{}]
    (policy,) = [tag["content"] for tag in page.named("meta") if tag.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy is not None
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        "style-src 'unsafe-inline'",
        f"script-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert "seeded random weights" in page.text.partition("Frames")[0]


def test_file_names_and_messages_are_escaped(compared: dict[str, Compared]) -> None:
    evil = '"><script>alert(1)</script>'
    verdict = dataclasses.replace(compared["none"].verdict, reasons=(evil,), runtime=evil)
    page = page_of(dataclasses.replace(compared["none"], verdict=verdict), file=evil, notes=(evil,))
    assert page.count("<script") == 1
    assert Page(page).text.count(evil) >= 4


@pytest.mark.parametrize(("name", "status"), [("near", "passed"), ("far", "failed"), ("none", "not compared")])
def test_each_status_has_its_word(compared: dict[str, Compared], name: str, status: Status) -> None:
    text = Page(page_of(compared[name])).text
    assert [word for word in ("PASSED", "FAILED", "NOT COMPARED") if word in text] == [status.upper()]
    assert f"{int(status == 'passed')} of 1" in text.partition("Frames")[0]


def test_not_compared_is_never_counted_as_passed(compared: dict[str, Compared]) -> None:
    report = report_of(compared["near"], compared["none"])
    assert report.status == "not compared"
    assert sentence_from_report(report).startswith("1 of 2 comparisons could not be made and the other 1 passed: ")
    text = Page(page_of(compared["near"], compared["none"])).text
    assert re.search("NOT COMPARED .* Comparisons passed 1 of 2 0 failed, 1 not compared .* no GPU", text)
    assert sentence_from_report(report_of(compared["none"])) == "1 of 1 comparison could not be made."
    assert sentence_from_report(report_of()) == "Nothing was compared."
    assert "NOT COMPARED" in Page(page_of()).text


def test_sentences_are_true(compared: dict[str, Compared]) -> None:
    """The largest error of `near` is 2e-05, a fifth of the limit; that of `far` 300 times the limit."""
    near = sentence_from_report(report_of(compared["near"], compared["same"]))
    assert re.fullmatch(r"2 of 2 .* passed: the largest error is 2.0e-05 of the peak, (4.9|5.0) times below .*", near)
    same = sentence_from_report(report_of(compared["same"]))
    assert same == "1 of 1 comparison passed: every output equals the reference's, value for value."
    far = sentence_from_report(report_of(*(compared[name] for name in ("far", "nan", "short", "same"))))
    assert far.startswith("3 of 4 comparisons failed and 1 passed: 1 candidate gave no output that could be compared; ")
    assert "1 output has NaN or infinite values; of the others, the largest error is 3.0e-02 of the peak, " in far
    assert re.search(r"(290|300) times above the limit; the lowest PSNR is [\d.]+ dB, [\d.]+ dB below its limit.$", far)


@pytest.mark.parametrize("counts", [False, True])
def test_what_is_missing_beside_the_comparisons_is_said(compared: dict[str, Compared], counts: bool) -> None:
    """It changes the verdict only where it counts."""
    missing = Shortfall(what="TensorRT", status="not compared", reason="<b>none</b>", counts=counts)
    report = report_of(compared["near"], shortfalls=(missing,))
    page = page_of(compared["near"], shortfalls=(missing,))
    assert report.status == ("not compared" if counts else "passed")
    assert ("The run as a whole is not compared because of TensorRT" in sentence_from_report(report)) is counts
    assert "TensorRT: not compared, &lt;b&gt;none&lt;/b&gt;" in page
    assert ("(not required)" in page) is not counts


def test_the_error_nearest_its_own_limit_is_named(compared: dict[str, Compared]) -> None:
    """2e-05 of 4e-05 is nearer to its limit than 0.03 of 0.1, and that nearer than 2e-05 of 1e-04."""
    near, far, lost = compared["near"], compared["fp16 far"], compared["fp16 lost"]
    sentence = sentence_from_report(report_of(near, far))
    start = "2 of 2 comparisons passed: the error nearest its limit is "
    assert sentence == f"{start}3.0e-02 of the peak, in {LOW}, 3.3 times below the limit."
    tight = dataclasses.replace(
        near, verdict=dataclasses.replace(near.verdict, limits=Limits(max_abs=4e-5, psnr_db=90.0))
    )
    sentence = sentence_from_report(report_of(tight, far))
    assert re.fullmatch(rf"{start}2.0e-05 of the peak, in a.onnx, (1.9|2.0) times below the limit.", sentence)
    sentence = sentence_from_report(report_of(compared["far"], lost))
    assert re.search(r"is 3.0e-02 of the peak, in a.onnx, (290|300) times above the limit; the PSNR", sentence)
    assert re.search(r"the PSNR furthest below its limit is [\d.]+ dB, in a.onnx, [\d.]+ dB below", sentence)
    text = Page(page_of(near, far)).text.partition("Frames")[0]
    assert f"Error nearest its limit, of the peak 3.0e-02 3.3 times below the limit of 1.0e-01 {LOW}" in text
    assert re.search(rf"PSNR nearest its limit [\d.]+ dB [\d.]+ dB above the limit of 50.0 dB {LOW}", text)
    text = Page(page_of(near)).text.partition("Frames")[0]
    assert re.search("Largest error, of the peak 2.0e-05 [\\d.]+ times below the limit of 1.0e-04 Lowest PSNR", text)


def test_each_row_has_its_own_limit(compared: dict[str, Compared]) -> None:
    """The same error of 0.03 fails in FP32 and passes in FP16; of one scale, each mark is at the row's limit."""
    source = page_of(compared["far"], compared["fp16 far"], compared["fp16 lost"])
    rows = [cells for cells in Page(source).tables["summary"][1:] if len(cells) > 1]
    said = [(cells[0], margin_in(cells[2])) for cells in rows]
    expected = ["failed, (290|300) times above", "failed, (2.9|3.0) times above", "passed, 3.3 times below"]
    for row, one in zip(expected, said, strict=True):
        assert re.fullmatch(f"{row} the limit", ", ".join(one))
    gauges = re.findall(r'<i style="width: ([\d.]+)%"></i><b style="left: ([\d.]+)%">', source)
    far, lost, same = ((float(bar), float(mark)) for bar, mark in gauges)
    assert far[1] < far[0] == same[0] < same[1] == lost[1] < lost[0]
    assert lost[1] - far[1] == pytest.approx(3 * 100 / 6, abs=0.1)  # 1e-4 and 1e-1 on decades from -5 to 1
    titles = re.findall(r'class="key-number">(.*?)</span>$', source, re.M)
    assert [margin_in(re.sub("<.*?>", "", title)) for title in titles] == [margin for _, margin in said]
    page = Page(source)
    limits = "1.0e-04 (interpolator_fp32), 1.0e-01 (interpolator_fp16)."
    assert f"the mark on each is its own limit: {limits}" in page.text
    _, *limits_table = page.tables["limits"]
    assert limits_table == [
        ["interpolator_fp32", "1.0e-04", "90 dB", "none", "none", "none"],
        ["interpolator_fp16", "1.0e-01", "50 dB", "none", "none", "none"],
    ]


def test_rows_follow_the_name_of_their_file(compared: dict[str, Compared]) -> None:
    """A group for each file, runtime and size: what failed comes first."""
    _, *rows = Page(page_of(compared["near"], compared["fp16 lost"])).tables["summary"]
    assert [len(cells) for cells in rows] == [1, 8, 1, 8]
    assert re.fullmatch(rf"failed interpolator FP16 +{LOW} , lost, 64 . 96 torch float32; 1 of 1 failed", rows[0][0])
    assert re.fullmatch(r"passed interpolator a.onnx , near, 64 . 96 torch float32; 1 of 1 feeds passed", rows[2][0])
    assert (rows[1][0], rows[3][0]) == ("failed", "passed")


def test_matrix_of_verdicts(compared: dict[str, Compared]) -> None:
    """A line per file and runtime, failed ones first, a column per size; what has no run has no verdict."""

    def at(name: str, size: tuple[int, int], batch: int = 1, runtime: str = "cpu") -> tuple[Compared, dict[str, Any]]:
        one = compared[name]
        verdict = dataclasses.replace(one.verdict, runtime=runtime)
        return dataclasses.replace(one, verdict=verdict), {"size": size, "batch": batch}

    cases = [
        at("near", (128, 192)),
        at("near", (64, 96), 2),
        at("same", (64, 96)),
        at("near", (64, 96)),
        at("fp16 far", (64, 96), runtime="half"),
        at("fp16 lost", (128, 192), runtime="half"),
        at("fp16 far", (128, 192), runtime="half"),
        at("short", (64, 96), runtime="other"),
        at("nan", (64, 96), runtime="other"),
        at("none", (64, 96), runtime="gpu"),
    ]
    report = report_of(*(one for one, _ in cases))
    changed = zip(report.comparisons, cases, strict=True)
    comparisons = tuple(dataclasses.replace(comparison, **where) for comparison, (_, where) in changed)
    groups = tuple(groups_of(comparisons, STRICT))
    source = html_from_report(dataclasses.replace(report, comparisons=comparisons, groups=groups), {}, FRAMES)
    head, *lines = Page(source).tables["matrix"]
    assert head[2:] == ["64 \u00d7 96", "128 \u00d7 192", "64 \u00d7 96 batch of 2"]
    fp32, fp16 = "90.0 dB 1.0e-04", "50.0 dB 1.0e-01"
    assert [line[:2] for line in lines] == [
        [f"interpolator FP16 {LOW} half", fp16],
        ["interpolator a.onnx other", fp32],
        ["interpolator a.onnx gpu", fp32],
        ["interpolator a.onnx cpu", fp32],
    ]

    psnr = {name: f"{compared[name].verdict.outputs[0].metrics.psnr_db:.1f} dB" for name in ("near", "fp16 lost")}
    far = f"{compared['fp16 far'].verdict.outputs[0].metrics.psnr_db:.1f} dB"
    near = f"passed {psnr['near']} 2.0e-05"
    nothing = "no run"
    assert [line[2:] for line in lines] == [
        [f"passed {far} 3.0e-02", f"failed {psnr['fp16 lost']} 3.0e-01 1 of 2 failed", nothing],
        ["failed n/a not finite 2 of 2 failed 1 without output", nothing, nothing],
        ["not compared why", nothing, nothing],
        [near, near, near],
    ]
    table = source[source.index('<table class="matrix">') : source.index('id="by-size"')]
    links = ["group-4", "comparison-6", "comparison-9", "group-7", "group-3", "group-1", "group-2"]
    assert re.findall('href="#(.*?)"', table) == links


def test_feeds_that_the_recipe_allows_to_fail_are_said(compared: dict[str, Compared]) -> None:
    """The group passes, and every place says that a feed failed all the same."""
    report = report_of(compared["near"], compared["far"])
    verdicts = [dataclasses.replace(one.verdict, runtime="cpu") for one in report.comparisons]
    comparisons = tuple(
        dataclasses.replace(one, verdict=verdict) for one, verdict in zip(report.comparisons, verdicts, strict=True)
    )
    groups = tuple(groups_of(comparisons, ValidateOptions(share=0.5)))
    assert [group.status for group in groups] == ["passed"]
    allowed = dataclasses.replace(report, status="passed", comparisons=comparisons, groups=groups)
    assert "1 of 2 comparisons failed and 1 passed" in sentence_from_report(allowed)
    assert "The recipe allows feeds to fail, and no file has more" in sentence_from_report(allowed)
    assert "The recipe allows" not in sentence_from_report(report)
    page = Page(html_from_report(allowed, {}, FRAMES))
    assert page.tables["matrix"][1][2].endswith("1 of 2 failed, allowed")
    assert page.tables["summary"][1][0].endswith("1 of 2 failed, allowed")
    assert [cells[0] for cells in page.tables["summary"][2:]] == ["failed", "passed"]


def test_a_failure_of_another_limit_is_said(compared: dict[str, Compared]) -> None:
    """SSIM fails what the largest error and the PSNR pass: the sentence and the title say so."""
    one = compared["near"]
    limits = Limits(max_abs=1e-4, psnr_db=90.0, ssim=1.0)
    metrics = dataclasses.replace(one.verdict.outputs[0].metrics, ssim=0.5)
    output = judged("frame", metrics, limits)
    verdict = dataclasses.replace(
        one.verdict, limits=limits, outputs=(output,), status="failed", reasons=output.reasons
    )
    tight = dataclasses.replace(one, verdict=verdict)
    said = "1 output failed by another limit alone, such as: SSIM 0.500000, below 1"
    assert said in sentence_from_report(report_of(tight))
    page = page_of(tight)
    assert re.search('class="key-number">SSIM 0.500000, below 1<', page)
    assert re.findall('data-label="(.*?)" class="number broken"', page) == ["SSIM"]


def test_console_says_limits_and_files(compared: dict[str, Compared], capsys: pytest.CaptureFixture[str]) -> None:
    print_report(report_of(compared["near"], compared["fp16 far"]).as_json(), None)
    out = capsys.readouterr().out
    head, first, second = out.splitlines()[:3]
    assert re.search("^feed +file +runtime +output +PSNR dB +largest error +verdict", head)
    assert " a.onnx " in first
    assert f" {LOW} " in second
    limits = "(interpolator_fp32: 0.0001 of the peak and 90 dB; interpolator_fp16: 0.1 of the peak and 50 dB)"
    assert out.endswith(f"passed: 2 of 2 comparisons with torch, float32, cpu are within their limits {limits}\n")
    print_report(report_of(compared["near"]).as_json(), None)
    out = capsys.readouterr().out
    assert "file" not in out.splitlines()[0]
    assert "within their limits (interpolator_fp32: 0.0001 of the peak and 90 dB)" in out


def test_margin_rounds_towards_the_limit() -> None:
    words = {0.0: "no error", 1e-4: "at the limit", 0.99e-4: "just below the limit", 1.01e-4: "just above the limit"}
    words |= {4.9e-5: "2.0 times below the limit", 0.1: "1,000 times above the limit", float("inf"): "not finite"}
    assert {value: margin(value, 1e-4) for value in words} == words


@pytest.mark.parametrize("name", ["nan", "infinite"])
def test_values_that_are_not_finite(compared: dict[str, Compared], name: str) -> None:
    """They fail, are magenta in every picture, and the page says so."""
    pictures = shown(compared[name])
    assert tuple(pixels(pictures.difference)[PLACE]) == BAD
    assert tuple(pixels(pictures.worst_candidate)[16 * 8, 16 * 8]) == BAD
    assert tuple(pixels(pictures.candidate)[PLACE]) == BAD
    assert re.search("FAILED .* NaN or infinite values", Page(page_of(compared[name])).text)


def test_identical_arrays(compared: dict[str, Compared]) -> None:
    pictures = shown(compared["same"])
    assert pictures.difference_scale == 1
    assert not pixels(pictures.difference)[..., :2].any()  # no error is (0, 0, 4)
    assert re.search("identical .* none, the arrays are equal", Page(page_of(compared["same"])).text)


def test_nothing_comparable_has_no_pictures(compared: dict[str, Compared]) -> None:
    for name in ("none", "short"):
        assert pictures_from_compared(compared[name], SIGNATURES["interpolator"]) is None
    assert "frame is [1, 3, 64, 95]; the reference has [1, 3, 64, 96]" in Page(page_of(compared["short"])).text


def test_features_are_named_and_grey(compared: dict[str, Compared]) -> None:
    pictures = shown(compared["features"], "contextnet", crop=(50, 90))
    assert pictures.caption == "f1: mean of the channels, scaled to its range"
    assert pixels(pictures.reference).shape == (HEIGHT // 2, WIDTH // 2, 3)  # half size: not cropped


@pytest.mark.parametrize("largest", [1.0, 0.99, 4.9e-5, 5e-5, 2e-7, 3.7, 1e4, 1e-38])
def test_amplified_error_is_between_two_fifths_and_one(largest: float) -> None:
    scale = amplification(largest)
    assert 0.4 - 1e-9 <= largest * scale <= 1 + 1e-9
    assert f"{scale:e}"[0] in "125"


def test_difference_is_the_error_times_its_scale(compared: dict[str, Compared]) -> None:
    """An error of 0.03 times 20 is 0.6 of the scale: between the colours of 4/7 and 5/7; all else is black."""
    pictures = shown(compared["far"])
    assert pictures.difference_scale == 20
    y, x = PLACE
    picture = pixels(pictures.difference).astype(int)
    expected = np.array((212, 72, 66)) + (0.6 * 7 - 4) * (np.array((245, 125, 21)) - (212, 72, 66))
    assert np.abs(picture[y, x] - expected).max() <= 4  # half of one of 63 levels
    picture[y, x] = 0
    assert picture[..., :2].max() == 0
    assert pictures.worst_at == ((x + 0.5) / WIDTH, (y + 0.5) / HEIGHT)
    middle = pixels(pictures.worst_difference)[16 * 8 + 4, 16 * 8 + 4]
    assert np.abs(middle - expected).max() <= 4


def test_crop_takes_padding_away(compared: dict[str, Compared]) -> None:
    """The pictures are cropped; the region around the worst pixel, which lies outside, is not."""
    pictures = shown(compared["far"], crop=(15, 90))
    assert pixels(pictures.reference).shape == pixels(pictures.difference).shape == (15, 90, 3)
    assert pictures.worst_at is None
    assert pixels(pictures.worst_difference)[16 * 8, 16 * 8].max() > 100


@pytest.mark.parametrize("bad", [1e-4, np.nan])
@pytest.mark.parametrize("place", [(0, 0), (543, 1001), (1087, 1919)])
def test_one_bad_pixel_of_a_large_frame_is_seen(bad: float, place: tuple[int, int]) -> None:
    """Maximum over each cell: the one pixel of 1088x1920 keeps its colour in 544x960, and no other has any."""
    error = np.zeros((1088, 1920))
    error[place] = bad
    picture = np.asarray(difference_picture(error, 1e4).convert("RGB"))
    assert picture.shape == (544, 960, 3)
    assert tuple(picture[place[0] // 2, place[1] // 2]) == (BAD if np.isnan(bad) else (255, 255, 255))
    assert np.count_nonzero(picture[..., 0]) == 1


def test_large_frame_keeps_a_bad_pixel() -> None:
    frame = np.full((1, 3, 1088, 1920), 0.5, np.float32)
    frame[0, 0, 400, 800] = np.nan
    picture = pixels(drawn.data_uri_from_frame(frame))
    assert picture.shape == (544, 960, 3)
    assert tuple(picture[200, 400]) == BAD


def test_profile_is_one_level_line_per_bin() -> None:
    assert step_path((1.0, 0.0), 2.0) == "M0,100 V50.00 H50.00 V100.00 H100.00"
    assert step_path((1.0, 0.0), 2.0, downwards=True) == "M0,0 H50.00 V50.00 H0.00 V100.00"
