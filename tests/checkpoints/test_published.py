"""The table of published models: values from the published tables, invariants, errors."""

import json
import re
import urllib.error
from collections import Counter
from pathlib import Path

import pytest
from iopath.common.file_io import HTTPURLHandler, PathManager

from mask2former.checkpoints import published

R50 = "coco/panoptic-segmentation/maskformer2_R50_bs16_50ep"
HOST = "https://dl.fbaipublicfiles.com/maskformer/"


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Downloads fail at once; returns an empty folder that fvcore takes for its cache."""

    def fail(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    manager = PathManager()  # a new one, that remembers no downloads of other tests
    manager.register_handler(HTTPURLHandler())
    monkeypatch.setattr(published, "PathManager", manager)
    monkeypatch.setattr("urllib.request.urlretrieve", fail)
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    monkeypatch.delenv(published.WEIGHTS_DIR_VARIABLE, raising=False)
    return tmp_path


# The table


def test_counts():
    assert len(published.available()) == 59
    tasks = Counter(published.get_entry(name).task for name in published.available())
    assert tasks == {"semantic": 15, "panoptic": 17, "instance": 15, "video": 12}


@pytest.mark.parametrize(
    ("name", "run", "metrics", "checkpoint"),
    [
        (R50, "47430278_4", {"PQ": 51.9, "AP": 41.7, "mIoU": 61.7}, "model_final_94dc52.pkl"),
        (
            "ade20k/instance-segmentation/swin/maskformer2_swin_large_IN21k_384_bs16_160k",
            "49040271_0",
            {"AP": 34.9},
            "model_final_92dae9.pkl",
        ),
        (
            "cityscapes/instance-segmentation/maskformer2_R50_bs16_90k",
            "48267400_8",
            {"AP": 37.4, "AP50": 61.9},
            "model_final_01a8ed.pkl",
        ),
        (
            "mapillary-vistas/panoptic-segmentation/maskformer_R50_bs16_300k",
            "49392417_0",
            {"PQ": 36.3, "mIoU": 50.7},
            "model_final_4e9874.pkl",
        ),
        (
            "ade20k/semantic-segmentation/maskformer2_R101_bs16_90k",
            "48243040_0",
            {"mIoU": 47.8, "mIoU_ms_flip": 50.1},
            "model_final_0d68be.pkl",
        ),
        (
            "youtubevis_2021/swin/video_maskformer2_swin_large_IN21k_384_bs16_8ep",
            "50908813_6",
            {"AP": 52.6},
            "model_final_4da256.pkl",
        ),
    ],
)
def test_rows(name: str, run: str, metrics: dict[str, float], checkpoint: str):
    entry = published.get_entry(name)
    assert (entry.id, entry.metrics, entry.checkpoint) == (run, metrics, checkpoint)


def test_agrees_with_the_published_table(shared: Path):
    rows = re.findall(
        r"^\| \S+\.yaml \|.*\| ([\d./ ]+), (\d+(?:_\d+)?), `(\w{6})` \|$",
        (shared / "reference" / "FACTS.md").read_text(),
        re.MULTILINE,
    )
    expected = [
        ([float(value) for value in metrics.split("/")], run, f"model_final_{digits}.pkl")
        for metrics, run, digits in rows
    ]
    entries = [published.get_entry(name) for name in published.available()]
    ours = [(list(entry.metrics.values()), entry.id, entry.checkpoint) for entry in entries]
    assert ours == expected


def test_models_are_those_that_are_no_fragments(shared: Path):
    inventory = json.loads((shared / "reference" / "config_inventory.json").read_text())
    expected = {row["config"] for row in inventory if not row["fragment"]}
    assert {f"{name}.yaml" for name in published.available()} == expected


def test_every_checkpoint_is_another():
    names = published.available()
    assert len({published.get_entry(name).checkpoint for name in names}) == len(names)
    assert len({published.get_checkpoint_url(name) for name in names}) == len(names)


def test_filters():
    assert published.available("mapillary-vistas", "semantic") == [
        "mapillary-vistas/semantic-segmentation/maskformer2_R50_bs16_300k",
        "mapillary-vistas/semantic-segmentation/swin/maskformer2_swin_large_IN21k_384_bs16_300k",
    ]
    assert len(published.available(task="video")) == 12
    assert published.available("coco", "video") == []
    with pytest.raises(ValueError, match="dataset is one of ade20k, cityscapes, .*got 'lvis'"):
        published.available("lvis")
    with pytest.raises(ValueError, match="task is one of instance, panoptic, .*got 'boxes'"):
        published.available(task="boxes")


@pytest.mark.parametrize(
    ("name", "url"),
    [
        (R50, "mask2former/coco/panoptic/maskformer2_R50_bs16_50ep/model_final_94dc52.pkl"),
        (
            "mapillary-vistas/semantic-segmentation/maskformer2_R50_bs16_300k.yaml",
            "mask2former/mapillary_vistas/semantic/maskformer2_R50_bs16_300k/"
            "model_final_6c66d0.pkl",
        ),
        (
            "youtubevis_2019/video_maskformer2_R50_bs16_8ep",
            "video_maskformer/video_maskformer2_R50_bs16_8ep/model_final_34112b.pkl",
        ),
        (
            "youtubevis_2021/video_maskformer2_R50_bs16_8ep",
            "video_maskformer/video_maskformer2_2021_R50_bs16_8ep/model_final_b8aae2.pkl",
        ),
    ],
)
def test_urls(name: str, url: str):
    assert published.get_checkpoint_url(name) == HOST + url


# Configs


@pytest.mark.parametrize("name", [R50, f"{R50}.yaml"])
def test_config_with_and_without_suffix(name: str):
    assert published.get_config_file(name).endswith(f"/{R50}.yaml")
    assert published.get_config(name).MODEL.WEIGHTS.endswith("torchvision/R-50.pkl")
    url = published.get_checkpoint_url(R50)
    assert url == published.get_config(name, trained=True).MODEL.WEIGHTS


def test_every_published_config_is_there():
    for name in published.available():
        assert Path(published.get_config_file(name)).is_file()


def test_an_installed_package_finds_its_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(published, "_PACKAGE", tmp_path / "mask2former")
    with pytest.raises(FileNotFoundError, match="the configs are missing: .*install the package"):
        published.get_config_file(R50)
    path = tmp_path / "mask2former" / "_configs" / f"{R50}.yaml"
    path.parent.mkdir(parents=True)
    path.touch()
    assert published.get_config_file(R50) == str(path.resolve())


@pytest.mark.parametrize("look_up", [published.get_config_file, published.get_checkpoint_url])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("coco/panoptic/maskformer2_R50_bs16_50ep", f"nearest: .*{R50}"),
        ("maskformer2_R50_bs16_50ep.yaml", f"nearest: .*{R50}"),
        ("Mask R-CNN", r"see available\(\)"),
        ("", r"see available\(\)"),
    ],
)
def test_unknown_names_list_the_nearest(look_up, name: str, hint: str):
    with pytest.raises(ValueError, match=hint) as info:
        look_up(name)
    assert repr(name) in str(info.value)


def test_a_name_cannot_leave_the_folder(tmp_path: Path):
    with pytest.raises(ValueError, match="there is no config"):
        published.get_config_file("../tests/../pyproject")
    (tmp_path / "a.yaml").touch()
    with pytest.raises(ValueError, match="there is no config"):
        published.get_config_file(str(tmp_path / "a.yaml"))


def test_fragments_have_a_config_but_no_checkpoint():
    name = "coco/panoptic-segmentation/Base-COCO-PanopticSegmentation"
    assert published.get_config_file(name).endswith(".yaml")
    with pytest.raises(ValueError, match="no model was published for"):
        published.get_checkpoint_url(name)


# Checkpoints


def test_without_network_says_what_to_get_and_where_to_put_it(offline: Path):
    url = published.get_checkpoint_url(R50)
    with pytest.raises(FileNotFoundError) as info:
        published.get_checkpoint_file(R50)
    message = str(info.value)
    for part in ("no route to host", url, "MASK2FORMER_WEIGHTS_DIR", R50):
        assert part in message
    found = re.search(r"put it at (\S+),", message)
    assert found is not None
    # What the error asks for works.
    place = Path(found[1])
    assert place.is_relative_to(offline)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"weights")
    assert published.get_checkpoint_file(R50) == str(place)


def test_own_folder_comes_first(offline: Path, monkeypatch: pytest.MonkeyPatch):
    path = offline / "own" / "model_final_94dc52.pkl"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    monkeypatch.setenv("MASK2FORMER_WEIGHTS_DIR", str(path.parent))
    assert published.get_checkpoint_file(f"{R50}.yaml") == str(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="cannot be downloaded"):
        published.get_checkpoint_file(R50)


# Names without a folder in MODEL.WEIGHTS


def bare_names() -> list[str]:
    """All that the configs of the package hold."""
    found = set()
    for file in (Path(published.__file__).parents[2] / "configs").rglob("*.yaml"):
        found |= set(re.findall(r"^  WEIGHTS: *\"?([\w.-]+)\"?$", file.read_text(), re.M))
    return sorted(found)


def test_the_names_in_configs_are_known():
    names = bare_names()
    assert {"model_final_3c8ec9.pkl", "R-101.pkl", "swin_tiny_patch4_window7_224.pkl"} < set(names)
    stems = tuple(published._OFFICIAL)
    checkpoints = {entry.checkpoint for entry in published._table().values()}
    assert [n for n in names if n not in checkpoints and not n.startswith(stems)] == []


@pytest.mark.parametrize("name", bare_names())
def test_a_name_in_a_config_is_found_or_the_error_says_what_to_do(
    offline: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.chdir(offline)
    with pytest.raises(FileNotFoundError) as info:
        published.resolve_weights(name)
    assert "MASK2FORMER_WEIGHTS_DIR" in str(info.value) and Path(name).stem in str(info.value)
    own = offline / "own" / name
    own.parent.mkdir()
    own.touch()
    monkeypatch.setenv("MASK2FORMER_WEIGHTS_DIR", str(own.parent))
    assert published.resolve_weights(name) == str(own)
    (offline / name).touch()  # the current folder comes first
    assert published.resolve_weights(name) == name


def test_official_files_do_in_place_of_converted_ones(offline, monkeypatch):
    monkeypatch.chdir(offline)
    (offline / "swin_tiny_patch4_window7_224.pth").touch()
    name = "swin_tiny_patch4_window7_224.pkl"
    assert published.resolve_weights(name) == "swin_tiny_patch4_window7_224.pth"


@pytest.mark.parametrize(
    "path",
    ["", "mine.pth", "a/model_final_3c8ec9.pkl", "detectron2://R-101.pkl", "https://a/b.pkl"],
)
def test_other_paths_stay_as_they_are(offline, monkeypatch, path):
    monkeypatch.chdir(offline)
    assert published.resolve_weights(path) == path
