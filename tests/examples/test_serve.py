"""The example server: results as those of the predictor, batches, limits, health."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from mask2former import Predictor
from mask2former.predict.page.launching import Address
from tests.integrations.conftest import files, predictor  # noqa: F401 (fixtures)

httpx = pytest.importorskip("httpx")
pytest.importorskip("litserve", reason="LitServe is not installed")
ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def started(
    files: Path,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, subprocess.Popen]]:
    port = Address(port=0).free_port()
    command = [sys.executable, str(ROOT / "examples/serve.py"), "--port", str(port)]
    command += ["--config-file", str(files / "config.yaml"), "--accelerator", "cpu"]
    command += ["--weights", str(files / "model_final.pth"), "--batch", "4", "--wait", "0.2"]
    command += ["--confidence-threshold", "0", "--max-upload", "1", "--max-pixels", "40000"]
    log = tmp_path_factory.mktemp("log") / "server.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=file, stderr=file, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 200
        while not is_up(url):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield url, process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # LitServe's workers, too
        process.wait()


@pytest.fixture
def server(started: tuple[str, subprocess.Popen]) -> str:
    return started[0]


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def post(url: str, content: bytes) -> httpx.Response:
    return httpx.post(f"{url}/predict", files={"image": ("a.jpg", content)}, timeout=100)


def test_many_at_once_get_what_one_gets(
    server: str,
    files: Path,  # noqa: F811
    predictor: Predictor,  # noqa: F811
) -> None:
    content = (files / "street.jpg").read_bytes()
    sent = [content, b"no photo", *[content] * 6]  # which the others of its batch do not feel
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda photo: post(server, photo), sent))
    bad = answers.pop(1)
    assert bad.status_code == 422 and "Cannot read image: not an image" in bad.json()["detail"]
    ids, infos = predictor(files / "street.jpg")["panoptic_seg"]
    for answer in answers:
        assert answer.status_code == 200
        segments = answer.json()["panoptic"]
        assert len(segments) == len(infos)
        for segment in segments:
            mask = coco_mask.decode(segment["segmentation"]).astype(bool)
            assert (mask == (ids == segment["id"]).numpy()).mean() > 0.99  # other batch, rounding


def test_what_is_refused(server: str, files: Path) -> None:  # noqa: F811
    assert post(server, b"\0" * 2_000_000).status_code == 413
    assert httpx.post(f"{server}/predict", data={"other": "a"}).status_code == 422
    for body in ([1], 1, {"image": {"a": 1}}, {"image": [1]}, "image"):
        answer = httpx.post(f"{server}/predict", json=body, timeout=100)
        assert answer.status_code == 422, (body, answer.text)
        assert "expected a form with a file" in answer.text
    Image.fromarray(np.zeros((300, 300, 3), np.uint8)).save(files / "large.png")
    large = post(server, (files / "large.png").read_bytes())
    assert large.status_code == 422 and "too large" in large.text
    assert post(server, (files / "street.jpg").read_bytes()).status_code == 200


def test_sigterm_ends_its_workers_too(started: tuple[str, subprocess.Popen]) -> None:
    _, process = started
    process.terminate()
    process.wait(100)
    deadline = time.monotonic() + 100
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)  # whether any process of it is left
            time.sleep(0.5)
