"""Hugging Face's EoMT: same outputs with the same weights in both directions, for both families."""

import json

import pytest
import torch

from mask2former import Predictor, load_config
from mask2former.checkpoints.bridges import convert
from mask2former.checkpoints.bridges.check import compare_huggingface
from mask2former.checkpoints.bridges.eomt import to_huggingface
from mask2former.checkpoints.bridges.eomt_config import from_eomt_config
from mask2former.checkpoints.bridges.folders import family_of, read_as_checkpoint
from mask2former.checkpoints.checkpointer import Checkpointer
from mask2former.checkpoints.storage.weights_io import load_weights
from mask2former.errors import UserError

transformers = pytest.importorskip("transformers")
pytest.importorskip("timm")
from tests.checkpoints.bridges.small_eomt import small_eomt  # noqa: E402  # needs transformers

KINDS = ["eomt", "eomt_dinov3"]
PROBS = {"masks": [1.0, 1.0], "half": [0.0, 1.0], "none": [0.0, 0.0]}


def save(model, folder, labels=("sky", "cat", "dog"), things=(1, 2), **preprocessor):
    """Write a folder as transformers does, with names of classes."""
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {name: i for i, name in enumerate(labels)}
    if things:
        model.config.thing_ids = list(things)
    model.save_pretrained(folder)
    sizes = {"shortest_edge": 64, "longest_edge": 64}
    options = {"size": sizes, "do_pad": True} | preprocessor
    transformers.EomtImageProcessor(**options).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("probs", PROBS)
@pytest.mark.parametrize("size", [(64, 64), (32, 128), (128, 32)])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_those_of_transformers(kind, size, probs, tmp_path):
    """Of images that are no squares, too: their grid must have as many patches as the position
    table, which transformers does not resize."""
    theirs = small_eomt(kind)
    theirs.attn_mask_probs.copy_(torch.tensor(PROBS[probs]))
    save(theirs, tmp_path)
    theirs.grid_size = (size[0] // 16, size[1] // 16)
    content = read_as_checkpoint(tmp_path)
    cfg = from_eomt_config(json.loads((tmp_path / "config.json").read_text()), {})
    cfg.MODEL.EOMT.IMAGE_SIZE = list(size)
    ours = convert.build_on_cpu(cfg)
    ours.load_state_dict(content["model"])
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = theirs(images), ours.predict(images)
    shown = found["pred_masks"] > 0
    assert 0.1 < shown.float().mean() < 0.9  # there is something to mask
    torch.testing.assert_close(
        found["pred_logits"], expected.class_queries_logits, rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(
        found["pred_masks"], expected.masks_queries_logits, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(kind, tmp_path):
    theirs = small_eomt(kind, num_register_tokens=0 if kind == "eomt" else 4)
    save(theirs, tmp_path / "hf")
    model, cfg = convert.huggingface_to_ours(tmp_path / "hf", tmp_path / "ours.safetensors")
    beside = load_config(tmp_path / "ours.yaml")
    assert beside == cfg
    differences = compare_huggingface(model, tmp_path / "hf", torch.randn(1, 3, 64, 64))
    assert all(d.largest < 1e-4 * max(d.scale, 1) for d in differences)
    convert.ours_to_huggingface(str(tmp_path / "ours.safetensors"), tmp_path / "back", beside)
    before, _ = load_weights(tmp_path / "hf" / "model.safetensors")
    after, _ = load_weights(tmp_path / "back" / "model.safetensors")
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    first, second = (json.loads((tmp_path / f / "config.json").read_text()) for f in ("hf", "back"))
    ignored = {"transformers_version", "dtype", "initializer_range", "layerscale_value"}
    ignored |= {f"pos_embed_{name}" for name in ("shift", "jitter", "rescale")}
    assert {k: second.get(k) for k in first.keys() - ignored} == {
        k: v for k, v in first.items() if k not in ignored
    }
    assert second["thing_ids"] == [1, 2]
    weights = model.state_dict() | {"sem_seg_head.pilot.weight": torch.ones(4, 3)}
    assert set(to_huggingface(weights, kind)) == set(after)  # what only training needs stays behind
    compare_huggingface(model, tmp_path / "back", torch.randn(1, 3, 64, 64))


def test_a_folder_is_a_checkpoint_and_brings_its_classes(tmp_path):
    save(small_eomt("eomt_dinov3"), tmp_path)
    cfg = from_eomt_config(json.loads((tmp_path / "config.json").read_text()), {})
    assert cfg.MODEL.MASK_FORMER.TEST.PANOPTIC_ON
    cfg.MODEL.CLASSES.NAMES, cfg.MODEL.CLASSES.THING_IDS = [], []
    predictor = Predictor(cfg, weights=tmp_path, device="cpu")
    assert predictor.metadata.stuff_classes == ["sky", "cat", "dog"]
    assert predictor.metadata.thing_classes == ["cat", "dog"]
    model = convert.build_on_cpu(cfg)
    report = Checkpointer(model)
    report.load(str(tmp_path))
    assert not report.report.missing and not report.report.unexpected


def test_preprocessing_is_that_of_transformers(tmp_path):
    """Panoptic: resized to the side of a square and padded with black."""
    processor = transformers.EomtImageProcessor.from_pretrained(save(small_eomt("eomt"), tmp_path))
    _, cfg = convert.huggingface_to_ours(tmp_path, tmp_path / "ours.pth")
    image = torch.randint(0, 256, (32, 64, 3), dtype=torch.uint8)
    theirs = processor(image.numpy(), return_tensors="pt")["pixel_values"]
    predictor = Predictor(cfg, str(tmp_path / "ours.pth"), device="cpu", array_format="RGB")
    ours = predictor.model.preprocess([predictor.prepare(image.numpy())["image"]]).tensor
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_semantic_windows_are_those_of_transformers(tmp_path):
    model = small_eomt("eomt")
    size = {"shortest_edge": 64, "longest_edge": None}
    save(model, tmp_path, things=(), size=size, do_pad=False, do_split_image=True)
    processor = transformers.EomtImageProcessor.from_pretrained(tmp_path)
    _, cfg = convert.huggingface_to_ours(tmp_path, tmp_path / "ours.pth")
    predictor = Predictor(cfg, str(tmp_path / "ours.pth"), device="cpu", array_format="RGB")
    image = torch.randint(0, 256, (64, 150, 3), dtype=torch.uint8).numpy()
    inputs = processor(image, return_tensors="pt")
    with torch.no_grad():
        outputs = model(inputs["pixel_values"])
    outputs.patch_offsets = inputs["patch_offsets"]
    expected = processor.post_process_semantic_segmentation(outputs, target_sizes=[(64, 150)])[0]
    scores = predictor(image)["sem_seg"]
    assert (scores.argmax(0) == expected).float().mean() > 0.999


@pytest.mark.parametrize(
    "changes",
    [
        {"patch_size": 8},
        {"patch_size": 32, "num_upscale_blocks": 3},
        {"num_upscale_blocks": 0},
        {"num_upscale_blocks": 1, "num_register_tokens": 0},
        {"hidden_size": 40, "num_attention_heads": 5},
        {"num_blocks": 4, "num_queries": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", KINDS)
def test_other_sizes(kind, changes, tmp_path):
    save(small_eomt(kind, **changes), tmp_path)
    model, _ = convert.huggingface_to_ours(tmp_path, tmp_path / "ours.safetensors")
    differences = compare_huggingface(model, tmp_path, torch.randn(1, 3, 64, 64))
    assert all(d.largest < 1e-4 * max(d.scale, 1) for d in differences)


@pytest.mark.parametrize("key", ["hidden_size", "image_size", "num_attention_heads", "patch_size"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_size_is_0(kind, key):
    """Which in keys of ours stands for the size that timm has."""
    with pytest.raises(UserError, match=f"{kind}: {key}: expected a value such as .*, got 0"):
        from_eomt_config({"model_type": kind, key: 0}, {})


def test_odd_image_processors():
    given = {"model_type": "eomt"}
    for size in (64, "x", [64, 64]):
        with pytest.raises(UserError, match="size: expected shortest_edge and longest_edge"):
            from_eomt_config(given, {"size": size})
    with pytest.raises(UserError, match="do_split_image: expected a value such as False"):
        from_eomt_config(given, {"do_split_image": "no"})
    cfg = from_eomt_config(given, {"size": {"shortest_edge": None, "longest_edge": 0}})
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) == (640, 640)


def test_what_cannot_be_converted_is_named(tmp_path):
    with pytest.raises(UserError, match="mask2former or eomt or eomt_dinov3, got 'maskformer'"):
        family_of({"model_type": "maskformer"})
    with pytest.raises(UserError, match="use_swiglu_ffn: False alone can be converted"):
        from_eomt_config({"model_type": "eomt", "use_swiglu_ffn": True}, {})
    other = {"rope_theta": 50, "rope_type": "default"}
    for rope in ({"rope_parameters": other}, {"rope_scaling": other}, {"rope_theta": 50.0}):
        with pytest.raises(UserError, match=r"rope_theta: 100\.0 alone"):
            from_eomt_config({"model_type": "eomt_dinov3"} | rope, {})
    save(small_eomt("eomt"), tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(content | {"model_type": "eomt_dinov3"}))
    with pytest.raises(UserError, match="of the kind eomt_dinov3; no counterpart for embeddings"):
        read_as_checkpoint(tmp_path)


def test_a_vit_that_transformers_has_not_is_refused(tmp_path):
    save(small_eomt("eomt"), tmp_path / "hf")
    _, cfg = convert.huggingface_to_ours(tmp_path / "hf", tmp_path / "ours.pth")
    cfg.MODEL.TIMM.NAME = "vit_tiny_patch16_224"  # without layer scales
    cfg.MODEL.EOMT.REGISTERS = -1
    model = convert.build_on_cpu(cfg)
    torch.save({"model": model.state_dict()}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="eomt has no counterpart for this ViT"):
        convert.ours_to_huggingface(str(tmp_path / "other.pth"), tmp_path / "out", cfg)
    assert not (tmp_path / "out").exists()
