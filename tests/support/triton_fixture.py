"""A real Triton server for the tests marked `triton`: set up once, a server or more for each module that asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from triton_server import Server  # scripts/triton_server.py


@pytest.fixture(scope="session")
def triton_installation() -> None:
    """Set the server up, or skip the test with the reason."""
    from triton_setup import CannotServeError, set_up

    try:
        set_up()
    except CannotServeError as error:
        pytest.skip(f"no Triton server here: {error}")


@pytest.fixture(scope="module")
def triton_server(
    triton_installation: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Server]]:
    """Start a server on a repository: `triton_server(repository, ["refine"])`; it ends with the module.

    Close clients that use HTTP before that: the server waits for them.
    """
    from triton_server import serve

    with ExitStack() as stack:

        def start(repository: Path, models: Sequence[str] | None = None) -> Server:
            log = tmp_path_factory.mktemp("triton") / "server.log"
            return stack.enter_context(serve(repository, models, log=log))

        yield start
