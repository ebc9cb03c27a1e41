"""A tab of headless Chromium.

It is driven by its DevTools protocol over a pipe (`--remote-debugging-pipe`: JSON that ends in a NUL, on the file
descriptors 3 and 4), so that what the browser logs is seen.
"""

import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager, suppress

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --remote-debugging-pipe --hide-scrollbars --window-size=1200,900"
)
SECONDS = 60
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: apt-get install chromium")


class Tab:
    """A tab of a browser; what it logs, and its requests but those of files, are in `complaints`."""

    def __init__(self, send, receive):
        self._send, self._receive, self._buffer = send, receive, b""
        self._numbers = itertools.count(1)
        self._session = None
        self._loaded = set()
        self.complaints = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def call(self, method, **params):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            pass
        assert "error" not in answer, f"{method}: {answer}"
        return answer["result"]

    def _next(self):
        """The next answer or event."""
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._receive], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no message from chromium for {SECONDS} s"
            part = os.read(self._receive, 1 << 20)
            assert part, "chromium ended"
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        method, params = message.get("method"), message.get("params", {})
        if method == "Page.lifecycleEvent" and params["name"] == "load":
            self._loaded.add(params["loaderId"])
        request = params.get("request", {}).get("url", "file:") if method == "Network.requestWillBeSent" else "file:"
        logged = method in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        if logged or not request.startswith(("file:", "data:")):
            self.complaints.append(params)
        return message

    def open(self, url):
        page = self.call("Page.navigate", url=url)["loaderId"]  # that of the empty tab may be loaded later than here
        while page not in self._loaded:
            self._next()

    def value(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression):
        """Return the value of an expression as soon as it is true; an element is so by `!!`, as its value is {}."""
        deadline = time.monotonic() + SECONDS
        while not (value := self.value(expression)):
            assert time.monotonic() < deadline, f"not true for {SECONDS} s: {expression}"
            time.sleep(0.1)
        return value

    def give_file(self, expression, path):
        """Put a file into an <input type=file>."""
        element = self.call("Runtime.evaluate", expression=expression)["result"]["objectId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], objectId=element)


@contextmanager
def browser(profile):
    """Start a browser with the folder `profile` as its own, and give its pipes: the arguments of `Tab`."""
    to_read, send = os.pipe()
    receive, to_write = os.pipe()
    command = f'exec "$@" 3<&{to_read} 4>&{to_write}'
    process = subprocess.Popen(
        ["bash", "-c", command, "bash", CHROMIUM, *FLAGS.split(), f"--user-data-dir={profile}"],
        pass_fds=(to_read, to_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(to_read)
    os.close(to_write)
    try:
        yield send, receive
    finally:
        os.close(send)
        os.close(receive)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(SECONDS)
