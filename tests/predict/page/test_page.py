"""The page over its HTTP API: results, limits, what it serves, where it writes and listens."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from mask2former.errors import UserError
from mask2former.formats.video.reading import open_source
from mask2former.predict.page.service import Service
from tests.predict.job.test_videos import write_video
from tests.predict.page.conftest import LIMITS, write_photo

gradio = pytest.importorskip("gradio", reason="Gradio (the extra app) is not installed")
client = pytest.importorskip("gradio_client", reason="Gradio's client is not installed")
httpx = pytest.importorskip("httpx")

from mask2former.predict.page.launching import Address, files_of_page, serve  # noqa: E402
from mask2former.predict.page.layout import add_click, build_page  # noqa: E402

NUMBERS = (0.0, 0.0, 0.0, 0.0)  # thresholds


@contextmanager
def opened(service: Service) -> Iterator[str]:
    """Serve a page in this process, on any free port, for the time of the block."""
    with files_of_page() as folder:
        service.folder = folder
        page = build_page(service)
        try:
            yield serve(page, Address(port=0), LIMITS.upload, wait=False)
        finally:
            page.close(verbose=False)


@pytest.fixture(scope="module")
def url(service: Service) -> Iterator[str]:
    with opened(service) as address:
        yield address


@pytest.fixture(scope="module")
def caller(url: str) -> client.Client:
    return client.Client(url, verbose=False, download_files=False)


def send(path: Path) -> dict:
    return client.handle_file(str(path))


def test_segments_of_a_photo(caller: client.Client, service: Service, photo: Path) -> None:
    found = caller.predict(send(photo), *NUMBERS, api_name="/segment")
    assert found["file_name"] == "photo.png"
    predictor = service.predictor
    with torch.no_grad():
        (prediction,) = predictor.model([predictor.prepare(photo)])
    ids, infos = prediction["panoptic_seg"]
    assert len(found["panoptic"]) == len(infos) > 0
    for segment in found["panoptic"]:
        mask = coco_mask.decode(segment["segmentation"])
        assert np.array_equal(mask, (ids == segment["id"]).numpy())
        assert segment["area"] == mask.sum()
    scores = sorted(segment["score"] for segment in found["instance"])
    expected = prediction["instances"]
    kept = expected.scores[expected.pred_masks.flatten(1).any(1)]
    np.testing.assert_allclose(scores, sorted(kept.tolist()), rtol=1e-6)
    assert sum(segment["area"] for segment in found["semantic"]) == 32 * 40
    high = caller.predict(send(photo), 0.0, 0.0, 1.0, 0.0, api_name="/segment")
    assert high["instance"] == [] and high["panoptic"] == found["panoptic"]


def test_a_video(url: str, tmp_path: Path) -> None:
    caller = client.Client(url, verbose=False, download_files=str(tmp_path / "got"))
    clip = write_video(tmp_path / "clip.mp4", frames=3)
    drawn, tracks = caller.predict(send(clip), *NUMBERS, api_name="/segment_video")
    assert len(list(open_source(drawn))) == 3
    entries = json.loads(Path(tracks).read_text())
    assert {entry["frame"] for entry in entries} == {0, 1, 2}


def test_errors_say_what_to_do_and_name_no_folder(caller: client.Client, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", frames=3)
    as_photo = tmp_path / "clip.jpg"
    as_photo.write_bytes(clip.read_bytes())
    long = write_video(tmp_path / "long.mp4", frames=6)
    large = write_photo(tmp_path / "large.png", 65, 64)
    for path, api_name, message in (
        (as_photo, "/segment", "Cannot read clip.jpg: not an image"),
        (large, "/segment", "large.png: expected 4,096 pixels at most"),
        (long, "/segment_video", "long.mp4: expected a video of 5 frames at most"),
    ):
        with pytest.raises(client.exceptions.AppError) as raised:
            caller.predict(send(path), *NUMBERS, api_name=api_name)
        assert str(raised.value).startswith(message)
        assert str(tmp_path) not in str(raised.value)
    with pytest.raises(client.exceptions.AppError, match="7.0 is greater than maximum value 1"):
        caller.predict(send(large), 0.0, 0.0, 7.0, 0.0, api_name="/segment")


def test_large_uploads_are_refused_while_they_come_in(url: str) -> None:
    content = b"\0" * (LIMITS.upload + 100_000)
    answer = httpx.post(f"{url}gradio_api/upload", files={"files": ("a.png", content)})
    assert answer.status_code == 413
    small = httpx.post(f"{url}gradio_api/upload", files={"files": ("a.png", b"\0" * 1000)})
    assert small.status_code == 200


def test_files_of_this_machine_cannot_be_had(url: str, tmp_path: Path) -> None:
    secret = write_photo(tmp_path / "secret.png")
    assert httpx.get(f"{url}gradio_api/file={secret}").status_code in (403, 404)
    payload = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    call = f"{url}gradio_api/call/segment"
    event = httpx.post(call, json={"data": [payload, *NUMBERS]}).json()["event_id"]
    answer = httpx.get(f"{call}/{event}", timeout=60).text
    assert answer.startswith("event: error") and "panoptic" not in answer


def test_only_the_documented_calls_are_public(caller: client.Client) -> None:
    names = set(caller.view_api(return_format="dict", print_info=False)["named_endpoints"])
    assert names == {"/segment", "/segment_video"}


def test_everything_is_in_one_folder_that_goes_away(
    service: Service, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = service.folder
    with opened(service) as address:
        folder = service.folder
        made = client.Client(address, verbose=False, download_files=False)
        made.predict(send(photo), *NUMBERS, api_name="/segment")
        assert list(folder.rglob("photo.png"))
    service.folder = before
    assert not folder.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"photo.png"}


def test_a_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"cannot listen on 127.0.0.1:{port} .*--port, or 0"):
            Address(port=port).free_port()
    with pytest.raises(UserError, match="cannot listen on 127.0.0.1:70000"):
        Address(port=70000).free_port()


def test_masks_are_named_over_the_api(naming: Service, photo: Path) -> None:
    with opened(naming) as address:
        caller = client.Client(address, verbose=False, download_files=False)
        found = caller.predict(
            send(photo), None, [[3, 2, 20, 10]], *NUMBERS, api_name="/name_masks"
        )
        assert {segment["area"] for segment in found["instance"]} == {17 * 8}
        with pytest.raises(client.exceptions.AppError, match="points need SAM"):
            caller.predict(send(photo), [[5, 5]], None, *NUMBERS, api_name="/name_masks")


def test_two_clicks_make_a_box() -> None:
    state = {"points": [], "boxes": [], "corner": None}
    for tool, x, y in (("point", 1, 2), ("box", 30, 4), ("box", 10, 20), ("box", 5, 5)):
        state, shown = add_click(state, tool, x, y)
        assert shown == state
    assert state == {"points": [[1, 2]], "boxes": [[10, 4, 30, 20]], "corner": [5, 5]}
