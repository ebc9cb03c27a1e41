"""Shared memory of a client: names that nobody else has, and a refusal in place of a crash."""

import os

import numpy as np
import pytest

from refine_export.errors import UnavailableError
from refine_export.runners.triton import shared_memory as triton_memory
from refine_export.runners.triton.shared_memory import SharedTensors, _region
from refine_export.runners.triton.transport import Answer, WireError


@pytest.fixture
def regions():
    made = []
    yield made
    for region in made:
        region.close()
        region.unlink()


def test_two_regions_have_two_names(regions):
    regions += [_region(64), _region(64)]
    assert regions[0].name != regions[1].name


def test_more_than_there_is_is_refused_before_it_is_written(monkeypatch):
    """Without the question the process ends by SIGBUS at the first page that is missing."""
    state = list(os.statvfs("/"))
    state[4] = 1  # f_bavail
    monkeypatch.setattr(triton_memory.os, "statvfs", lambda _: os.statvfs_result(state))
    with pytest.raises(
        UnavailableError, match=r"MiB left, and tensors take 64; give the machine or the container more"
    ):
        _region(64 << 20)


def test_what_the_system_refuses_is_said(monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(triton_memory, "SharedMemory", refused)
    with pytest.raises(UnavailableError, match="can't make 64 bytes of shared memory: Permission denied"):
        _region(64)


class Busy:
    """A server that keeps its first region while a late request runs."""

    def __init__(self):
        self.known, self.late = [], True

    def register(self, name, key, byte_size):
        self.known.append(name)

    def unregister(self, name):
        if self.late:
            raise WireError("refused", "it is currently in use")
        self.known.remove(name)

    def infer(self, model, version, inputs, outputs):
        [(array, _)] = inputs.values()
        return Answer(shapes={"y": array.shape}, dtypes={"y": "float32"}, arrays={"y": array + 1})


def test_a_region_that_is_in_use_is_given_back_later():
    server, tensors = Busy(), SharedTensors()
    feeds = {"x": np.zeros(4, np.float32)}
    tensors.infer(server, "m", "", feeds, ["y"])
    tensors.forget(server.unregister)
    assert len(server.known) == 1
    tensors.infer(server, "m", "", feeds, ["y"])
    assert len(server.known) == 2
    server.late = False
    tensors.close(server.unregister)
    assert server.known == []
