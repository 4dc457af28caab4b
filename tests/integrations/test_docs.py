"""The examples of docs/integrations.md run as they stand, where their tools are installed."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from mask2former import Predictor

PAGE = Path(__file__).resolve().parents[2] / "docs/integrations.md"


def examples() -> list[Any]:
    """A case for each block of Python: its heading and its text."""
    found, counts = [], {}
    for section in re.split(r"^#+ ", PAGE.read_text(encoding="utf-8"), flags=re.M)[1:]:
        heading = section.partition("\n")[0]
        for block in re.findall(r"^```python\n(.*?)^```$", section, re.M | re.S):
            counts[heading] = counts.get(heading, 0) + 1
            found.append(pytest.param(block, id=f"{heading}-{counts[heading]}"))
    return found


def tools_of(block: str) -> set[str]:
    """The packages that an example imports."""
    return set(re.findall(r"^(?:from|import) (\w+)", block, re.M))


@pytest.fixture
def namespace(
    predictor: Predictor, results: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """What the first example leaves; the current folder has the files that examples name."""
    monkeypatch.chdir(results)
    return {"predictor": predictor, "cfg": predictor.cfg}


def prepare(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip what cannot run here, and take away windows."""
    if importlib.util.find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed")
    if tool == "fiftyone":
        pytest.skip("FiftyOne's database does not come with its package here")
    if tool == "transformers":
        pytest.skip("the tiny model of the other examples has a backbone that Hugging Face lacks")
    if tool == "napari":
        import napari
        from napari.components import ViewerModel

        monkeypatch.setattr(napari, "Viewer", ViewerModel, raising=False)
        monkeypatch.setattr(napari, "run", lambda: None, raising=False)


@pytest.mark.parametrize("block", examples())
def test_example(block: str, namespace: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in sorted(tools_of(block)):
        prepare(tool, monkeypatch)
    exec(compile(block, str(PAGE), "exec"), namespace)
    check(namespace)


def check(namespace: dict[str, Any]) -> None:
    """Say what the example must have made, by the names that it leaves."""
    folder = Path.cwd()
    if "coco" in namespace:
        assert {entry["category_name"] for entry in namespace["coco"]}
    if "drawn" in namespace:
        assert (namespace["drawn"] != namespace["image"][:, :, ::-1]).any()
    if "sv" in namespace and "tracker" in namespace:
        import av

        with av.open(str(folder / "overlay.mp4")) as video:
            assert sum(1 for _ in video.decode(video=0)) == 3
    if "mask2rle" in namespace:
        import numpy as np
        from label_studio_sdk.converter.brush import decode_rle

        ids = namespace["predictor"]("street.jpg")["panoptic_seg"][0]
        first = namespace["task"]["predictions"][0]["result"][0]["value"]
        mask = decode_rle(first["rle"]).reshape(48, 64, 4)[:, :, 3] > 0
        assert any(np.array_equal(mask, (ids == i).numpy()) for i in ids.unique().tolist())
    if "viewer" in namespace:
        photo, segments = namespace["viewer"].layers
        assert photo.data.shape == (48, 64, 3) and segments.data.shape == (48, 64)
    if "truth" in namespace:
        assert namespace["results"].getImgIds() == [1]
