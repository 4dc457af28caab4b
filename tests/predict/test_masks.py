"""Naming masks of images of any kind, with masks or with prompts for SAM; errors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from PIL import Image

from mask2former.annotations.readers.given_masks import LabelMasks
from mask2former.config import load_config
from mask2former.engine import MaskPredictor
from mask2former.modeling.mask_classifier import SamBackbone, SamPrompts
from tests.engine.conftest import restore_loggers  # noqa: F401 (a fixture that all tests use)
from tests.modeling.mask_classifier.small import SIDE, rectangles, save_tiny_sam

CONFIGS = Path(__file__).resolve().parents[2] / "configs/shapes"
SIZE = (40, 56)
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.TIMM.PRETRAINED": "",
    "MODEL.MASK_FORMER.HIDDEN_DIM": 32,
    "MODEL.MASK_FORMER.DEC_LAYERS": 2,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "MODEL.SEM_SEG_HEAD.MASK_DIM": 32,
    "INPUT.MIN_SIZE_TEST": SIDE,
    "INPUT.MAX_SIZE_TEST": SIDE,
}
SAM = {"MODEL.BACKBONE.NAME": "build_sam_backbone", "MODEL.MASK_FORMER.SIZE_DIVISIBILITY": -1}
MASKS = rectangles((0, 0, 20, 20), (20, 10, 50, 40), size=SIZE)


def config(name: str = "mask-classification", **opts: object) -> CfgNode:
    words = [word for pair in (SMALL | opts).items() for word in pair]
    return load_config(CONFIGS / name / "maskformer2_lite0.yaml", words)


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sam(tmp_path_factory.mktemp("sam"))


@pytest.fixture(scope="module")
def predictor(sam: Path) -> MaskPredictor:
    torch.manual_seed(0)
    return MaskPredictor(config(), array_format="RGB", sam=sam)


def photo(size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


def test_images_and_masks_of_all_kinds(predictor: MaskPredictor, tmp_path: Path):
    Image.fromarray(photo()).save(tmp_path / "a.png")
    expected = predictor(photo(), MASKS)["class_logits"]
    labels = np.zeros(SIZE, np.uint8)
    labels[:20, :20], labels[10:, 20:50] = 3, 4
    for image in (tmp_path / "a.png", Image.fromarray(photo())):
        for masks in (MASKS, MASKS.numpy(), LabelMasks(labels)):
            torch.testing.assert_close(predictor(image, masks)["class_logits"], expected)


def test_prompts(predictor: MaskPredictor):
    result = predictor(photo(), prompts=SamPrompts(points=[(5, 7)], boxes=[(2, 3, 30, 40)]))
    assert result["masks"].shape == (2, *SIZE) and result["masks"].any()
    given = predictor(photo(), result["masks"], scores=result["mask_scores"])
    torch.testing.assert_close(result["class_logits"], given["class_logits"])


def test_order_of_channels_reaches_sam(sam: Path, predictor: MaskPredictor):
    """SAM sees RGB whatever the model and the arrays have."""
    other = MaskPredictor(config(**{"INPUT.FORMAT": "BGR"}), array_format="BGR", sam=sam)
    prompts = SamPrompts(points=[(5, 7), (30, 20), (50, 35)])
    swapped = photo()[:, :, ::-1]
    expected = predictor(photo(), prompts=prompts)["masks"]
    assert torch.equal(other(swapped, prompts=prompts)["masks"], expected)
    assert not torch.equal(predictor(swapped, prompts=prompts)["masks"], expected)


def test_a_backbone_that_is_sam(sam: Path):
    predictor = MaskPredictor(config(**SAM), array_format="RGB", sam=sam)
    assert isinstance(predictor.model.backbone, SamBackbone)
    assert predictor.sam is predictor.model.backbone.sam
    result = predictor(photo(), prompts=SamPrompts(points=[(5, 7)]))
    assert result["masks"].shape == (1, *SIZE)
    tall = photo((300, 33))
    assert predictor(tall, prompts=SamPrompts(points=[(5, 290)]))["masks"].shape == (1, 300, 33)


def test_a_checkpoint_on_features_of_another_sam(sam: Path, tmp_path: Path):
    model = MaskPredictor(config(**SAM), sam=sam).model
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    again = MaskPredictor(config(**SAM), weights=tmp_path / "model.pth", sam=sam)
    learnt = again.model.backbone.pyramid.state_dict()
    torch.testing.assert_close(learnt, model.backbone.pyramid.state_dict(), rtol=0, atol=0)
    assert len(again.model.state_dict()) < len(list(again.model.parameters()))  # without SAM
    other = save_tiny_sam(tmp_path / "other", width=48, layers=6)
    with pytest.raises(
        ValueError, match=r"trained on the features of another SAM .*MODEL.SAM.WEIGHTS"
    ):
        MaskPredictor(config(**SAM), weights=tmp_path / "model.pth", sam=other)


def test_masks_or_prompts(predictor: MaskPredictor):
    for args in ({}, {"masks": MASKS, "prompts": SamPrompts()}):
        with pytest.raises(ValueError, match="expected either masks or prompts"):
            predictor(photo(), **args)


def test_masks_of_another_size(predictor: MaskPredictor):
    with pytest.raises(ValueError, match=r"\(N, 40, 56\) \(height, width\), got \(2, 56, 40\)"):
        predictor(photo(), MASKS.transpose(1, 2))


def test_prompts_that_cannot_be(predictor: MaskPredictor):
    with pytest.raises(ValueError, match="the point 56,7 lies outside of the image"):
        predictor(photo(), prompts=SamPrompts(points=[(56, 7)]))
    without = MaskPredictor(config())
    with pytest.raises(ValueError, match="prompts need SAM"):
        without(photo(), prompts=SamPrompts())


def test_models_that_name_no_masks():
    with pytest.raises(ValueError, match="MaskClassifier, such as .* the config has MaskFormer"):
        MaskPredictor(config("panoptic"))
