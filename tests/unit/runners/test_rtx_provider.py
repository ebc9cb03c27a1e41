"""The provider of TensorRT for RTX is registered once and given its devices; what is missing is named."""

from types import SimpleNamespace

import onnxruntime as ort
import pytest

from refine_export.errors import UnavailableError
from refine_export.runners import onnxruntime as module
from refine_export.runners import rtx_provider
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.runners.rtx_provider import add_provider, provider_options
from refine_export.runners.sampler_probe import probe_model


def refused(runtime=ort):
    with pytest.raises(UnavailableError) as caught:
        add_provider(runtime, runtime.SessionOptions())
    assert caught.value.fields["install"] == rtx_provider.INSTALL
    return caught.value


@pytest.fixture(name="plugin")
def plugin_fixture(monkeypatch, tmp_path):
    """A package whose library is not one."""
    library = tmp_path / "libprovider.so"
    library.write_bytes(b"not a library")
    found = SimpleNamespace(get_ep_name=lambda: rtx_provider.NAME, get_library_path=lambda: str(library))
    monkeypatch.setattr(rtx_provider, "import_if_installed", lambda name: found)
    return found


def test_without_the_plugin_it_is_not_built(monkeypatch):
    monkeypatch.setattr(rtx_provider, "import_if_installed", lambda name: None)
    assert refused().code == "provider-not-built"
    with pytest.raises(UnavailableError) as caught:
        OrtRunner(probe_model(), provider="rtx")
    assert caught.value.fields["provider"] == rtx_provider.NAME


def test_an_old_onnxruntime_has_no_plugins(plugin):
    assert refused(SimpleNamespace(__version__="1.22.0", SessionOptions=object)).code == "provider-not-built"


def test_a_plugin_that_does_not_load_says_why(plugin):
    error = refused()
    assert error.code == "provider-not-loaded"
    assert plugin.get_library_path() in error.fields["reason"]


def test_without_an_rtx_gpu_there_is_no_device(plugin, monkeypatch):
    monkeypatch.setattr(rtx_provider, "_register", lambda *given: None)
    error = refused()
    assert (error.code, "0 RTX GPUs" in error.fields["reason"]) == ("provider-not-loaded", True)


def test_a_session_is_made_for_the_devices_of_the_provider(plugin, monkeypatch):
    """ONNX Runtime's own CPU devices stand for it: the calls are those of the real library."""
    monkeypatch.setattr(rtx_provider, "_register", lambda *given: None)
    monkeypatch.setattr(rtx_provider, "NAME", "CPUExecutionProvider")
    monkeypatch.setattr(module, "PROVIDERS", {**module.PROVIDERS, "rtx": "CPUExecutionProvider"})
    monkeypatch.setattr(rtx_provider, "provider_options", lambda *given: {})
    with OrtRunner(probe_model(), provider="rtx") as runner:
        assert runner.provider.startswith("CPUExecutionProvider")


def test_options_have_the_names_of_the_provider():
    assert provider_options(0, None) == {"device_id": "0"}
    assert provider_options(1, 1234) == {
        "device_id": "1",
        "has_user_compute_stream": "1",
        "user_compute_stream": "1234",
    }
