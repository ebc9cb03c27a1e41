"""ONNX Runtime on a GPU: arrays through bound memory, and tensors bound without a copy; host memory stands in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from refine_export.errors import RequestError, UnavailableError
from refine_export.export.export_options import ExportOptions
from refine_export.export.onnx_from_network import onnx_from_network
from refine_export.runners import onnxruntime as runner_module
from refine_export.runners.onnxruntime import OrtRunner
from tests.support.host_ort import CUDA, Session, feeds_of, gpu_fixture, model_of, tensors_of  # noqa: F401 (fixtures)

# ------------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_arrays_go_in_and_out_through_bound_memory(gpu, provider, dtype):
    with OrtRunner(model_of(dtype={4: "float", 2: "float16"}[dtype().itemsize]), provider=provider) as runner:
        first, second = feeds_of(dtype), feeds_of(dtype, rows=9, seed=1)
        output = runner.run(first)["y"]
        assert (output.dtype, output.flags.writeable) == (dtype, True)
        assert np.array_equal(runner.run(second)["y"], second["a"] + second["b"])
        assert np.array_equal(output, first["a"] + first["b"])  # still
        strided = {name: array[:, ::-1, ::2] for name, array in first.items()}
        assert np.array_equal(runner.run(strided)["y"], strided["a"] + strided["b"])
        assert Session.made[0].events == ["synchronize_inputs", "run", "synchronize_outputs"] * 3
        assert runner._gpu.events == ["after the caller's stream", "the host waits"] * 3


def test_arrays_need_no_torch_with_cuda(gpu, monkeypatch):
    def missing():
        raise UnavailableError("torch finds no CUDA device here")

    monkeypatch.setattr(runner_module, "CudaDevice", missing)
    with OrtRunner(model_of(), provider="cuda") as runner:
        assert Session.made[0].arguments["providers"][0] == (CUDA, {"device_id": "0", "use_tf32": "0"})
        assert runner.device == "cuda:0 (name not known)"
        assert runner._place == ("cuda", 0)
        runner._place = ("cpu", 0)
        assert np.array_equal(runner.run(feeds_of())["y"], sum(feeds_of().values()))
        with pytest.raises(UnavailableError, match="a torch that finds a CUDA device: https://pytorch.org"):
            runner.run_torch(tensors_of(feeds_of()))


def test_what_fails_in_a_run_is_told(gpu):
    body = "size = Constant <value_ints = [7]> () z = Reshape (b, size) w = ReduceSum <keepdims = 0> (z) y = Add (a, w)"
    with OrtRunner(model_of(body), provider="cuda") as runner:
        with pytest.raises(RequestError, match=r"onnxruntime \S+ failed while it ran the graph: .*Reshape"):
            runner.run(feeds_of())
        with pytest.raises(RequestError, match=r"onnxruntime \S+ failed while it ran the graph: .*Reshape"):
            runner.run_torch(tensors_of(feeds_of()))


def test_bfloat16_has_no_array(gpu):
    with OrtRunner(model_of("y = Identity (a) unused = Identity (b)", "bfloat16"), provider="cuda") as runner:
        with pytest.raises(RequestError, match="a is bfloat16, which numpy has not; use run_torch"):
            runner.run({name: SimpleNamespace(shape=(2, 3, 4), dtype="bfloat16") for name in ("a", "b")})
        feeds = {name: tensor.bfloat16() for name, tensor in tensors_of(feeds_of()).items()}
        assert torch.equal(runner.run_torch(feeds)["y"], feeds["a"])


# ------------------------------------------------------------------------------------------- tensors


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_tensors_are_used_where_they_are(gpu, provider):
    with OrtRunner(model_of(), provider=provider) as runner:
        feeds = tensors_of(feeds_of())
        place = torch.zeros(2, 3, 4)
        address = place.data_ptr()
        outputs = runner.run_torch(feeds, {"y": place})
        assert outputs["y"] is place
        assert place.data_ptr() == address
        assert torch.equal(place, feeds["a"] + feeds["b"])
        new = runner.run_torch(feeds)["y"]
        feeds["a"].zero_()
        assert torch.equal(runner.run_torch(feeds)["y"], feeds["b"])
        assert not torch.equal(new, feeds["b"])  # of its own run
        assert runner._gpu.events == ["after the caller's stream", "the caller's stream waits"] * 3


def test_the_run_lies_between_the_streams_waits(gpu):
    with OrtRunner(model_of(), provider="cuda") as runner:
        Session.made[0].events = runner._gpu.events
        runner.run_torch(tensors_of(feeds_of()))
        assert runner._gpu.events == ["after the caller's stream", "run", "the caller's stream waits"]


def test_every_type_is_bound_as_what_it_is(gpu):
    for name, dtype in (("float", torch.float32), ("double", torch.float64), ("int64", torch.int64)):
        with OrtRunner(model_of(dtype=name), provider="cuda") as runner:
            feeds = {key: (tensor * 100).to(dtype) for key, tensor in tensors_of(feeds_of()).items()}
            assert torch.equal(runner.run_torch(feeds)["y"], feeds["a"] + feeds["b"])
    with OrtRunner(model_of("y = And (a, b)", "bool"), provider="cuda") as runner:
        feeds = {key: tensor > 0 for key, tensor in tensors_of(feeds_of()).items()}
        assert torch.equal(runner.run_torch(feeds)["y"], feeds["a"] & feeds["b"])


def test_tensors_are_checked(gpu):
    feeds = tensors_of(feeds_of())
    with OrtRunner(model_of(), provider="cuda") as runner:
        with pytest.raises(RequestError, match=r"feeds are named \['a'\]; this graph takes \['a', 'b'\]"):
            runner.run_torch({"a": feeds["a"]})
        with pytest.raises(RequestError, match="the feed a is float64 .*; expected float32"):
            runner.run_torch(feeds | {"a": feeds["a"].double()})
        with pytest.raises(RequestError, match=r"the feed b .*\[2, 3, 5\]; expected .* with \{'N': 2, 'H': 4\}"):
            runner.run_torch(feeds | {"b": torch.zeros(2, 3, 5)})
        with pytest.raises(RequestError, match=r"a is on meta; expected cpu: use \.to"):
            runner.run_torch(feeds | {"a": feeds["a"].to("meta")})
        with pytest.raises(RequestError, match=r"a has strides \(12, 1, 3\); expected \.contiguous\(\)"):
            runner.run_torch(feeds | {"a": torch.zeros(2, 4, 3).transpose(1, 2)})
        with pytest.raises(RequestError, match=r"outputs are named \['z'\]; this graph has \['y'\]"):
            runner.run_torch(feeds, {"z": torch.zeros(2, 3, 4)})
        with pytest.raises(RequestError, match=r"the output y is float32 \[2, 3, 5\]; expected float32 \[2, 3, 4\]"):
            runner.run_torch(feeds, {"y": torch.zeros(2, 3, 5)})
        with pytest.raises(RequestError, match=r"the output y is float16 .*; expected float32"):
            runner.run_torch(feeds, {"y": torch.zeros(2, 3, 4).half()})
        with pytest.raises(RequestError, match="y is on meta; expected cpu"):
            runner.run_torch(feeds, {"y": torch.zeros(2, 3, 4, device="meta")})
        with pytest.raises(RequestError, match="y has strides"):
            runner.run_torch(feeds, {"y": torch.zeros(2, 4, 3).transpose(1, 2)})
    assert Session.made[0].events == []


def test_an_output_whose_size_the_file_does_not_tell_has_no_place(gpu):
    with OrtRunner(
        model_of("y = NonZero (a) unused = Add (a, b)", "int64", out='3, "found"'), provider="cuda"
    ) as runner:
        feeds = {name: array.round().astype(np.int64) for name, array in feeds_of().items()}
        assert np.array_equal(runner.run(feeds)["y"], np.nonzero(feeds["a"]))
        with pytest.raises(RequestError, match=r"does not tell \['found'\] of the output y before it runs: use run"):
            runner.run_torch(tensors_of(feeds))


def test_the_five_graphs_tell_their_sizes_and_keep_their_stride(gpu, references, tmp_path):
    """Outputs of Contextnet are of half the size and less, which no name of a dimension says."""
    model = onnx_from_network(references("IFNet"), "contextnet", ExportOptions(dynamic=True))
    path = Path(tmp_path / "contextnet.onnx")
    path.write_bytes(model.SerializeToString())
    generator = np.random.default_rng(0)
    feeds = {
        name: generator.uniform(size=(1, channels, 32, 64)).astype(np.float32)
        for name, channels in {"image": 3, "flow": 2}.items()
    }
    with OrtRunner(path, provider="tensorrt") as bound, OrtRunner(path) as plain:
        expected = plain.run(feeds)
        given = bound.run_torch(tensors_of(feeds))
        assert list(given) == list(expected) == ["f1", "f2", "f3", "f4"]
        for name, array in expected.items():
            assert np.array_equal(given[name].numpy(), array), name
        odd = {name: torch.zeros(1, array.shape[1], 32, 40) for name, array in feeds.items()}
        with pytest.raises(RequestError, match="32x40; contextnet takes multiples of 32: pad the frames"):
            bound.run_torch(odd)
