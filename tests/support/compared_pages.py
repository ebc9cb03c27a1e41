"""Comparisons with their arrays, whole or spoilt at one pixel, and the pages of their reports, for tests."""

import functools
import re
from html.parser import HTMLParser

import numpy as np

from refine_export.accuracy.metrics import compare
from refine_export.data.feeds import Feed
from refine_export.report.html import html_from_report
from refine_export.report.pictures import pictures_from_compared
from refine_export.signature import SIGNATURES
from refine_export.validate.comparison import Candidate, Compared
from tests.support.gate_reports import artifact, comparison, report_of
from tests.support.page_reports import FRAMES

HEIGHT, WIDTH = 64, 96
VOID = {"meta", "link", "img", "br", "input"}
PLACE = (20, 30)  # y, x of what is spoilt
OFF = {"same": 0.0, "near": 2e-5, "far": 0.03, "lost": 0.3, "nan": np.nan, "infinite": np.inf}
FILES = {"fp32": artifact("tested.onnx", "fp32"), "fp16": artifact("tested.fp16.onnx")}


@functools.cache
def compared(how, precision="fp32"):
    """A run of `refine`, without and with its arrays; `short` gives another size, and `none` was not run."""
    expected = np.random.default_rng(0).random((1, 3, HEIGHT, WIDTH), np.float32)
    actual = expected.copy()
    actual[0, 1, *PLACE] += OFF.get(how, 0)
    row = comparison(
        FILES[precision],
        how,
        compare(expected, actual, "residual"),
        runtime=how,
        missing="no GPU" if how == "none" else None,
        refused="residual is of another size" if how == "short" else None,
        size=(HEIGHT, WIDTH),
    )
    candidate = Candidate(file=row.file, limits=row.verdict.limits, runtime=how, runner=None)
    feed = Feed(name=row.verdict.feed, inputs={}, size=row.size, largest_flow_px=None)
    arrays = {"expected": {"residual": expected}, "actual": {"residual": actual}}
    return row, Compared(candidate=candidate, verdict=row.verdict, feed=feed, **arrays)


def page_of(*runs, **more):
    """The page of some runs: `how`, or `(how, precision)`."""
    pairs = [compared(*([run] if isinstance(run, str) else run)) for run in runs]
    files = {row.file for row, _ in pairs} or {FILES["fp32"].file}
    report = report_of(
        [row for row, _ in pairs], artifacts=[one for one in FILES.values() if one.file in files], **more
    )
    pictures = {row.key: pictures_from_compared(one, SIGNATURES["refine"]) for row, one in pairs}
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
