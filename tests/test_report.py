"""The report says what the verdicts say, shows where the error is, and is one file that needs nothing else."""

import base64
import dataclasses
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from refine_export.checkpoint import describe, seeded_checkpoint
from refine_export.feeds import feeds_for
from refine_export.frames import pair_from_arrays
from refine_export.network import reference_network
from refine_export.report import pictures as drawn
from refine_export.report.data import Artifact, Comparison, Report
from refine_export.report.html import FramePictures, html_from_report, margin, sentence_from_report, step_path
from refine_export.report.pictures import BAD, Pictures, amplification, difference_picture, pictures_from_compared
from refine_export.runners.base import Runner
from refine_export.runners.torch import TorchRunner
from refine_export.scenes import Scene, SceneOptions
from refine_export.signature import SIGNATURES, GraphName
from refine_export.validate import Candidate, Compared, Status, ValidateOptions, overall, validate

Array = NDArray[Any]
HEIGHT, WIDTH = 64, 96
OPTIONS = ValidateOptions()
CHECKPOINT = describe(seeded_checkpoint("refinement"))
VOID = {"meta", "link", "img", "br"}
PLACE = (20, 30)  # y, x of what is spoilt
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
        first[0, 1, *PLACE] += {"nan": np.nan, "infinite": np.inf, "far": 0.03, "near": 2e-5}[self.how]
        return outputs


@pytest.fixture(scope="module")
def compared() -> dict[str, Compared]:
    """`interpolator` at 64x96 against itself, spoilt and whole, and against nothing; `features`: contextnet."""
    network = reference_network(seeded_checkpoint("IFNet"))
    scene = Scene(SceneOptions(height=HEIGHT, width=WIDTH))
    pair = pair_from_arrays("scene", scene.frame(0.0), scene.frame(1.0), scene.frame(0.5))

    def run(graph: GraphName, hows: tuple[str, ...]) -> Iterator[tuple[str, Compared]]:
        runner = TorchRunner(network, graph)
        candidates = [Candidate(runtime=how, runner=Spoilt(runner, how)) for how in hows]
        candidates.append(Candidate(runtime="same", runner=runner))
        candidates.append(Candidate(runtime="none", runner=None, missing="no GPU"))
        feeds = feeds_for(network, graph, pair, kinds=("subpixel",))
        for one in validate(SIGNATURES[graph], runner, candidates, feeds, OPTIONS):
            yield one.verdict.runtime, one

    found = dict(run("interpolator", ("near", "far", "nan", "infinite", "short")))
    return found | {"features": dict(run("contextnet", ()))["same"]}


def report_of(*all_compared: Compared, file: str = "a.onnx", notes: tuple[str, ...] = ()) -> Report:
    def comparison(number: int, one: Compared) -> Comparison:
        graph: GraphName = "contextnet" if "contextnet" in one.verdict.feed else "interpolator"
        about: dict[str, Any] = {"graph": graph, "file": file, "provider": "torch float32", "verdict": one.verdict}
        return Comparison(key=str(number), size=one.feed.size, largest_flow_px=one.feed.largest_flow_px, **about)

    artifact: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(Artifact))
    artifact |= {"file": file, "graph": "interpolator", "sizes": "1x3x64x96", "opset": 18, "nodes": 12, "reused": False}
    artifact |= {"sha256": "ab" * 32, "size_bytes": 12345}
    return Report(
        status=overall(one.verdict.status for one in all_compared),
        tool_version="0.1.0",
        created="2026-01-02T03:04:05+00:00",
        seconds=1.5,
        pair={"name": "scene", "size": [HEIGHT, WIDTH], "sha256": ["12" * 32, "34" * 32]},
        checkpoint=CHECKPOINT,
        reference="torch, float32, cpu",
        thresholds={"max_abs": OPTIONS.max_abs, "psnr_db": OPTIONS.psnr_db},
        artifacts=(Artifact(**artifact),),
        comparisons=tuple(comparison(number, one) for number, one in enumerate(all_compared)),
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
        self.feed(page)
        self.close()
        assert not self.open, f"not closed: {self.open}"
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another tag at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def pixels(uri: str) -> Array:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


def shown(compared: Compared, graph: GraphName = "interpolator", **options: Any) -> Pictures:
    pictures = pictures_from_compared(compared, SIGNATURES[graph], **options)
    assert pictures is not None
    return pictures


def test_page_is_whole_and_needs_nothing_else(compared: dict[str, Compared]) -> None:
    """All tags closed; ids once, links to them; no request, no script; each picture with a text."""
    source = page_of(*compared.values(), notes=("The weights are seeded random weights.",))
    assert not re.search(r"url\(|@import|https?://", source)
    page = Page(source)
    assert {name for name, _ in page.tags}.isdisjoint({"script", "iframe", "object", "embed", "base", "form"})
    for name, attributes in page.tags:
        for key in ("src", "href", "srcset", "poster", "data", "action"):
            assert (attributes.get(key) or "#").startswith(("data:", "#")), (name, attributes)
        assert not [key for key in attributes if key.startswith("on")]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {(link["href"] or "")[1:] for link in page.named("a")} <= set(ids)
    assert all(attributes["alt"] for attributes in page.named("img"))
    assert all(attributes.get("scope") for attributes in page.named("th"))
    assert page.named("html") == [{"lang": "en"}]
    assert "seeded random weights" in page.text.partition("Frames")[0]


def test_file_names_and_messages_are_escaped(compared: dict[str, Compared]) -> None:
    evil = '"><script>alert(1)</script>'
    verdict = dataclasses.replace(compared["none"].verdict, reasons=(evil,), runtime=evil)
    page = page_of(dataclasses.replace(compared["none"], verdict=verdict), file=evil, notes=(evil,))
    assert "<script" not in page
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
