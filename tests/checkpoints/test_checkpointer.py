"""Loading into models and saving: reports, refusals, resuming, whole files."""

import logging
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from mask2former.checkpoints.checkpointer import Checkpointer
from mask2former.checkpoints.loading import CheckpointMismatchError, load_into
from mask2former.checkpoints.storage.weights_io import save_weights


class Model(nn.Module):
    """The names of a Mask2Former in small: Q queries, K classes."""

    def __init__(self, queries=5, classes=3, width=8):
        super().__init__()
        self.backbone = nn.ModuleDict({"stem": nn.Conv2d(3, 4, 1), "res2": nn.Conv2d(4, 4, 1)})
        self.sem_seg_head = nn.ModuleDict(
            {
                "pixel_decoder": nn.ModuleDict({"layer_1": nn.Conv2d(4, width, 1)}),
                "predictor": nn.ModuleDict(
                    {
                        "query_feat": nn.Embedding(queries, width),
                        "mask_embed": nn.Linear(width, width),
                        "class_embed": nn.Linear(width, classes + 1),
                    }
                ),
            }
        )
        self.criterion = nn.Module()
        self.criterion.register_buffer("empty_weight", torch.ones(classes + 1))


def filled(value=1.0, **sizes):
    model = Model(**sizes)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(value)
    return model


def values(model):
    return {name: tensor.unique().tolist() for name, tensor in model.state_dict().items()}


# Reports


def test_everything_fits():
    model = Model()
    report = load_into(model, filled(2).state_dict())
    assert set(report.loaded) == set(model.state_dict()) and report.fraction == 1
    assert not (report.renamed or report.skipped or report.missing or report.unexpected)
    assert all(value == [2] for value in values(model).values())
    assert str(report) == (
        "loaded 12 of the model's 12 weights (backbone 4 of 4, sem_seg_head.pixel_decoder 2 of 2, "
        "sem_seg_head.predictor 5 of 5, criterion 1 of 1)"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_no_numbers_are_named(caplog, value, dtype):
    weights = {name: tensor.to(dtype) for name, tensor in filled(2).state_dict().items()}
    load_into(Model(), weights)
    assert not caplog.records
    weights["backbone.stem.weight"][1, 2] = value
    load_into(Model(), weights, source="a.pth")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "a.pth: 1 of the weights hold NaN or infinity" in record.message
    assert record.message.endswith(": backbone.stem.weight")


def test_old_names_in_a_plain_dict_load_and_are_reported():
    old = {
        name.replace("pixel_decoder.", "").replace("query_feat", "static_query"): tensor
        for name, tensor in filled(2).state_dict().items()
    }
    model = Model()
    report = load_into(model, old)
    assert all(value == [2] for value in values(model).values())
    assert report.renamed == {
        "sem_seg_head.layer_1.weight": "sem_seg_head.pixel_decoder.layer_1.weight",
        "sem_seg_head.layer_1.bias": "sem_seg_head.pixel_decoder.layer_1.bias",
        "sem_seg_head.predictor.static_query.weight": "sem_seg_head.predictor.query_feat.weight",
    }
    assert "renamed 1 names: static_query became query_feat" in str(report)


@pytest.mark.parametrize("name", ["query_feat", "static_query"])
def test_other_numbers_of_classes_and_queries_are_skipped_with_both_shapes(name):
    weights = {
        key.replace("query_feat", name): tensor
        for key, tensor in filled(2, queries=7, classes=9).state_dict().items()
    }
    model = filled(1)
    report = load_into(model, weights, min_match=0.5)
    assert sorted(report.skipped) == [
        ("criterion.empty_weight", (10,), (4,)),
        ("sem_seg_head.predictor.class_embed.bias", (10,), (4,)),
        ("sem_seg_head.predictor.class_embed.weight", (10, 8), (4, 8)),
        ("sem_seg_head.predictor.query_feat.weight", (7, 8), (5, 8)),
    ]
    skipped = {name for name, *_ in report.skipped}
    assert {name: [1 if name in skipped else 2] for name in values(model)} == values(model)
    assert "skipped sem_seg_head.predictor.query_feat.weight: (7, 8) in the file" in str(report)
    assert report.missing == () and report.unexpected == ()


def test_a_backbone_loads_without_its_classifier():
    weights = {
        name.removeprefix("backbone."): tensor
        for name, tensor in filled(2).state_dict().items()
        if name.startswith("backbone.")
    }
    weights |= {"fc.weight": torch.zeros(10, 4), "stem.num_batches_tracked": torch.tensor(1)}
    model = filled(1)
    report = load_into(model, weights)
    assert report.fraction == 1 and len(report.loaded) == 4
    assert set(report.ignored) == {"fc.weight", "stem.num_batches_tracked"}
    assert len(report.missing) == 8
    assert values(model)["backbone.stem.weight"] == [2]
    assert values(model)["sem_seg_head.predictor.mask_embed.weight"] == [1]


# Another architecture


def test_too_little_that_fits_stops_and_leaves_the_model_alone():
    weights = {f"encoder.{i}": torch.zeros(1) for i in range(9)}
    weights["backbone.stem.bias"] = torch.full((4,), 2.0)
    model = filled(1)
    with pytest.raises(
        CheckpointMismatchError, match=r"(?s)x\.pth fits this model to 10% only \(1 of 10 .*75%"
    ):
        load_into(model, weights, source="x.pth")
    assert all(value == [1] for value in values(model).values())
    report = load_into(model, weights, min_match=0.1)
    assert report.loaded == ("backbone.stem.bias",) and len(report.unexpected) == 9


def test_nothing_that_fits_stops_even_when_told_to_go_on():
    with pytest.raises(CheckpointMismatchError, match="0% only"):
        load_into(Model(), {"a": torch.ones(1)}, min_match=0)


def test_names_of_hugging_face_point_to_the_converter():
    weights = {"model.pixel_level_module.decoder.level_embed": torch.ones(3, 8)}
    with pytest.raises(CheckpointMismatchError, match=r"convert_checkpoint\.py"):
        load_into(Model(), weights)


def test_old_versions_of_frozen_norms_load_without_their_statistics():
    """detectron2's norms fix that themselves, by the version in the state_dict."""
    norm = nn.ModuleDict({"norm": FrozenBatchNorm2d(2)})
    report = load_into(norm, {"norm.weight": torch.ones(2) * 3, "norm.bias": torch.ones(2)})
    assert norm["norm"].weight.tolist() == [3, 3]
    assert report.missing == ("norm.running_mean", "norm.running_var")


# The checkpointer


def make_training(value):
    model = filled(value)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    sum(p.sum() for p in model.parameters()).backward()
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    return model, {"optimizer": optimizer, "scheduler": scheduler}


def test_resuming_brings_back_everything(tmp_path):
    model, parts = make_training(1.0)
    extra = {"iteration": np.int64(3), "best": np.float32(0.5), "seen": np.arange(2)}
    Checkpointer(model, str(tmp_path / "new" / "folder"), **parts).save("model_0003", **extra)
    other, others = make_training(5.0)
    checkpointer = Checkpointer(other, str(tmp_path / "new" / "folder"), **others)
    rest = checkpointer.resume_or_load("never read", resume=True)
    assert values(other) == values(model)
    assert rest["iteration"] == 3 and rest["best"] == 0.5 and rest["seen"].tolist() == [0, 1]
    for name, part in parts.items():
        assert str(others[name].state_dict()) == str(part.state_dict())
    content = torch.load(checkpointer.get_checkpoint_file(), weights_only=True)
    assert content["iteration"] == 3


def test_what_was_resumed_does_not_hang_on_the_file(tmp_path):
    model, parts = make_training(1.0)
    Checkpointer(model, str(tmp_path), **parts).save("a")
    Checkpointer(model, str(tmp_path), **parts).load(str(tmp_path / "a.pth"))
    before = str(parts["optimizer"].state_dict())
    path = tmp_path / "a.pth"
    with open(path, "r+b") as file:  # in place, as an ordinary copy over it would
        file.write(b"\0" * path.stat().st_size)
    assert str(parts["optimizer"].state_dict()) == before


def test_without_resuming_only_the_model_is_loaded(tmp_path):
    model, parts = make_training(1.0)
    Checkpointer(model, str(tmp_path / "old"), **parts).save("final")
    other, others = make_training(5.0)
    before = str(others["optimizer"].state_dict())
    checkpointer = Checkpointer(other, str(tmp_path / "new"), **others)
    checkpointer.resume_or_load(str(tmp_path / "old" / "final.pth"), resume=True)
    assert values(other) == values(model)
    assert str(others["optimizer"].state_dict()) == before


def test_an_interrupted_save_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    checkpointer = Checkpointer(filled(1), str(tmp_path))
    checkpointer.save("model")
    files = sorted(os.listdir(tmp_path))

    def broken(data, path):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(OSError, match="No space"):
        checkpointer.save("model")
    assert sorted(os.listdir(tmp_path)) == files == ["last_checkpoint", "model.pth"]
    model = Model()
    Checkpointer(model).load(str(tmp_path / "model.pth"))
    assert all(value == [1] for value in values(model).values())


def test_what_could_not_be_read_again_is_not_saved(tmp_path):
    part = SimpleNamespace(state_dict=lambda: {"a": [lambda: 0]}, load_state_dict=None)
    with pytest.raises(TypeError, match=r"Cannot save trainer\.a: a function"):
        Checkpointer(Model(), str(tmp_path), trainer=part).save("model")
    assert not os.listdir(tmp_path)


def test_nothing_is_saved_without_a_folder_or_by_other_processes(tmp_path):
    Checkpointer(Model()).save("model")
    Checkpointer(Model(), str(tmp_path), save_to_disk=False).save("model")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("suffix", [".pkl", ".safetensors"])
def test_other_formats_load(suffix, tmp_path):
    save_weights(filled(2).state_dict(), tmp_path / f"a{suffix}")
    model = Model()
    checkpointer = Checkpointer(model)
    checkpointer.load(str(tmp_path / f"a{suffix}"))
    assert all(value == [2] for value in values(model).values())
    assert checkpointer.report.fraction == 1


def test_the_log_says_what_was_loaded(tmp_path, caplog):
    save_weights(filled(2, queries=9).state_dict(), tmp_path / "a.pth")
    with caplog.at_level(logging.INFO):
        Checkpointer(Model()).load(str(tmp_path / "a.pth"))
    (record,) = [r for r in caplog.records if "a.pth" in r.message]
    assert record.levelname == "WARNING" and "loaded 11 of the model's 12" in record.message


def test_no_path_loads_nothing():
    model = filled(1)
    assert Checkpointer(model).load("") == {}
    assert all(value == [1] for value in values(model).values())
