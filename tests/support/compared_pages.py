"""Comparisons of a network with itself, spoilt and whole, and the pages of their reports, for tests."""

import dataclasses
import functools
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from refine_export.accuracy.limits import Limits
from refine_export.checkpoint.checkpoint import describe, seeded_checkpoint
from refine_export.data.feeds import feeds_for
from refine_export.data.frame_options import SceneOptions
from refine_export.data.images import FramePair
from refine_export.data.sample_scene import Scene
from refine_export.export.reference_network import reference_network
from refine_export.report.html import html_from_report
from refine_export.report.pictures import FramePictures, pictures_from_compared
from refine_export.report.report_data import Comparison
from refine_export.runners.base import Runner
from refine_export.runners.torch import TorchRunner
from refine_export.signature import SIGNATURES
from refine_export.validate.comparison import Candidate, compare_candidates
from tests.support import gate_reports

HEIGHT, WIDTH = 64, 96
LIMITS = {"fp32": Limits(max_abs=1e-4, psnr_db=90.0), "fp16": Limits(max_abs=0.1, psnr_db=50.0)}
VOID = {"meta", "link", "img", "br", "input"}
PLACE = (20, 30)  # y, x of what is spoilt
LOW = "a.fp16.onnx"
FRAMES = FramePictures(
    img0="data:,0", img1="data:,1", middle=None, interpolated="data:,2", interpolated_caption="interpolator"
)


class Spoilt(Runner):
    """A runner whose outputs are changed: the first one at PLACE, or the width of all."""

    backend = "torch"

    def __init__(self, inner, how):
        self.inner, self.how = inner, how
        self.version, self.device, self.provider = inner.version, inner.device, inner.provider
        self.inputs, self.outputs = inner.inputs, inner.outputs

    def _run(self, feeds):
        outputs = {name: array.copy() for name, array in self.inner.run(feeds).items()}
        if self.how == "short":
            return {name: array[..., :-1] for name, array in outputs.items()}
        first = outputs[self.inner.outputs[0].name]
        first[0, 1, *PLACE] += {"nan": np.nan, "infinite": np.inf, "lost": 0.3, "far": 0.03, "near": 2e-5}[self.how]
        return outputs


@functools.cache
def all_compared():
    """`interpolator` at 64x96 against itself, spoilt and whole, and against nothing; `features`: contextnet.

    `fp16 far` and the like are judged by the limits of FP16 files.
    """
    network = reference_network(seeded_checkpoint("IFNet"))
    scene = Scene(SceneOptions(height=HEIGHT, width=WIDTH))
    pair = FramePair(name="scene", img0=scene.frame(0.0), img1=scene.frame(1.0), middle=scene.frame(0.5))

    def run(graph, hows, precision="fp32"):
        runner = TorchRunner(network, graph)
        tested = functools.partial(Candidate, file="tested.onnx", limits=LIMITS[precision])
        candidates = [tested(runtime=how, runner=Spoilt(runner, how)) for how in hows]
        candidates.append(tested(runtime="same", runner=runner))
        candidates.append(tested(runtime="none", runner=None, missing="no GPU"))
        feeds = feeds_for(network, SIGNATURES[graph], pair, kinds=("subpixel",))
        return {one.verdict.runtime: one for one in compare_candidates(SIGNATURES[graph], runner, candidates, feeds)}

    found = run("interpolator", ("near", "far", "nan", "infinite", "short"))
    found |= {f"fp16 {how}": one for how, one in run("interpolator", ("far", "lost"), "fp16").items()}
    return found | {"features": run("contextnet", ())["same"]}


@pytest.fixture(scope="session", name="compared")
def compared_fixture():
    return all_compared()


def report_of(*all_compared, file="a.onnx", **more):
    """A report about one FP32 file, and about `LOW` where there are comparisons within the limits of FP16."""
    files = {"fp32": file, "fp16": LOW}
    precisions = ["fp16" if one.verdict.limits == LIMITS["fp16"] else "fp32" for one in all_compared]
    comparisons = [
        Comparison(
            key=str(number),
            graph="contextnet" if "contextnet" in one.verdict.feed else "interpolator",
            file=files[precision],
            size=one.feed.size,
            provider="torch float32",
            largest_flow_px=one.feed.largest_flow_px,
            verdict=one.verdict,
        )
        for number, (one, precision) in enumerate(zip(all_compared, precisions, strict=True))
    ]
    used = dict.fromkeys(precisions or ["fp32"])
    return gate_reports.report_of(
        comparisons,
        artifacts=[gate_reports.artifact(files[precision], precision, "interpolator") for precision in used],
        thresholds={f"interpolator_{precision}": dataclasses.asdict(LIMITS[precision]) for precision in used},
        checkpoint=describe(seeded_checkpoint("refinement")),
        **more,
    )


def page_of(*all_compared, **more):
    report = report_of(*all_compared, **more)
    pictures = {
        comparison.key: pictures_from_compared(one, SIGNATURES[comparison.graph])
        for comparison, one in zip(report.comparisons, all_compared, strict=True)
    }
    return html_from_report(report, {key: found for key, found in pictures.items() if found is not None}, FRAMES)


class Page(HTMLParser):
    """Tags and text of a page; every tag must be closed in order."""

    def __init__(self, page):
        super().__init__()
        self.tags = []
        self.open = []
        self.words = []
        self.tables = {}
        """The text of each cell, by the class of the table; without a class, the last one."""
        self.feed(page)
        self.close()
        assert not self.open, f"not closed: {self.open}"
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.rows = self.tables[dict(attrs).get("class") or ""] = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another tag at {self.getpos()}"

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {data}".strip()

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]
