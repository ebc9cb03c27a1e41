"""`serve-page`: a web page that interpolates two pictures or a clip."""

import signal
from pathlib import Path
from typing import Annotated

import typer


def serve_page(
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Weights to choose beside the released ones.")
    ] = None,
    files: Annotated[
        list[Path] | None, typer.Option("--file", help="An ONNX file or an engine to choose; may be repeated.")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port on 127.0.0.1.")] = 7860,
) -> None:
    """Serve a web page on this machine that interpolates pictures or a clip, and compares frames."""
    from refine_export.jobs.serve_page import serve_page as serve

    if hasattr(signal, "SIGPIPE"):  # a browser that goes away in the middle of an answer does not end the server
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def tell(url: str) -> None:
        typer.echo(f"{url} (Ctrl-C ends it)", err=True)

    serve(checkpoint=checkpoint, files=files or (), port=port, on_start=tell)
