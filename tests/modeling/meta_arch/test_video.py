"""The video model: one frame equals an image, clips of a batch, labels, errors."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances

from mask2former.config import get_config
from mask2former.modeling.meta_arch.video import clip_result
from mask2former.modeling.postprocessing.mergers import Canvas
from tests.modeling.small import NUM_CLASSES, tiny_model, tiny_video_model

from .test_image import image


def clip(frames=2, ids=((4, 8), (4, 8)), classes=((0, 1), (0, 1)), size=(40, 56)):
    """A training clip; -1 as an id says that the object is absent."""
    instances = []
    for t in range(frames):
        frame = Instances(size)
        frame.gt_ids = torch.tensor(ids[t])
        frame.gt_classes = torch.tensor(classes[t])
        masks = torch.zeros(len(ids[t]), *size, dtype=torch.bool)
        for i, number in enumerate(ids[t]):
            if number >= 0:
                masks[i, 4 * i + t : 12, 6 * i : 20 + t] = True
        frame.gt_masks = BitMasks(masks)
        instances.append(frame)
    return {"image": [image(*size, seed=t) for t in range(frames)], "instances": instances}


@torch.no_grad()
def test_one_frame_is_an_image():
    still, video = tiny_model().eval(), tiny_video_model().eval()
    video.load_state_dict(still.state_dict())
    still.panoptic_on = False  # else only things are kept
    result = video([{"image": [image()], "height": 50, "width": 60}])
    instances = still([{"image": image(), "height": 50, "width": 60}])[0]["instances"]
    assert result["image_size"] == (50, 60)
    assert len(result["pred_scores"]) == 10
    best = max(range(10), key=lambda i: result["pred_scores"][i])
    same = [
        torch.equal(mask, result["pred_masks"][best][0]) and label == result["pred_labels"][best]
        for mask, label in zip(instances.pred_masks, instances.pred_classes.tolist())
    ]
    assert any(same)


@torch.no_grad()
def test_clips_of_a_batch_give_a_result_each():
    model = tiny_video_model().eval()
    clips = [{"image": [image(seed=s), image(seed=s + 1)]} for s in (0, 5)]
    results = model(clips)
    assert isinstance(results, list)
    for one, together in zip(clips, results):
        alone = model([one])
        assert together["pred_scores"] == alone["pred_scores"]
        assert all(torch.equal(a, b) for a, b in zip(together["pred_masks"], alone["pred_masks"]))


def test_trains_and_a_frame_axis_reaches_the_targets():
    model = tiny_video_model()
    batch = [clip(), clip()]
    losses = model(batch)
    assert torch.isfinite(sum(losses.values()))
    images = model.preprocess([f for c in batch for f in c["image"]])
    targets = model.prepare_targets(batch, images)
    assert [t["masks"].shape for t in targets] == [(2, 2, 64, 64)] * 2


@pytest.mark.parametrize(("rule", "expected"), [("last_frame", [0, 3]), ("any_frame", [0, 1])])
def test_label_of_an_object_that_is_absent_at_the_end(rule, expected):
    """Its dummy annotation has the class K, which is no-object, and the id -1."""
    model = tiny_video_model(clip_label=rule)
    batch = [clip(ids=((4, 8, -1), (4, -1, -1)), classes=((0, 1, 3), (0, NUM_CLASSES, 3)))]
    images = model.preprocess(batch[0]["image"])
    (target,) = model.prepare_targets(batch, images)
    assert target["labels"].tolist() == expected
    assert target["masks"][1].flatten(1).any(1).tolist() == [True, False]


def test_clip_result_by_hand():
    class_logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.05, 0.05, 0.9]]))
    masks = torch.tensor([[[[1.0, -1.0]], [[-1.0, 1.0]]], [[[1.0, 1.0]], [[1.0, 1.0]]]])
    result = clip_result(class_logits, masks, Canvas((1, 2), (1, 2), (1, 2)))
    assert len(result["pred_scores"]) == 4  # fewer than ten pairs
    best = max(range(4), key=lambda i: result["pred_scores"][i])
    assert result["pred_scores"][best] == pytest.approx(0.7)
    assert result["pred_labels"][best] == 0
    assert result["pred_masks"][best].tolist() == [[[True, False]], [[False, True]]]


def test_errors():
    with pytest.raises(ValueError, match="CLIP_LABEL is 'first'"):
        tiny_video_model(clip_label="first")
    with pytest.raises(ValueError, match="has 1 frames, the model is built for 2"):
        tiny_video_model()([clip(frames=1)])


@pytest.mark.parametrize(
    ("architecture", "decoder", "message"),
    [
        (
            "VideoMaskFormer",
            "MultiScaleMaskedTransformerDecoder",
            "is VideoMaskFormer, but the decoder Multi.* is for MaskFormer: set .* to VideoMulti.*,"
            " or MODEL.META_ARCHITECTURE to MaskFormer",
        ),
        (
            "MaskFormer",
            "VideoMultiScaleMaskedTransformerDecoder",
            "is MaskFormer, but the decoder Video.* is for VideoMaskFormer: set .* to Multi.*, or "
            "MODEL.META_ARCHITECTURE to VideoMaskFormer",
        ),
    ],
)
def test_a_decoder_of_the_other_kind_is_refused(architecture, decoder, message):
    cfg = get_config()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = architecture
    cfg.MODEL.SEM_SEG_HEAD.NAME = "MaskFormerHead"
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["res4"]
    cfg.MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE = "multi_scale_pixel_decoder"
    cfg.MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME = decoder
    with pytest.raises(ValueError, match=message):
        build_model(cfg)


def test_ignored_pixels_reach_the_targets_and_the_losses():
    model = tiny_video_model(point_seed=0)
    ignored = torch.zeros(40, 56, dtype=torch.bool)
    ignored[:20] = True
    plain, changed = clip(), clip() | {"ignore": [ignored, torch.zeros_like(ignored)]}
    images = model.preprocess(changed["image"])
    (target,) = model.prepare_targets([changed], images)
    assert target["ignore"].shape == (2, 64, 64)
    assert target["ignore"][0, :20, :56].all() and not target["ignore"][0, 20:40, :56].any()
    assert not target["ignore"][1, :40, :56].any()
    assert target["ignore"][:, 40:].all() and target["ignore"][:, :, 56:].all()
    losses = [model([x])["loss_mask"] for x in (plain, changed)]
    assert losses[0] != losses[1]


def test_same_parameters_as_the_image_model():
    assert list(tiny_video_model().state_dict()) == list(tiny_model().state_dict())
