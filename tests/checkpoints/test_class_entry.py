"""The classes in checkpoints: written, read, and compared with those of the data."""

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from mask2former.checkpoints.checkpointer import Checkpointer
from mask2former.checkpoints.storage.weights_io import load_weights, save_weights
from mask2former.classes import Classes

SAVED = Classes(("cat", "dog"), (0, 1), ((1, 2, 3), (4, 5, 6)))


class State:
    """Stands for a trainer."""

    def state_dict(self) -> dict[str, int]:
        return {"step": 3}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.loaded = state


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    Checkpointer(nn.Linear(2, 2), str(tmp_path), classes=SAVED, trainer=State()).save("a")
    return str(tmp_path / "a.pth")


def test_every_checkpoint_names_the_classes(checkpoint: str) -> None:
    entry = torch.load(checkpoint, weights_only=True)["classes"]
    colors = [[1, 2, 3], [4, 5, 6]]
    assert entry == {"names": ["cat", "dog"], "thing_ids": [0, 1], "colors": colors}
    assert Classes.from_checkpoint(Checkpointer.read(checkpoint)) == SAVED
    assert Checkpointer(nn.Linear(2, 2)).load(checkpoint, [])["classes"] == entry


def test_checkpoints_without_names(tmp_path: Path) -> None:
    Checkpointer(nn.Linear(2, 2), str(tmp_path)).save("a")
    assert "classes" not in torch.load(tmp_path / "a.pth", weights_only=True)


@pytest.mark.parametrize("suffix", ["pth", "pkl", "safetensors"])
def test_files_of_weights_may_name_the_classes(tmp_path: Path, suffix: str) -> None:
    path, weights = tmp_path / f"a.{suffix}", {"w": torch.ones(2)}
    for classes in (SAVED, Classes(("犬", "1"))):
        save_weights(weights, path, author="me", classes=classes)
        loaded, rest = load_weights(path)
        assert Classes.from_checkpoint(rest) == classes and rest["__author__"] == "me"
        assert torch.equal(loaded["w"], weights["w"])
    save_weights(weights, path)
    assert "classes" not in load_weights(path)[1]


def test_content_that_was_read_is_not_read_again(checkpoint: str) -> None:
    content = Checkpointer.read(checkpoint)
    Path(checkpoint).unlink()
    model = nn.Linear(2, 2)
    rest = Checkpointer(model, classes=SAVED).load(checkpoint, content=content)
    assert torch.equal(model.weight, content["model"]["weight"]) and "model" not in rest


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("cat", "dog"), None),
        (("cat", "cow"), "only in the data: cow; only in the checkpoint: dog"),
        (("dog", "cat"), "at other positions (in the data, in the checkpoint): dog (0, 1), cat"),
        (("cat", "dog", "cow"), "only in the data: cow."),
    ],
)
def test_fine_tuning_says_once_which_classes_are_others(
    checkpoint: str, caplog: pytest.LogCaptureFixture, names: tuple[str, ...], message: str | None
) -> None:
    own = Checkpointer(nn.Linear(2, 2), classes=Classes(names), trainer=State())
    with caplog.at_level(logging.WARNING, "mask2former"):
        own.load(checkpoint, checkpointables=[])
    said = [r.getMessage() for r in caplog.records if "other classes" in r.getMessage()]
    assert len(said) == (message is not None)
    assert message is None or (message in said[0] and said[0].startswith(checkpoint))


@pytest.mark.parametrize("names", [("dog", "cat"), ("cat", "dog", "cow"), ("dog", "cow")])
def test_resuming_needs_the_same_places(checkpoint: str, names: tuple[str, ...]) -> None:
    own = Checkpointer(nn.Linear(2, 2), classes=Classes(names), trainer=State())
    before = {key: value.clone() for key, value in own.model.state_dict().items()}
    expected = r"set MODEL.CLASSES.NAMES to \['cat', 'dog'\], or start anew without --resume"
    with pytest.raises(ValueError, match=expected):
        own.load(checkpoint)
    assert all(torch.equal(before[key], value) for key, value in own.model.state_dict().items())


def test_resuming_with_a_new_name_in_the_same_place(
    checkpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    state = State()
    own = Checkpointer(nn.Linear(2, 2), classes=Classes(("cat", "hound")), trainer=state)
    own.load(checkpoint)
    assert state.loaded == {"step": 3}
    assert "only in the data: hound; only in the checkpoint: dog" in caplog.text
