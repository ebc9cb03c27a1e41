"""The worst run of each group and the worst failures keep their pictures."""

import dataclasses

import numpy as np
import pytest

from refine_export.data.images import FramePair
from refine_export.report import picture_selection
from refine_export.report.picture_selection import PictureSelection
from tests.support.compared_pages import HEIGHT, WIDTH, report_of


@pytest.fixture(name="runs")
def runs_fixture(compared):
    def made(*names):
        report = report_of(*(compared[name] for name in names))
        return list(zip(report.comparisons, (compared[name] for name in names), strict=True))

    return made


def selected(runs):
    selection = PictureSelection((HEIGHT, WIDTH))
    for comparison, compared in runs:
        selection.add(comparison, compared, own=True)
    return selection


def test_the_worst_of_a_group_replaces_the_others(runs):
    [(same, compared_same), (near, compared_near)] = runs("same", "near")
    near = dataclasses.replace(near, verdict=dataclasses.replace(near.verdict, runtime="same"))
    assert list(selected([(same, compared_same)]).pictures) == [same.key]
    assert list(selected([(same, compared_same), (near, compared_near)]).pictures) == [near.key]
    assert list(selected([(near, compared_near), (same, compared_same)]).pictures) == [near.key]


def test_of_many_failures_the_worst_are_kept(runs, monkeypatch):
    monkeypatch.setattr(picture_selection, "MOST_FAILED", 2)
    [(far, compared)] = runs("far")
    added = []
    for number, limit in enumerate((1e-4, 4e-4, 2e-4, 3e-4)):  # errors of 300, 75, 150 and 100 times the limit
        limits = dataclasses.replace(far.verdict.limits, max_abs=limit)
        added.append(dataclasses.replace(far, key=str(number), verdict=dataclasses.replace(far.verdict, limits=limits)))
    assert sorted(selected([(one, compared) for one in added]).pictures) == ["0", "2"]


def test_a_run_without_an_output_has_no_pictures(runs):
    assert selected(runs("none", "short")).pictures == {}


def test_frames_are_of_the_first_finite_interpolation(runs):
    frame = np.full((1, 3, HEIGHT, WIDTH), 0.5, np.float32)
    pair = FramePair(name="pair", img0=frame, img1=frame, middle=frame)
    frames, notes = selected(runs("nan", "near")).frames(pair)
    assert frames.interpolated is not None
    assert "near" in frames.interpolated_caption
    assert len(notes) == 1
    frames, notes = selected([]).frames(pair)
    assert (frames.interpolated, frames.interpolated_caption, notes) == (None, "", [])
