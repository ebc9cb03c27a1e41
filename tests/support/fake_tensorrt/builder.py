"""Parser, builder and configuration: the real ones, with what is parsed kept, plans of their own, and timing caches."""

from __future__ import annotations

import base64
import json
import os
import struct
from pathlib import Path
from typing import Any

import onnx
import tensorrt_rtx as rtx
from onnx.external_data_helper import load_external_data_for_model

_TAG = 0x74727466  # "ftrt": samples/common/sampleEngines.cpp of 10.14 reads it and the version in bytes 24 to 27
_HEADER = struct.Struct("<IIQ8x4B")


class IHostMemory(bytes):
    """A buffer and no more."""

    nbytes = property(bytes.__len__)

    def __bool__(self):
        return True

    def __len__(self):
        raise TypeError("object of type 'IHostMemory' has no len()")

    def __getitem__(self, index):
        raise TypeError("'IHostMemory' object is not subscriptable")


def say(logger, text):
    """Log an error."""
    logger.log(rtx.ILogger.ERROR, text)


def load_onnx(content, path):
    model = onnx.load_model_from_string(bytes(content))
    load_external_data_for_model(model, str(Path(os.fsdecode(path or "")).parent))
    return model


class OnnxParser:
    _trt: Any

    def __init__(self, network, logger):
        self._network, self._real = network, rtx.OnnxParser(network, logger)

    def __getattr__(self, name):
        return getattr(self._real, name)

    def parse(self, model, path=None):
        parsed = self._real.parse(model, path)
        if parsed:  # with the network, whose identity no other one gets while it lives
            self._trt.parsed[id(self._network)] = self._network, load_onnx(model, path)
        return parsed


class ITimingCache:
    def __init__(self, version, entries):
        self._version, self._entries = version, entries

    def serialize(self):
        return IHostMemory(b"ftcache:" + json.dumps([self._version, self._entries]).encode())


class IBuilderConfig:
    _trt: Any

    def __init__(self, real, logger):
        self.__dict__.update(_real=real, _logger=logger, _profiles=[], _cache=None)

    def __getattr__(self, name):
        return getattr(self._real, name)

    def __setattr__(self, name, value):
        if name in self.__dict__:
            self.__dict__[name] = value
        else:
            setattr(self._real, name, value)

    def add_optimization_profile(self, profile):
        self._profiles.append(profile)
        return self._real.add_optimization_profile(profile)

    def create_timing_cache(self, serialized_timing_cache):
        blob = bytes(serialized_timing_cache)
        try:
            version, entries = json.loads(blob.removeprefix(b"ftcache:")) if blob else (self._trt.__version__, {})
        except ValueError:
            # Read of enterprise TensorRT; TensorRT for RTX warns, and gives an empty cache.
            say(self._logger, "createTimingCache: Error Code 1: Serialization (the timing cache is damaged)")
            return None
        return ITimingCache(version, entries)

    def set_timing_cache(self, cache, ignore_mismatch):
        if cache._version != self._trt.__version__ and not ignore_mismatch:
            say(self._logger, f"setTimingCache: the cache is of {cache._version}, this is {self._trt.__version__}")
            return False
        self._cache = cache
        return True

    def get_timing_cache(self):
        return self._cache


class Builder:
    _trt: Any

    def __init__(self, logger):
        self._logger, self._real = logger, rtx.Builder(logger)

    def __getattr__(self, name):
        return getattr(self._real, name)

    def create_builder_config(self):
        return self._trt.IBuilderConfig(self._real.create_builder_config(), self._logger)

    def build_serialized_network(self, network, config):
        flags = [name for name, flag in rtx.BuilderFlag.__members__.items() if config.get_flag(flag)]
        inputs = [network.get_input(index) for index in range(network.num_inputs)]
        free = [one.name for one in inputs if -1 in one.shape]
        if config._cache is not None:
            config._cache._entries["layers"] = network.num_layers
        payload = {
            "version": self._trt.__version__,
            "flags": flags,
            "profiles": [
                {name: [[*shape] for shape in one.get_shape(name)] for name in free} for one in config._profiles
            ],
            "refit": "REFIT" in flags or "REFIT_IDENTICAL" in flags,
            "stripped": "STRIP_PLAN" in flags,
            "error": self._trt.error,
        }
        return plan_from_payload(payload, self._trt.parsed[id(network)][1])


def plan_from_payload(payload, model):
    body = json.dumps({**payload, "model": base64.b64encode(model.SerializeToString()).decode()}).encode()
    version = [*map(int, payload["version"].split(".")), 0, 0, 0, 0][:4]
    return IHostMemory(_HEADER.pack(_TAG, 0, len(body), *(number & 0xFF for number in version)) + body)


def payload_from_plan(plan):
    """Return what the plan was made from; raises ValueError."""
    payload = json.loads(plan[_HEADER.size :])
    return payload, onnx.load_model_from_string(base64.b64decode(payload.pop("model")))
