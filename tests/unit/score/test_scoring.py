"""Scoring with interpolators that are known: figures, means, losses, and the log that a run continues from."""

import json
import math

import numpy as np
import pytest

from refine_export.errors import RequestError
from refine_export.score.frame_quality import TrueFrame
from refine_export.score.layouts import data_set_from_folder
from refine_export.score.score_result import losses_beyond, split_scores
from refine_export.score.scoring import Contestant, score_log, score_triplets
from tests.support.data_sets import draw_data_set, drawn_triplet
from tests.support.refusals import refused


class Known:
    """Returns the first frame, brighter by some levels; counts its runs, and may fail at one."""

    provider = "a test"

    def __init__(self, levels=0, fails_at=None):
        self.levels, self.fails_at, self.runs = levels, fails_at, 0

    def interpolate(self, frame0, frame1, timestep):
        self.runs += 1
        assert timestep == 0.5
        if self.runs == self.fails_at:
            raise RequestError("NaN", code="frame-not-finite")
        return np.clip(frame0.astype(int) + self.levels, 0, 255).astype(np.uint8)


def contestant(file, **known):
    return Contestant(
        file=file, runtime="torch" if file == "torch" else "half", interpolator=Known(**known), fingerprint=file * 40
    )


def scored(folder, contestants, log=None):
    triplets = data_set_from_folder(folder).triplets
    done = []
    with score_log(log) as opened:
        scores = list(score_triplets(triplets, contestants, opened, lambda note: None, done.append))
    assert done == list(range(len(triplets) + 1))
    return scores


@pytest.fixture
def folder(tmp_path):
    return draw_data_set(tmp_path / "set", "snu-film", 3)


def test_means_and_losses_are_those_of_the_frames(folder):
    means = split_scores(scored(folder, [contestant("torch"), contestant("other", levels=9)]))
    assert [(one.split, one.file, one.triplets) for one in means][:3] == [
        ("easy", "torch", 3),
        ("easy", "other", 3),
        ("medium", "torch", 3),
    ]
    own, others = [], []
    for seed in range(3):
        first, truth, _ = drawn_triplet(seed)
        brighter = np.clip(first.astype(int) + 9, 0, 255).astype(np.uint8)
        own.append(TrueFrame(truth).quality_of(first))
        others.append(TrueFrame(truth).quality_of(brighter))
    assert means[1].mean.psnr_db == pytest.approx(np.mean([one.psnr_db for one in others]))
    assert means[1].mean.ssim == pytest.approx(np.mean([one.ssim for one in others]))
    losses = [one.psnr_db - other.psnr_db for one, other in zip(own, others, strict=True)]
    assert means[1].loss_db == pytest.approx(np.mean(losses))
    assert (means[1].worst_loss_db, means[0].loss_db) == (pytest.approx(max(losses)), 0.0)
    assert f"clip{int(np.argmax(losses))}" in means[1].worst
    assert not losses_beyond(means, None)
    assert not losses_beyond(means, math.ceil(max(losses)))
    failed = losses_beyond(means, 0.1)
    assert [one.status for one in failed] == ["failed"] * 4


def test_a_run_continues_where_its_log_ends(tmp_path):
    """A line that was cut off is computed again, and none is lost or counted twice."""
    folder = draw_data_set(tmp_path / "clips", "triplets", 3)
    log = tmp_path / "score.jsonl"
    first = scored(folder, [contestant("torch")], log)
    text = log.read_text()
    assert text.count("\n") == 3
    edited = json.dumps(json.loads(text.splitlines()[2]) | {"ssim": "x"}).encode() + b"\n{}\n[]\n"
    log.write_bytes(b"\xff\xfe\n" + b"[" * 99999 + b"\n" + edited + text[: text.rindex("\n", 0, -1) + 20].encode())
    torch, other = contestant("torch"), contestant("other")
    again = scored(folder, [torch, other], log)
    assert (torch.interpolator.runs, other.interpolator.runs) == (1, 3)
    assert [one.quality for one in again if one.contestant is torch] == [one.quality for one in first]
    later = contestant("torch")
    scored(folder, [later], log)
    assert later.interpolator.runs == 0
    (folder / "clip0" / "frame10.png").write_bytes((folder / "clip1" / "frame10.png").read_bytes())
    scored(folder, [later], log)
    assert later.interpolator.runs == 1


def test_what_gives_no_frame_is_not_run_again_and_has_no_mean(folder):
    torch, bad = contestant("torch"), contestant("bad", fails_at=2)
    scores = scored(folder, [torch, bad])
    assert bad.interpolator.runs == 2
    assert sum(one.quality is None for one in scores) == 1
    assert {one.file for one in split_scores(scores)} == {"torch"}


def test_a_log_that_cannot_be_written(folder, tmp_path):
    with refused("cannot-write", RequestError):
        scored(folder, [contestant("torch")], tmp_path / "no" / "score.jsonl")
