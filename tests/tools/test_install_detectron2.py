"""The detectron2 set-up tool: errors on tiny made-up archives, and the installed patches."""

import csv
import importlib.metadata
import io
import re
import tarfile
import zipfile
from pathlib import Path

import install_detectron2 as tool
import pytest
from detectron2_patches import PATCHES, InstallError, Patch

TOP = "pb1-detectron2-0.6"


def make_archive(path: Path, files: dict[str, str]) -> Path:
    """Write a .tar.gz with ``files``, paths below the top folder unless absolute."""
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name if name.startswith("/") else f"{TOP}/{name}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return path


@pytest.fixture
def sources() -> dict[str, str]:
    """The smallest set of files that every patch applies to."""
    files = {"LICENSE": "licence", "setup.py": "raise SystemExit", "detectron2/__init__.py": ""}
    for source in tool.PROJECTS:
        files[f"{source}/__init__.py"] = ""
    samples = {
        "numpy type aliases": "np.bool np.bool_ np.int64 ",
        "Logger.warn": "self._logger.warn('x')\n",
        "Image.LINEAR": "Image.LINEAR",
        "np.array(copy=False)": "np.array(mask, copy=False)",
        "import of pkg_resources": "import pkg_resources\n",
        "pkg_resources.resource_filename": (
            'pkg_resources.resource_filename(\n        "detectron2.model_zoo", f(p)\n    )'
        ),
        "clear error of nms_rotated": "return torch.ops.detectron2.nms_rotated(boxes)\n",
        "import of the compiled COCOeval": (
            "from detectron2.evaluation.fast_eval_api import COCOeval_opt\n"
        ),
        "COCOeval of pycocotools instead of the compiled one": (
            "(COCOeval_opt if use_fast_impl else COCOeval)"
        ),
    }
    meshgrids = {
        "detectron2/modeling/anchor_generator.py": "torch.meshgrid(shifts_y, shifts_x)",
        "detectron2/projects/panoptic_deeplab/post_processing.py": (
            "torch.meshgrid(\n        torch.arange(width, dtype=d),\n    )"
        ),
    }
    inside = {target: source for source, target in tool.PROJECTS.items()}
    for patch in PATCHES:
        path = patch.path
        for target, source in inside.items():
            path = path.replace(target, source)
        text = samples.get(patch.reason) or meshgrids[patch.path]
        files[path] = files.get(path, "") + text * patch.count
    return files


def test_wheel_holds_patched_files_and_a_correct_record(sources, tmp_path):
    archive = make_archive(tmp_path / "a.tar.gz", sources)
    wheel = tool.write_wheel(archive, tmp_path)
    info = f"detectron2-{tool.VERSION}.dist-info"
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
        record = list(csv.reader(io.StringIO(opened.read(f"{info}/RECORD").decode())))
        masks = opened.read("detectron2/structures/masks.py").decode()
        changes = opened.read(f"{info}/CHANGES.txt").decode()
    assert "setup.py" not in names
    assert "detectron2/projects/deeplab/__init__.py" in names
    assert "detectron2/_C.py" in names
    assert {row[0] for row in record} == names
    assert masks == "bool np.bool_ np.int64 " * 3
    assert all(patch.path in changes for patch in PATCHES)


def test_same_archive_gives_same_wheel(sources, tmp_path):
    archive = make_archive(tmp_path / "a.tar.gz", sources)
    first = tool.write_wheel(archive, tmp_path).read_bytes()
    assert tool.write_wheel(archive, tmp_path).read_bytes() == first


def test_record_has_the_digests_that_pip_checks(sources, tmp_path):
    wheel = tool.write_wheel(make_archive(tmp_path / "a.tar.gz", sources), tmp_path)
    with zipfile.ZipFile(wheel) as opened:
        record = opened.read(f"detectron2-{tool.VERSION}.dist-info/RECORD").decode()
    # sha256 of the seven bytes "licence", base64url without padding, worked out with coreutils
    digest = "sha256=gXiscrKNd_y4UfzTAVgxgr0F2WY-0uyBMeYPBXwnlfc"
    assert f"detectron2-{tool.VERSION}.dist-info/LICENSE,{digest},7" in record


def test_wrong_hash_is_refused(sources, tmp_path, capsys):
    archive = make_archive(tmp_path / "a.tar.gz", sources)
    assert tool.main(["--archive", str(archive), "--wheel-dir", str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert f"expected {tool.SDIST_SHA256}" in message
    assert not (tmp_path / "out").exists()


def test_missing_archive_is_an_error_not_a_traceback(tmp_path, capsys):
    assert tool.main(["--archive", str(tmp_path / "none"), "--wheel-dir", str(tmp_path)]) == 1
    assert str(tmp_path / "none") in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../outside.py", "detectron2/../../outside.py", "/etc/outside"])
def test_member_outside_the_archive_is_refused(name, tmp_path):
    archive = make_archive(tmp_path / "a.tar.gz", {name: "x"})
    with pytest.raises(InstallError, match=r"outside.* is not safe"):
        tool.read_archive(archive)


def test_link_is_refused(tmp_path):
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        link = tarfile.TarInfo(f"{TOP}/detectron2/link.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(InstallError, match=r"link\.py.* is not a plain file"):
        tool.read_archive(archive)


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: f"{patch.path}-{patch.reason}")
def test_patch_that_does_not_apply_stops_with_its_name(patch, sources, tmp_path):
    broken = {
        path: "" if Path(path).name == Path(patch.path).name else text
        for path, text in sources.items()
    }
    files = tool.read_archive(make_archive(tmp_path / "a.tar.gz", broken))
    with pytest.raises(InstallError, match=re.escape(patch.path)):
        tool.lay_out(files, [patch])


def test_file_missing_for_a_patch_and_missing_project_are_named(sources, tmp_path):
    files = tool.read_archive(make_archive(tmp_path / "a.tar.gz", sources))
    with pytest.raises(InstallError, match=r"'why'.* no file detectron2/gone\.py"):
        tool.lay_out(files, [Patch("detectron2/gone.py", "a", "b", 1, "why")])
    without = {path: data for path, data in files.items() if "DeepLab/deeplab" not in path}
    with pytest.raises(InstallError, match="no folder projects/DeepLab/deeplab"):
        tool.lay_out(without)


def test_one_match_too_many_stops_too():
    patch = Patch("a.py", "old", "new", 1, "why")
    assert patch.apply("an old name") == "an new name"
    with pytest.raises(InstallError, match="expected 1 matches of 'old' and found 2"):
        patch.apply("old and old")


def pretend_installed(monkeypatch, version: str) -> list[tuple[str, ...]]:
    """Make the tool see detectron2 ``version`` and return the list that notes its pip calls."""
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(tool.importlib.metadata, "version", lambda name: version)
    monkeypatch.setattr(tool, "pip", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(tool, "check_archive", lambda archive: None)
    return calls


@pytest.mark.parametrize("version", ["0.6", "0.6+cu118", tool.VERSION])
def test_installed_detectron2_is_left_alone(version, monkeypatch, capsys, sources, tmp_path):
    calls = pretend_installed(monkeypatch, version)
    archive = make_archive(tmp_path / "a.tar.gz", sources)
    assert tool.main(["--archive", str(archive)]) == 0
    assert calls == []
    assert f"detectron2 {version} is installed already" in capsys.readouterr().out


def test_our_own_with_older_patches_is_replaced(monkeypatch, sources, tmp_path):
    calls = pretend_installed(monkeypatch, "0.6+pure.0")
    archive = make_archive(tmp_path / "a.tar.gz", sources)
    assert tool.main(["--archive", str(archive)]) == 0
    assert [call[0] for call in calls] == ["install"]


@pytest.fixture
def ours() -> Path:
    """The folder of the detectron2 that this tool installed; skipped beside another build."""
    distribution = importlib.metadata.distribution("detectron2")
    if distribution.version != tool.VERSION:
        pytest.skip(f"detectron2 {distribution.version} was not installed by this tool")
    return Path(str(distribution.locate_file("")))


def test_nothing_that_a_patch_replaces_is_left(ours):
    for patch in PATCHES:
        text = (ours / patch.path).read_text()
        assert re.search(patch.pattern, text) is None, f"{patch.path}: {patch.reason}"


@pytest.mark.usefixtures("ours")
class TestPatchedDetectron2:
    """Each patched call, made on the installed detectron2."""

    def test_numpy_types_in_masks(self):
        import numpy as np
        from detectron2.structures.masks import polygons_to_bitmask

        square = np.array([1.0, 1, 3, 1, 3, 3, 1, 3])
        mask = polygons_to_bitmask([square], 4, 5)
        assert mask.dtype == bool and mask.shape == (4, 5) and mask.sum() == 4

    def test_extent_transform_is_bilinear(self):
        import numpy as np
        from detectron2.data.transforms import ExtentTransform
        from PIL import Image

        transform = ExtentTransform((0, 0, 2, 2), (2, 2))
        assert transform.interp == Image.BILINEAR
        image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
        assert (transform.apply_image(image) == image).all()

    def test_old_mask_pasting(self):
        import torch
        from detectron2.layers.mask_ops import paste_mask_in_image_old

        pasted = paste_mask_in_image_old(torch.ones(4, 4), torch.tensor([1, 1, 2, 2]), 4, 4, 0.5)
        assert pasted.sum() == 4

    def test_anchor_grid_is_row_major(self):
        import torch
        from detectron2.modeling.anchor_generator import _create_grid_offsets

        x, y = _create_grid_offsets([2, 3], 4, 0.0, torch.device("cpu"))
        assert x.tolist() == [0, 4, 8, 0, 4, 8] and y.tolist() == [0, 0, 0, 4, 4, 4]

    def test_model_zoo_finds_its_configs(self):
        from detectron2 import model_zoo

        name = "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml"
        assert model_zoo.get_config(name).MODEL.META_ARCHITECTURE == "PanopticFPN"

    def test_evaluator_needs_no_compiled_part(self):
        from detectron2.evaluation import coco_evaluation

        assert not hasattr(coco_evaluation, "COCOeval_opt")

    def test_compiled_operators_say_what_is_missing(self):
        import torch
        from detectron2 import _C
        from detectron2.layers import nms_rotated
        from detectron2.layers.rotated_boxes import pairwise_iou_rotated

        boxes = torch.tensor([[5.0, 5, 4, 4, 0]])
        with pytest.raises(NotImplementedError, match="nms_rotated is a compiled operator"):
            nms_rotated(boxes, torch.ones(1), 0.5)
        with pytest.raises(NotImplementedError, match="box_iou_rotated is a compiled operator"):
            pairwise_iou_rotated(boxes, boxes)
        assert _C.has_cuda() is False

    def test_environment_report(self):
        from detectron2.utils.collect_env import collect_env_info

        assert "pure Python installation" in collect_env_info()

    def test_semantic_evaluator(self, tmp_path):
        import numpy as np
        import torch
        from detectron2.data import DatasetCatalog, MetadataCatalog
        from detectron2.evaluation import SemSegEvaluator
        from PIL import Image

        Image.fromarray(np.array([[0, 1], [1, 255]], np.uint8)).save(tmp_path / "truth.png")
        record = {"file_name": "a.jpg", "sem_seg_file_name": str(tmp_path / "truth.png")}
        DatasetCatalog.register("install_test", lambda: [record])
        try:
            metadata = MetadataCatalog.get("install_test")
            metadata.set(stuff_classes=["a", "b"], ignore_label=255)
            evaluator = SemSegEvaluator("install_test", distributed=False)
            evaluator.reset()
            scores = torch.zeros(2, 2, 2)
            scores[1, 1] = 1  # the second row is class 1, the first class 0
            evaluator.process([record], [{"sem_seg": scores}])
            # class a: 1 of 2 pixels right, union 2; class b: 1 hit, 1 missed, union 2
            assert evaluator.evaluate()["sem_seg"]["mIoU"] == pytest.approx(50.0)
        finally:
            DatasetCatalog.remove("install_test")
            MetadataCatalog.remove("install_test")
