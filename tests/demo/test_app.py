"""The script that opens a page: its options, and what it says where it cannot."""

import socket
import sys
from pathlib import Path

import pytest

from demo import app
from tests.demo.test_demo import CONFIG, SMALL
from tests.engine.conftest import restore_loggers  # noqa: F401 (a fixture that all tests use)

OPTS = ["--opts", *(str(word) for pair in SMALL.items() for word in pair)]


def fails(*args: object) -> None:
    with pytest.raises(SystemExit) as ended:
        app.main(["--config-file", str(CONFIG), *map(str, args), *OPTS], wait=False)
    assert ended.value.code == 2


def test_opens_a_page_and_leaves_nothing(
    photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gradio = pytest.importorskip("gradio", reason="Gradio (the extra app) is not installed")
    seen = {}

    def launch(page: gradio.Blocks, **options: object) -> tuple[None, str, str]:
        seen.update(options, page=page)
        return None, "http://here/", ""

    monkeypatch.setattr(gradio.Blocks, "launch", launch)
    args = ["--config-file", str(CONFIG), "--port", "0", "--max-upload", "3"]
    assert app.main([*args, "--folder", str(photo.parent), *OPTS], wait=False) == 0
    assert "The page is at http://here/" in capsys.readouterr().out
    assert seen["server_name"] == "127.0.0.1" and seen["max_file_size"] == 3 * 2**20
    assert not any(seen[name] for name in ("share", "run_history", "ssr_mode", "mcp_server"))


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gradio", reason="Gradio (the extra app) is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        fails("--port", port)
    error = capsys.readouterr().err
    assert f"app.py: error: cannot listen on 127.0.0.1:{port}" in error and "--port" in error


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--max-upload", 0), "--max-upload is 1 or more, got 0"),
        (("--port", 0, "--folder", "none"), "none: expected a folder of photos, there is none"),
        (("--port", 0, "--sam-weights", "x", "--config-file", "none.yaml"), "none.yaml"),
    ],
)
def test_errors(args: tuple, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gradio", reason="Gradio (the extra app) is not installed")
    fails(*args)
    assert message in capsys.readouterr().err


def test_without_gradio(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    fails()
    assert "the page needs Gradio: pip install 'gradio>=6.0'" in capsys.readouterr().err
