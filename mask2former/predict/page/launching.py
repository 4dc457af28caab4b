"""Start a page: where it listens, where it writes, and what it leaves alone."""

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import MissingPackageError, UserError

_OLDEST = (6, 0)  # whose pages need nothing from elsewhere, and can be told not to keep a history
_SESSIONS = 64  # whose images are kept
_OFF = ("share", "enable_monitoring", "mcp_server", "pwa", "run_history", "ssr_mode")


@dataclass(frozen=True)
class Address:
    """Where a page listens.

    Attributes:
        host: "127.0.0.1" for this machine alone, "0.0.0.0" for all that reach it.
        port: 0 for one that is free.
    """

    host: str = "127.0.0.1"
    port: int = 7860

    def free_port(self) -> int:
        """Return the port.

        Raises:
            UserError: it is in use, or not to be had.
        """
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.port))
            except (OSError, OverflowError) as error:
                raise UserError(
                    f"cannot listen on {self.host}:{self.port} ({error}): is another page open "
                    "there? Choose another --port, or 0 for one that is free"
                ) from error
            return probe.getsockname()[1]


def import_gradio() -> Any:
    """Return Gradio; raise MissingPackageError with what to install."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    wanted = ".".join(map(str, _OLDEST))
    command = f"pip install 'gradio>={wanted}', or 'mask2former[app]'"
    try:
        import gradio
    except ModuleNotFoundError as error:
        raise MissingPackageError(f"the page needs Gradio: {command}") from error
    if tuple(map(int, gradio.__version__.split(".")[:2])) < _OLDEST:
        found = gradio.__version__
        raise MissingPackageError(
            f"the page needs Gradio {wanted}, {found} is installed: {command}"
        )
    return gradio


@contextmanager
def files_of_page() -> Iterator[Path]:
    """Lend an empty folder for all files of a page, Gradio's among them, and delete it."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    with tempfile.TemporaryDirectory(prefix="mask2former-page-") as name:
        folder = Path(name).resolve()
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        try:
            yield folder
        finally:
            os.environ.pop("GRADIO_TEMP_DIR")
            if before is not None:
                os.environ["GRADIO_TEMP_DIR"] = before


def serve(page: Any, address: Address, max_upload: int, *, wait: bool = True) -> str:
    """Start a page and return its address.

    Args:
        page: that `build_page` returns, built inside of `files_of_page`.
        max_upload: bytes of a file; larger ones are refused while they come in.
        wait: until it is ended by Ctrl-C.

    Raises:
        UserError: the port is in use.
    """
    gradio = import_gradio()
    # Fonts of the system: the others of Gradio's themes come from elsewhere.
    theme = gradio.themes.Default(font="system-ui", font_mono="ui-monospace")
    _, url, _ = page.launch(
        server_name=address.host,
        server_port=address.free_port(),
        max_file_size=max_upload,
        state_session_capacity=_SESSIONS,
        prevent_thread_lock=True,
        quiet=True,
        theme=theme,
        footer_links=["api"],
        **dict.fromkeys(_OFF, False),
    )
    print(f"The page is at {url} (Ctrl-C ends it)", flush=True)
    if wait:
        page.block_thread()
    return url
