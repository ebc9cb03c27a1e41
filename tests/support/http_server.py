"""A server over HTTP that gives the answers a test chooses: Triton's, or those of something else at its address."""

import json
import socketserver
import threading
from contextlib import contextmanager, suppress

import numpy as np

from refine_export.runners.triton.client import TritonClient
from refine_export.runners.triton.connection_options import ServerOptions

SERVER = {"name": "triton", "version": "2.51.0"}
X = {"x": np.arange(12, dtype=np.float32)}
OUTPUT = {"name": "y", "datatype": "FP32", "shape": [12], "parameters": {"binary_data_size": 48}}


def page(body, status="200 OK", **headers):
    """Make an answer over HTTP; a body that is not bytes becomes JSON."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"Content-Length": len(body), **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in named.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def inferred(outputs=(OUTPUT,)):
    """Make the answer of a model that returns `X` as `y`."""
    head = json.dumps({"model_name": "m", "model_version": "1", "outputs": [*outputs]}).encode()
    return page(head + X["x"].tobytes(), Inference_Header_Content_Length=len(head))


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        with suppress(OSError):  # the client has gone
            # The end, an empty line, or what gRPC sends behind its first line.
            while len(words := self.rfile.readline().split()) > 1:
                length = 0
                while (header := self.rfile.readline().strip().lower()) != b"":
                    if header.startswith(b"content-length:"):
                        length = int(header.split(b":")[1])
                self.rfile.read(length)
                self.server.asked.append(words[1].decode())
                self.wfile.write(self.server.answer(self.server.asked[-1]))


class Server(socketserver.ThreadingTCPServer):
    """Answers with the bytes that `answer(path)` returns; `asked` has the paths."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.asked = answer, []

    @property
    def url(self):
        return f"127.0.0.1:{self.server_address[1]}"


@contextmanager
def served(answer):
    with Server(answer if callable(answer) else lambda path: answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def client_at(answer, **options):
    options = {"timeout_s": 60, "patience_s": 60, "protocol": "http", **options}
    with served(answer) as server, TritonClient(ServerOptions(url=server.url, **options)) as client:
        yield client, server
