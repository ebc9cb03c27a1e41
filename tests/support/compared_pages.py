"""Comparisons of a network with itself, spoilt and whole, and the pages of their reports, for tests."""

import dataclasses
import functools
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from refine_export.accuracy.limits import Limits
from refine_export.artifacts import Artifact
from refine_export.checkpoint.checkpoint import describe, seeded_checkpoint
from refine_export.data.feeds import feeds_for
from refine_export.data.frame_options import SceneOptions
from refine_export.data.images import FramePair
from refine_export.data.sample_scene import Scene
from refine_export.export.reference_network import reference_network
from refine_export.report.data import Comparison, Report, Shortfall
from refine_export.report.html import html_from_report
from refine_export.report.pictures import FramePictures, pictures_from_compared
from refine_export.runners.base import Runner
from refine_export.runners.torch import TorchRunner
from refine_export.signature import SIGNATURES, FilePrecision, GraphName
from refine_export.validate.comparison import Candidate, Compared, compare_candidates, overall
from tests.support.gate_reports import groups_of

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


@functools.cache
def all_compared() -> dict[str, Compared]:
    """`interpolator` at 64x96 against itself, spoilt and whole, and against nothing; `features`: contextnet.

    `fp16 far` and the like are held to the limits of FP16 files.
    """
    network = reference_network(seeded_checkpoint("IFNet"))
    scene = Scene(SceneOptions(height=HEIGHT, width=WIDTH))
    pair = FramePair("scene", scene.frame(0.0), scene.frame(1.0), scene.frame(0.5))

    def run(
        graph: GraphName, hows: tuple[str, ...], precision: FilePrecision = "fp32"
    ) -> Iterator[tuple[str, Compared]]:
        runner = TorchRunner(network, graph)
        tested = functools.partial(Candidate, file="tested.onnx", limits=LIMITS[precision])
        candidates = [tested(runtime=how, runner=Spoilt(runner, how)) for how in hows]
        candidates.append(tested(runtime="same", runner=runner))
        candidates.append(tested(runtime="none", runner=None, missing="no GPU"))
        feeds = feeds_for(network, graph, pair, kinds=("subpixel",))
        for one in compare_candidates(SIGNATURES[graph], runner, candidates, feeds):
            yield one.verdict.runtime, one

    found = dict(run("interpolator", ("near", "far", "nan", "infinite", "short")))
    found |= {f"fp16 {how}": one for how, one in run("interpolator", ("far", "lost"), "fp16")}
    return found | {"features": dict(run("contextnet", ()))["same"]}


@pytest.fixture(scope="session", name="compared")
def compared_fixture() -> dict[str, Compared]:
    return all_compared()


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
        groups=groups_of(comparisons),
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
