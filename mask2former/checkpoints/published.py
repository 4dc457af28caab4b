"""What was published: configs, and the checkpoints and results of the models trained with them.

``published.json`` holds for each config the id of the run, the hash that ends the checkpoint's file
name, and the results on the validation set in percent.
"""

import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import get_cache_dir

from ..config import load_config
from ..config.loading import nearest_names
from ..errors import UserError
from ..formats.json_files import read_json

WEIGHTS_DIR_VARIABLE = "MASK2FORMER_WEIGHTS_DIR"
_PACKAGE = Path(__file__).resolve().parent.parent
_HOST = "https://dl.fbaipublicfiles.com/maskformer"
# ImageNet weights in published configs, by how the names of the files begin.
_OFFICIAL = {
    "R-101.": "torchvision's resnet101 with the weights IMAGENET1K_V1",
    "dat_": "a backbone of github.com/LeapLabTHU/DAT",
    "swin_": "a backbone of github.com/microsoft/Swin-Transformer",
}


@dataclass(frozen=True)
class Entry:
    """A published model.

    Attributes:
        name: of its config, relative to ``configs/`` and without ``.yaml``.
        id: of the training run.
        metrics: results in percent by name: "PQ", "AP", "AP50", "boundary_AP", "mIoU" and
            "mIoU_ms_flip" (several scales and flipping).
        checkpoint: file name of the weights.
    """

    name: str
    id: str
    metrics: dict[str, float]
    checkpoint: str

    @property
    def dataset(self) -> str:
        """Such as "coco" or "youtubevis_2019"."""
        return self.name.partition("/")[0]

    @property
    def task(self) -> str:
        """One of "panoptic", "instance", "semantic" and "video"."""
        folder = self.name.split("/")[1]
        return folder.removesuffix("-segmentation") if folder.endswith("-segmentation") else "video"


def available(dataset: str | None = None, task: str | None = None) -> list[str]:
    """List the published models by the names of their configs.

    Args:
        dataset: "ade20k", "cityscapes", "coco", "mapillary-vistas", "youtubevis_2019" or
            "youtubevis_2021"; None for all.
        task: "panoptic", "instance", "semantic" or "video"; None for all.

    Raises:
        UserError: there is no such dataset or task.
    """
    entries = list(_table().values())
    _check_choice("dataset", dataset, {entry.dataset for entry in entries})
    _check_choice("task", task, {entry.task for entry in entries})
    return [
        entry.name
        for entry in entries
        if dataset in (None, entry.dataset) and task in (None, entry.task)
    ]


def get_entry(name: str) -> Entry:
    """Return what was published for a config, which may be named with or without ``.yaml``.

    Raises:
        UserError: nothing was; names the nearest models.
    """
    entry = _table().get(_stem(name))
    if entry is None:
        raise UserError(f"no model was published for {name!r}{_nearest(name, _table())}")
    return entry


def get_config_file(name: str) -> str:
    """Return the path of a config that comes with the package, published or not.

    Raises:
        UserError: there is no such config; names the nearest ones.
        FileNotFoundError: the configs are missing altogether.
    """
    folder = _config_folder()
    path = folder / f"{_stem(name)}.yaml"
    if not path.is_file() or not path.resolve().is_relative_to(folder):
        known = [_stem(file.relative_to(folder).as_posix()) for file in folder.rglob("*.yaml")]
        raise UserError(f"there is no config {name!r}{_nearest(name, known)}")
    return str(path)


def get_config(name: str, trained: bool = False) -> CfgNode:
    """Read a config of the package.

    Args:
        trained: sets MODEL.WEIGHTS to the URL of the published model; else it stays what training
            starts from.

    Raises:
        UserError: there is no such config, or no published model where ``trained``.
    """
    cfg = load_config(get_config_file(name))
    if trained:
        cfg.MODEL.WEIGHTS = get_checkpoint_url(name)
    return cfg


def get_checkpoint_url(name: str) -> str:
    """Return where the weights of a published model can be downloaded.

    The host and the file names are as published; that the folders between them repeat the config's
    path is inferred (docs/model_zoo.md).

    Raises:
        UserError: nothing was published for this config; names the nearest models.
    """
    entry = get_entry(name)
    stem = entry.name.rpartition("/")[2]
    if entry.task == "video":
        year = entry.dataset.removeprefix("youtubevis_")
        folder = stem if year == "2019" else stem.replace("maskformer2_", f"maskformer2_{year}_", 1)
        return f"{_HOST}/video_maskformer/{folder}/{entry.checkpoint}"
    dataset = entry.dataset.replace("-", "_")
    return f"{_HOST}/mask2former/{dataset}/{entry.task}/{stem}/{entry.checkpoint}"


def get_checkpoint_file(name: str) -> str:
    """Return the weights of a published model as a local file, downloaded where necessary.

    Looks for the file in the folder that the variable MASK2FORMER_WEIGHTS_DIR names, then in the
    cache of fvcore ($FVCORE_CACHE, or ~/.torch/iopath_cache), then downloads into that.

    Raises:
        UserError: nothing was published for this config.
        FileNotFoundError: it is in neither place and cannot be downloaded; says what to get from
            where, and where to put it.
    """
    entry, url = get_entry(name), get_checkpoint_url(name)
    own_folder = os.environ.get(WEIGHTS_DIR_VARIABLE)
    if own_folder and (path := Path(own_folder).expanduser() / entry.checkpoint).is_file():
        return str(path)
    try:
        return PathManager.get_local_path(url)
    except OSError as error:
        cached = os.path.join(get_cache_dir(), urlsplit(url).path[1:])  # as iopath does
        raise FileNotFoundError(
            f"the weights of {entry.name} are not on this machine and cannot be downloaded"
            f" ({error}). Get {url} where there is a network and put it at {cached}, or into"
            f" any folder as {entry.checkpoint} and set {WEIGHTS_DIR_VARIABLE} to that folder"
        ) from error


def resolve_weights(path: str) -> str:
    """Find the file that published configs name in MODEL.WEIGHTS without a folder.

    Those are checkpoints of other published models (video starts from COCO's), which come as from
    `get_checkpoint_file`, and ImageNet weights that users made from official files. A bare name is
    looked for in the current folder, then in that of the variable MASK2FORMER_WEIGHTS_DIR; official
    ``.pth`` files will do in place of the ``.pkl`` that was made of them.

    Returns:
        a local file; ``path`` where it is no bare name, or one that nothing is known about.

    Raises:
        FileNotFoundError: the weights are unavailable; says what to get and where to put it.
    """
    if not path or "/" in path or os.path.dirname(path):
        return path
    folders = (Path(), Path(os.environ.get(WEIGHTS_DIR_VARIABLE) or ".").expanduser())
    for file in (f / name for f in folders for name in (path, path.replace(".pkl", ".pth"))):
        if file.is_file():
            return str(file)
    published = next((entry for entry in _table().values() if entry.checkpoint == path), None)
    if published is not None:
        return get_checkpoint_file(published.name)
    official = next((text for stem, text in _OFFICIAL.items() if path.startswith(stem)), None)
    if official is None:
        return path
    raise FileNotFoundError(
        f"MODEL.WEIGHTS is {path}, which is neither in the current folder nor in one that"
        f" {WEIGHTS_DIR_VARIABLE} names. It holds {official}: get the official file, and put it"
        f" there as {path.replace('.pkl', '.pth')}, or give its path as MODEL.WEIGHTS"
    )


@functools.cache
def _table() -> dict[str, Entry]:
    content = read_json(Path(__file__).with_name("published.json"))
    return {
        name: Entry(name, row["id"], row["metrics"], f"model_final_{row['hash']}.pkl")
        for name, row in content.items()
    }


def _config_folder() -> Path:
    """Return the configs inside an installed package, or those of the checkout."""
    candidates = (_PACKAGE / "_configs", _PACKAGE.parent / "configs")
    for folder in candidates:
        if folder.is_dir():
            return folder.resolve()
    raise FileNotFoundError(
        f"the configs are missing: neither {candidates[0]} nor {candidates[1]} exists;"
        " install the package again"
    )


def _stem(name: str) -> str:
    return name.removesuffix(".yaml")


def _nearest(name: str, known: Iterable[str]) -> str:
    return nearest_names(_stem(name), sorted(known)) or "; see available() for the names"


def _check_choice(argument: str, value: str | None, choices: set[str]) -> None:
    if value is not None and value not in choices:
        raise UserError(f"{argument} is one of {', '.join(sorted(choices))}, got {value!r}")
