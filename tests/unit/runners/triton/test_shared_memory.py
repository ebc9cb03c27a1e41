"""Shared memory of a client: names that nobody else has, and a refusal in place of a crash."""

import os

import numpy as np

from refine_export.errors import UnavailableError
from refine_export.runners.triton import shared_memory
from refine_export.runners.triton.shared_memory import SharedTensors, _new_region
from refine_export.runners.triton.transport import Answer, ConnectionFailure
from tests.support.refusals import refused


def test_two_regions_have_two_names():
    regions = [_new_region(64), _new_region(64)]
    for region in regions:
        region.close()
        region.unlink()
    assert regions[0].name != regions[1].name


def test_more_than_is_free_is_refused_before_it_is_written(monkeypatch):
    """Without the check the process ends by SIGBUS at the first page that is missing."""
    state = list(os.statvfs("/"))
    state[4] = 1  # f_bavail
    monkeypatch.setattr(shared_memory.os, "statvfs", lambda _: os.statvfs_result(state))
    with refused("shared-memory-full", UnavailableError, byte_size=64 << 20):
        _new_region(64 << 20)


def test_a_refusal_of_the_system_is_translated(monkeypatch):
    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shared_memory, "SharedMemory", deny)
    with refused("shared-memory-refused", UnavailableError):
        _new_region(64)


class Busy:
    """A server that keeps its first region while a late request runs."""

    def __init__(self):
        self.known, self.late = [], True

    def register(self, name, key, byte_size):
        self.known.append(name)

    def unregister(self, name):
        if self.late:
            raise ConnectionFailure("refused", "it is currently in use")
        self.known.remove(name)

    def infer(self, model, version, inputs, outputs, *, input_slots, output_slots):
        [array] = inputs.values()
        return Answer(layouts={"y": ("float32", array.shape)}, arrays={"y": array + 1})


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
