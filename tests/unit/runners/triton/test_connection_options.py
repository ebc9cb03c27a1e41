"""Options of a connection: an address that is one, and times that are times."""

import pytest

from refine_export.runners.triton.connection_options import ServerOptions


@pytest.mark.parametrize("url", ["localhost:1", "my_host.a-b.example.:8001", "10.0.0.1:80", "[::1]:80"])
def test_addresses(url):
    assert ServerOptions(url=url).url == url


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("url", url) for url in ("http://host:1", "host", "host:x", "host:0", "host:65536", "host:1\n", "user@h:1")),
        ("protocol", "ftp"),
        ("timeout_s", 0),
        ("timeout_s", float("nan")),
        ("patience_s", -1),
    ],
)
def test_wrong_options_are_named(option, value):
    with pytest.raises(ValueError, match=f"^{option} is "):
        ServerOptions(**{"url": "host:1", option: value})
