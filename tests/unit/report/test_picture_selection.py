"""The worst run of each group and the worst failures keep their pictures."""

import dataclasses

import numpy as np

from refine_export.data.images import FramePair
from refine_export.report import picture_selection
from refine_export.report.picture_selection import PictureSelection
from tests.support.compared_pages import HEIGHT, WIDTH, compared


def selected(runs):
    selection = PictureSelection((HEIGHT, WIDTH))
    for run in runs:
        selection.add(*run, own=True)
    return selection


def test_the_worst_of_a_group_replaces_the_others():
    [(same, compared_same), (near, compared_near)] = [compared("same"), compared("near")]
    near = dataclasses.replace(near, verdict=dataclasses.replace(near.verdict, runtime="same"))
    assert list(selected([(same, compared_same)]).pictures) == [same.key]
    assert list(selected([(same, compared_same), (near, compared_near)]).pictures) == [near.key]
    assert list(selected([(near, compared_near), (same, compared_same)]).pictures) == [near.key]


def test_of_many_failures_the_worst_are_kept(monkeypatch):
    monkeypatch.setattr(picture_selection, "MOST_FAILED", 2)
    far, arrays = compared("far")
    added = []
    for number, limit in enumerate((1e-4, 4e-4, 2e-4, 3e-4)):  # errors of 300, 75, 150 and 100 times the limit
        limits = dataclasses.replace(far.verdict.limits, max_abs=limit)
        added.append(dataclasses.replace(far, key=str(number), verdict=dataclasses.replace(far.verdict, limits=limits)))
    assert sorted(selected([(one, arrays) for one in added]).pictures) == ["0", "2"]


def test_a_run_without_an_output_has_no_pictures():
    assert selected([compared("none"), compared("short")]).pictures == {}


def test_frames_are_of_the_first_finite_interpolation():
    frame = np.full((1, 3, HEIGHT, WIDTH), 0.5, np.float32)
    pair = FramePair(name="pair", img0=frame, img1=frame, middle=frame)

    def as_frame(how):
        row, one = compared(how)
        outputs = tuple(dataclasses.replace(output, output="frame") for output in one.verdict.outputs)
        actual = one.actual | {"frame": one.actual["residual"]}
        expected = one.expected | {"frame": one.expected["residual"]}
        verdict = dataclasses.replace(one.verdict, outputs=outputs)
        return row, dataclasses.replace(one, verdict=verdict, actual=actual, expected=expected)

    frames, notes = selected([as_frame("nan"), as_frame("near")]).frames(pair)
    assert frames.interpolated is not None
    assert "near" in frames.interpolated_caption
    assert len(notes) == 1
    frames, notes = selected([]).frames(pair)
    assert (frames.interpolated, frames.interpolated_caption, notes) == (None, "", [])
