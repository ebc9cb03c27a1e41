"""Subjects: opened in a runtime, fed from frames, called where they compute."""

import numpy as np
import onnx
import pytest
import torch
from onnx.parser import parse_model

from refine_export.bench import subjects
from refine_export.bench.bench_files import bench_file
from refine_export.bench.subjects import Subject, call_of, feeds_at, open_subject
from refine_export.data.frame_source import Source
from refine_export.errors import RequestError
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.torch import TorchRunner
from tests.support.refusals import refused


@pytest.fixture(scope="module")
def source(pair_at):
    return Source(pair=pair_at(64, 96), at=lambda size: pair_at(*size))


@pytest.fixture(scope="module")
def file(exports):
    return bench_file(exports.fp32("interpolator", architecture="IFNet_m"))


def test_torch_and_a_file_are_opened_from_plain_data_and_agree(file, source):
    weights = {"weights": "seeded", "architecture": "IFNet_m"}
    feeds = feeds_at(file, (1, 64, 96), source, None)
    frames = []
    for subject in (
        Subject(file="torch", mode="eager", graph="interpolator", precision="fp32", checkpoint=weights),
        Subject(file="x", mode="onnxruntime-cpu", graph="interpolator", precision="fp32", path=str(file.path)),
    ):
        assert not subject.for_gpu
        with open_subject(subject) as runner:
            frames.append(call_of(runner, feeds)()["frame"])
    assert np.abs(frames[0] - frames[1]).max() < 1e-4


def test_feeds_are_pictures_in_a_batch_and_flows_come_from_the_network(file, source, exports, references):
    feeds = feeds_at(file, (2, 64, 96), source, None)
    assert {name: array.shape for name, array in feeds.items()} == {
        "img0": (2, 3, 64, 96),
        "img1": (2, 3, 64, 96),
        "timestep": (2, 1, 1, 1),
    }
    assert np.array_equal(feeds["img0"][0], source.pair.img0[0])
    refine = bench_file(exports.fp32("refine"))
    estimated = feeds_at(refine, (1, 64, 96), source, references("IFNet"))
    drawn = feeds_at(refine, (1, 64, 96), source, None)
    assert {name: array.shape for name, array in estimated.items()} == {k: v.shape for k, v in drawn.items()}
    assert not np.array_equal(estimated["flow"], drawn["flow"])


def test_inputs_that_nothing_can_be_made_for_are_refused(source, tmp_path):
    path = tmp_path / "tokens.onnx"
    onnx.save(
        parse_model('<ir_version: 9, opset_import: ["" : 18]> g (int64[4] x) => (int64[4] y) { y = Identity(x) }'), path
    )
    with refused("needs-feeds", RequestError, path=path):
        feeds_at(bench_file(path), (1, 64, 96), source, None)


def test_on_a_gpu_tensors_stay_there_and_each_run_is_waited_for(file, source, references, monkeypatch):
    waits = []
    monkeypatch.setattr(subjects, "gpu_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    feeds = feeds_at(file, (1, 64, 96), source, None)
    with TorchRunner(references("IFNet_m"), "interpolator") as runner:
        monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *to: tensor)
        runner.device = "cuda:0 (NVIDIA H200)"
        monkeypatch.setattr(runner, "run", None)
        call = call_of(runner, feeds)
        call()
        call()
    assert waits == ["cuda:0"] * 2


def test_a_gpu_that_torch_does_not_find_is_fed_from_the_host(file, source, monkeypatch):
    monkeypatch.setattr(subjects, "gpu_name", lambda: None)
    with OrtRunner(file.path) as runner:
        runner.device = "cuda:0 (name not known)"
        monkeypatch.setattr(runner, "run_torch", None)
        assert set(call_of(runner, feeds_at(file, (1, 64, 96), source, None))()) == {"frame"}
