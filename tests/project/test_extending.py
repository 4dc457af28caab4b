"""The examples of docs/extending.md: parts registered from outside the package work as it says."""

from __future__ import annotations

import importlib
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from detectron2.modeling import BACKBONE_REGISTRY, SEM_SEG_HEADS_REGISTRY
from detectron2.structures import Instances
from torch import Tensor, nn

from mask2former import load_config
from mask2former.engine import build_model, build_optimizer
from mask2former.modeling import TRANSFORMER_DECODER_REGISTRY

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
PARTS_OF_MODELS, METHODS = TEXT.split("## Methods to override")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(PARTS_OF_MODELS)
PYTHON = [code for language, code in BLOCKS if language == "python"]
*PARTS, USE, TRAIN_SCRIPT = PYTHON
(YAML,) = (code for language, code in BLOCKS if language == "yaml")

TINY = [
    *("MODEL.DEVICE", "cpu", "MODEL.SEM_SEG_HEAD.CONVS_DIM", 32, "MODEL.SEM_SEG_HEAD.MASK_DIM", 16),
    *("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", 1, "MODEL.MASK_FORMER.HIDDEN_DIM", 32),
    *("MODEL.MASK_FORMER.DIM_FEEDFORWARD", 16, "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", 5),
    *("MODEL.MASK_FORMER.DEC_LAYERS", 2, "MODEL.MASK_FORMER.TRAIN_NUM_POINTS", 32),
    *("MODEL.SWIN.EMBED_DIM", 8, "MODEL.SWIN.DEPTHS", [1] * 4, "MODEL.SWIN.NUM_HEADS", [2] * 4),
]
OWN = {
    "MODEL.BACKBONE.NAME": "PlainPyramid",
    "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME": "TopDownSum",
    "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME": "OneLook",
}
PUBLISHED = {
    "MODEL.BACKBONE.NAME": "D2SwinTransformer",
    "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME": "MSDeformAttnPixelDecoder",
    "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME": "MultiScaleMaskedTransformerDecoder",
}
AUX_LAYERS = {"OneLook": 0, "MultiScaleMaskedTransformerDecoder": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    """A folder outside of the package, as the page describes it."""
    path = tmp_path_factory.mktemp("project")
    (path / "my_parts.py").write_text("\n".join(PARTS))
    (path / "my_models.py").write_text("\n".join(code for _, code in BLOCK.findall(METHODS)))
    (path / "train_mine.py").write_text(TRAIN_SCRIPT)
    (path / "my.yaml").write_text(YAML)
    (path / "configs").symlink_to(ROOT / "configs")
    sys.path.insert(0, str(path))
    yield path
    sys.path.remove(str(path))


@pytest.fixture(scope="module")
def my_parts(folder: Path) -> ModuleType:
    return importlib.import_module("my_parts")


@pytest.fixture(scope="module")
def my_models(folder: Path) -> ModuleType:
    return importlib.import_module("my_models")


def parts_of(model: nn.Module) -> list[nn.Module]:
    head = model.sem_seg_head
    return [model.backbone, head.pixel_decoder, head.predictor]


def one_target() -> dict[str, Tensor | Instances]:
    """An image of odd size with one object."""
    target = Instances((40, 70))
    target.gt_classes = torch.tensor([2])
    target.gt_masks = torch.zeros(1, 40, 70, dtype=torch.bool)
    target.gt_masks[0, 10:30, 20:60] = True
    image = torch.randint(0, 256, (3, 40, 70), generator=torch.Generator().manual_seed(0))
    return {"image": image.to(torch.uint8), "instances": target}


def test_classes_are_registered_by_the_import(my_parts: ModuleType):
    for registry, name in zip(
        (BACKBONE_REGISTRY, SEM_SEG_HEADS_REGISTRY, TRANSFORMER_DECODER_REGISTRY), OWN.values()
    ):
        assert registry.get(name) is getattr(my_parts, name)


def test_the_config_of_the_page_names_all_three(folder: Path):
    cfg = load_config(folder / "my.yaml")
    assert cfg.MODEL.BACKBONE.NAME == "PlainPyramid"
    assert cfg.MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME == "TopDownSum"
    assert cfg.MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME == "OneLook"


@pytest.mark.parametrize("own", [[key] for key in OWN] + [list(OWN)], ids=[*OWN.values(), "all"])
def test_each_alone_and_all_together_predict_and_train(folder, my_parts, own):
    names = PUBLISHED | {key: OWN[key] for key in own}
    opts = [*TINY, *(word for pair in names.items() for word in pair)]
    cfg = load_config(folder / "my.yaml", opts)
    torch.manual_seed(0)
    model = build_model(cfg)
    assert [type(part).__name__ for part in parts_of(model)] == list(names.values())

    model.eval()
    with torch.no_grad():
        (result,) = model([{"image": one_target()["image"]}])
    assert result["sem_seg"].shape == (cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, 40, 70)
    assert result["panoptic_seg"][0].shape == (40, 70)
    assert result["instances"].pred_masks.shape[1:] == (40, 70)

    model.train()
    losses = model([one_target()])
    layers = AUX_LAYERS[names["MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME"]]
    suffixes = ["", *(f"_{i}" for i in range(layers))]
    assert set(losses) == {f"loss_{k}{s}" for k in ("ce", "mask", "dice") for s in suffixes}
    sum(losses.values()).backward()
    for part in parts_of(model):
        if type(part).__name__ in OWN.values():
            assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    weights = next(parts_of(model)[-1].parameters())
    before = weights.detach().clone()
    build_optimizer(cfg, model).step()
    assert not torch.equal(weights, before)


def test_the_backbone_learns_at_its_own_rate(folder: Path, my_parts: ModuleType):
    cfg = load_config(folder / "my.yaml", TINY)
    model = build_model(cfg)
    groups = build_optimizer(cfg, model).param_groups
    of_backbone = set(map(id, model.backbone.parameters()))
    rates = {g["lr"] for g in groups for p in g["params"] if id(p) in of_backbone}
    assert rates == {cfg.SOLVER.BASE_LR * cfg.SOLVER.BACKBONE_MULTIPLIER}


def test_the_program_of_the_page_runs(folder, my_parts, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(compile(USE, "docs/extending.md", "exec"), names)
    assert set(names["result"]) == {"panoptic_seg", "instances", "sem_seg"}
    assert {type(part) for part in parts_of(names["model"])} == {
        getattr(my_parts, name) for name in OWN.values()
    }
    assert set(names["losses"]) == {"loss_ce", "loss_mask", "loss_dice"}


def test_the_training_script_knows_the_parts(folder, my_parts, monkeypatch: pytest.MonkeyPatch):
    calls = []
    train_net = importlib.import_module("train_net")
    monkeypatch.setattr(train_net, "run", calls.append)
    monkeypatch.setattr(sys, "argv", ["train_mine.py", "--config-file", "my.yaml", "SEED", "1"])
    names = runpy.run_path(str(folder / "train_mine.py"), run_name="__main__")
    assert names["my_parts"] is my_parts
    assert [(args.config_file, args.opts) for args in calls] == [("my.yaml", ["SEED", "1"])]


def build(folder: Path, name: str) -> nn.Module:
    """A model of the page by its name, whose parts are the published ones."""
    names = PUBLISHED | {"MODEL.META_ARCHITECTURE": name}
    if "Video" in name:
        decoder = "VideoMultiScaleMaskedTransformerDecoder"
        names["MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME"] = decoder
    torch.manual_seed(0)
    options = [*TINY, *(word for pair in names.items() for word in pair)]
    return build_model(load_config(folder / "my.yaml", options))


@torch.no_grad()
def test_targets_and_outputs_of_a_subclass(folder: Path, my_models: ModuleType):
    model, base = build(folder, "OwnFormer"), build(folder, "MaskFormer")
    small = Instances((40, 70))
    small.gt_classes = torch.tensor([1])
    small.gt_masks = torch.zeros(1, 40, 70, dtype=torch.bool)
    small.gt_masks[0, :3, :3] = True
    x = one_target()
    both = Instances.cat([x["instances"], small])
    images = model.preprocess([x["image"]])
    assert [len(m.prepare_targets([both], images)[0]["labels"]) for m in (model, base)] == [1, 2]
    torch.manual_seed(0)
    losses = model([x | {"instances": both}])
    torch.manual_seed(0)
    assert losses == base([x])  # the same, without the small one

    (result,) = model.eval()([x])
    (expected,) = base.eval()([x])
    torch.testing.assert_close(result["sem_seg"].sum(0), torch.ones(40, 70))
    ids, segments = result["panoptic_seg"]
    assert [segment.pop("area") for segment in segments] == [
        int((ids == segment["id"]).sum()) for segment in segments
    ]
    assert segments == expected["panoptic_seg"][1]
    scores = expected["instances"].scores
    kept = (scores > 0.01).sum()
    assert len(result["instances"]) == kept


@torch.no_grad()
def test_clips_of_a_subclass(folder: Path, my_models: ModuleType):
    model = build(folder, "OwnVideoFormer").eval()
    frames = [one_target()["image"]] * 2
    result = model([{"image": frames}])
    assert result["areas"] == [int(masks.sum()) for masks in result["pred_masks"]]
    assert len(result["areas"]) == 10


def test_losses_and_matching_of_a_subclass(folder: Path, my_models: ModuleType):
    model = build(folder, "OwnLossFormer")
    torch.manual_seed(0)  # paths of the backbone are dropped
    losses = model([one_target()])
    kinds = ("ce", "mask", "dice", "unmatched")
    assert set(losses) == {f"loss_{kind}{suffix}" for kind in kinds for suffix in ("", "_0")}
    assert isinstance(model.criterion.matcher, my_models.OwnMatcher)
    torch.manual_seed(0)
    with torch.no_grad():
        logits = model.predict(model.preprocess([one_target()["image"]]).tensor)["pred_logits"]
    log_probs = logits[0].log_softmax(-1)
    by_hand = -log_probs[1:, -1].mean()  # the first query is matched
    torch.testing.assert_close(losses["loss_unmatched"].detach(), 0.5 * by_hand)
    no_object = model.criterion.eos_coef
    total = -log_probs[0, 2] - no_object * log_probs[1:, -1].sum()
    smooth = 0.9 * total / (1 + no_object * 4) - 0.1 * log_probs.mean()
    weight = model.criterion.weight_dict["loss_ce"]
    torch.testing.assert_close(losses["loss_ce"].detach(), weight * smooth)
    sum(losses.values()).backward()


@torch.no_grad()
def test_hooks_see_attention_weights(folder: Path, my_models: ModuleType):
    model = build(folder, "MaskFormer").eval()
    expected = model([{"image": one_target()["image"]}])[0]["sem_seg"]
    weights = my_models.watch_attention(model)
    torch.testing.assert_close(model([{"image": one_target()["image"]}])[0]["sem_seg"], expected)
    (of_layer,) = weights
    assert of_layer.shape == (1, 5, 2 * 3)  # 64x96 pixels at stride 32
    torch.testing.assert_close(of_layer.sum(-1), torch.ones(1, 5))
