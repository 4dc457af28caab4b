"""The per-pixel baselines: losses worked out by hand, sizes, and both heads in a whole model."""

import math

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from torch import nn
from torch.testing import assert_close

import mask2former  # noqa: F401, registers the heads
from mask2former.config import add_maskformer2_config
from mask2former.modeling.meta_arch.per_pixel_heads import PerPixelBaselineHead, per_pixel_loss

IGNORE = 255
CLASSES = 3


def two_class_logits(height: int, width: int, difference: float):
    """Logits of two classes: the second is ahead by the difference everywhere."""
    return torch.stack([torch.zeros(height, width), torch.full((height, width), difference)])[None]


def test_loss_by_hand():
    logits = two_class_logits(1, 2, math.log(3))  # probabilities 1/4 and 3/4
    targets = torch.full((1, 4, 8), IGNORE)
    targets[0, 0, :2] = torch.tensor([0, 1])
    want = (math.log(4) + math.log(4 / 3)) / 2
    assert per_pixel_loss(logits, targets, IGNORE).item() == pytest.approx(want)


def test_a_batch_without_any_class_has_no_loss():
    logits = torch.randn(1, 2, 1, 1, requires_grad=True)
    loss = per_pixel_loss(logits, torch.full((1, 4, 4), IGNORE), IGNORE)
    loss.backward()
    assert loss == 0 and not logits.grad.any()


@pytest.mark.parametrize("size", [(5, 6), (7, 9), (8, 12)])
def test_sides_need_not_be_multiples_of_the_stride(size):
    torch.manual_seed(0)
    logits = torch.randn(1, 2, -(-size[0] // 4), -(-size[1] // 4))
    targets = torch.randint(2, (1, *size))
    height, width = (4 * n for n in logits.shape[2:])
    padded = nn.functional.pad(targets, (0, width - size[1], 0, height - size[0]), value=IGNORE)
    got, want = (per_pixel_loss(logits, t, IGNORE) for t in (targets, padded))
    assert_close(got, want)


class GivenFeatures(nn.Module):
    """A pixel decoder whose mask features are the input."""

    def forward_features(self, features):
        return features["res2"], None, []


def test_head_classifies_mask_features():
    head = PerPixelBaselineHead(
        {"res2": ShapeSpec(channels=2, stride=4)},
        num_classes=2,
        pixel_decoder=GivenFeatures(),
        mask_dim=2,
        loss_weight=3.0,
        ignore_value=IGNORE,
    )
    nn.init.dirac_(head.predictor.weight)
    features = {"res2": two_class_logits(2, 3, math.log(3))}
    logits, losses = head.eval()(features)
    assert losses == {} and logits.shape == (1, 2, 8, 12)
    assert_close(logits[:, 1], torch.full((1, 8, 12), math.log(3)))
    result, losses = head.train()(features, torch.zeros(1, 8, 12, dtype=torch.int64))
    assert result is None
    assert losses["loss_sem_seg"].item() == pytest.approx(3 * math.log(4))


def config(head: str, options: dict):
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    options = {
        "MODEL.META_ARCHITECTURE": "SemanticSegmentor",
        "MODEL.DEVICE": "cpu",
        "MODEL.BACKBONE.NAME": "D2SwinTransformer",
        "MODEL.SWIN.EMBED_DIM": 8,
        "MODEL.SWIN.DEPTHS": [1, 1, 1, 1],
        "MODEL.SWIN.NUM_HEADS": [1, 1, 1, 1],
        "MODEL.SEM_SEG_HEAD.NAME": head,
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["res2", "res3", "res4", "res5"],
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": CLASSES,
        "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": IGNORE,
        "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
        "MODEL.SEM_SEG_HEAD.MASK_DIM": 16,
        "MODEL.MASK_FORMER.HIDDEN_DIM": 16,
        "MODEL.MASK_FORMER.DIM_FEEDFORWARD": 16,
        "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": CLASSES,
        "MODEL.MASK_FORMER.DEC_LAYERS": 3,
        **options,
    }
    cfg.merge_from_list([x for item in options.items() for x in item])
    return cfg


PLUS_LOSSES = {"loss_sem_seg", "loss_sem_seg_0", "loss_sem_seg_1"}


@pytest.mark.parametrize(
    "head, options, names",
    [
        ("PerPixelBaselineHead", {}, {"loss_sem_seg"}),
        ("PerPixelBaselinePlusHead", {}, PLUS_LOSSES),
        (
            "PerPixelBaselinePlusHead",
            {"MODEL.MASK_FORMER.DEEP_SUPERVISION": False},
            {"loss_sem_seg"},
        ),
        (
            "PerPixelBaselinePlusHead",
            {"MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE": "pixel_embedding"},
            PLUS_LOSSES,
        ),
        (
            "PerPixelBaselinePlusHead",
            {
                "MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE": "transformer_encoder",
                "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME": "TransformerEncoderPixelDecoder",
            },
            PLUS_LOSSES,
        ),
    ],
)
def test_heads_train_and_predict_in_a_semantic_segmentor(head, options, names):
    torch.manual_seed(0)
    model = build_model(config(head, options))
    batch = [
        {"image": torch.rand(3, 50, 70) * 255, "sem_seg": torch.randint(CLASSES, (50, 70))},
        {"image": torch.rand(3, 40, 75) * 255, "sem_seg": torch.randint(CLASSES, (40, 75))},
    ]
    losses = model.train()(batch)
    assert set(losses) == names
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.sem_seg_head.predictor.parameters())
    with torch.no_grad():
        results = model.eval()([{**batch[0], "height": 25, "width": 35}, batch[1]])
    assert [tuple(r["sem_seg"].shape) for r in results] == [(3, 25, 35), (3, 40, 75)]


def test_plus_needs_one_query_for_each_class():
    cfg = config("PerPixelBaselinePlusHead", {"MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": CLASSES + 1})
    with pytest.raises(ValueError, match="NUM_OBJECT_QUERIES to .*NUM_CLASSES, which is 3; got 4"):
        build_model(cfg)


@pytest.mark.parametrize("head", ["PerPixelBaselineHead", "PerPixelBaselinePlusHead"])
def test_layers_and_losses_of_a_subclass_are_called(head, monkeypatch):
    model = build_model(config(head, {}))
    base = type(model.sem_seg_head)
    plus = head == "PerPixelBaselinePlusHead"

    class Own(base):
        def layers(self, features):
            found = super().layers(features)
            return (found[0] * 0, found[1]) if plus else found * 0

        def losses(self, predictions, targets):
            return {"mine": predictions.abs().sum(), **super().losses(predictions, targets)}

    model.sem_seg_head.__class__ = Own
    image = {"image": torch.rand(3, 32, 64), "sem_seg": torch.randint(CLASSES, (32, 64))}
    losses = model.train()([image])
    layers = ["", "_0", "_1"] if plus else [""]
    assert set(losses) == {f"{name}{s}" for name in ("mine", "loss_sem_seg") for s in layers}
    assert losses["mine"] == 0
    assert losses["loss_sem_seg"].item() == pytest.approx(math.log(CLASSES))
    assert not plus or losses["mine_0"] > 0
    assert not model.eval()([image])[0]["sem_seg"].any()
