"""Every topic once, on models and inputs that are tiny: that it runs, and what its rows say."""

import json
import math
import multiprocessing
import os

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import cases, models, report, topics
from benchmarks.measurements import (
    contention,
    eomt,
    gpu,
    growth,
    inference,
    losses,
    mapping,
    training,
)

pytest.importorskip("transformers")
FULL = models.panoptic_config


def tiny_config(*args, **test):
    return shrink(FULL(*args, **test))


def shrink(cfg):
    head, former = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    head.TRANSFORMER_ENC_LAYERS, former.DEC_LAYERS, former.DIM_FEEDFORWARD = 1, 3, 64
    head.CONVS_DIM = head.MASK_DIM = former.HIDDEN_DIM = 64
    former.NUM_OBJECT_QUERIES = min(former.NUM_OBJECT_QUERIES, 20)
    return cfg


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "bench"
    for module in (models, cases, mapping):
        monkeypatch.setattr(module, "OUTPUT", folder)
    for module in (models, cases, gpu, losses):
        monkeypatch.setattr(module, "panoptic_config", tiny_config)
    monkeypatch.setattr("benchmarks.measurements.stages.panoptic_config", tiny_config)
    load_config = cases.load_config
    monkeypatch.setattr(cases, "load_config", lambda path: shrink(load_config(path)))
    # A process of its own would take seconds to start.
    for module in (inference, training):
        monkeypatch.setattr(module, "peak_of", lambda case, **arguments: peak(case, arguments))
    monkeypatch.setattr(growth, "peak_and_time", lambda c, rounds, **kw: (peak(c, kw), rounds))
    monkeypatch.setattr(inference, "QUICK_SIZE", (64, 96))
    monkeypatch.setattr(training, "QUICK_SIDE", 64)
    monkeypatch.setattr(losses, "QUICK_SHAPE", (64, 3))
    monkeypatch.setattr(growth, "SIZES", [(64, 64), (64, 96)])
    monkeypatch.setattr(growth, "SMALL", (64, 64))
    for name in ("QUERIES", "BATCHES", "FRAMES"):
        monkeypatch.setattr(growth, name, [1, 2])


def peak(case, arguments):
    """Does the work, and claims a number."""
    cases.CASES[case](**arguments)()
    return 0.25


def check(rows):
    rows = list(rows)
    for row in rows:
        assert math.isfinite(row["ours"]), row
        if "peer" in row:
            assert row["peer"] > 0
            assert row["ratio"] > 0
    return {row["what"]: row for row in rows}


@pytest.mark.slow
def test_contention(monkeypatch):
    """With work that needs no model, as each process of its own would build one."""
    monkeypatch.setattr(contention, "IMAGE", ("ones", "allocate", "allocate", (1,)))
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    rows = check(contention.measure(1, quick=True))
    assert list(rows) == [
        "ones, alone",
        "ones, beside 1 busy processes",
        "ones, beside 1 busy processes over alone",
    ]
    alone, beside, slower = rows.values()
    assert slower["ours"] == pytest.approx(beside["ours"] / alone["ours"])
    assert slower["ratio"] == pytest.approx(slower["peer"] / slower["ours"])
    assert os.environ["GOMP_SPINCOUNT"] == "7"


def test_inference():
    rows = check(inference.measure(1, quick=True))
    stages = ["read and decode", "resize", "backbone", "pixel decoder", "transformer decoder"]
    for stage in [*stages, "post-processing", "write"]:
        assert rows[f"stage: {stage}"]["unit"] == "s"
    memory = next(row for what, row in rows.items() if "peak memory" in what)
    assert (memory["ratio"], memory["max_ratio"]) == (1.0, 0.5)
    products = next(row for what, row in rows.items() if "multiply-adds" in what)
    assert 0.1 < products["ours"] / products["peer"] < 1  # ours makes fewer masks


def test_eomt(monkeypatch):
    pytest.importorskip("timm")
    config = models.eomt_config

    def tiny_eomt(**test):
        cfg = config(**test)
        cfg.MODEL.EOMT.EMBED_DIM, cfg.MODEL.EOMT.NUM_HEADS, cfg.MODEL.EOMT.DEPTH = 48, 4, 4
        cfg.MODEL.EOMT.IMAGE_SIZE, cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY = [64, 64], 64
        cfg.INPUT.MIN_SIZE_TEST = cfg.INPUT.MAX_SIZE_TEST = 64
        cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES = 10
        return cfg

    monkeypatch.setattr(cases, "eomt_config", tiny_eomt)
    monkeypatch.setattr(eomt, "peak_of", lambda case, **arguments: peak(case, arguments))
    monkeypatch.setattr(eomt, "QUICK_SIDE", 64)
    monkeypatch.setattr(eomt, "has_bf16", lambda device: True)
    rows = check(eomt.measure(1, quick=True))
    assert [row["unit"] for row in rows.values()] == ["s", "s", "GB"]
    assert [row["peer_name"] for row in rows.values()][1] == "transformers, bf16"
    monkeypatch.setattr(eomt, "has_bf16", lambda device: False)
    assert [row["unit"] for row in eomt.measure(1, quick=True)] == ["s", "GB"]


def test_training():
    time, memory = check(training.measure(1, quick=True)).values()
    assert (time["min_ratio"], memory["max_ratio"]) == (1.7, 0.7)


@pytest.mark.slow  # whole R50 models on a CPU
def test_gpu(monkeypatch):
    """On whatever device there is; `measure` has no rows without a GPU."""
    monkeypatch.setattr(gpu, "BATCHES", (2,))
    rows = check(gpu.images((64, 96), 1, "eager"))
    assert [row["unit"] for row in rows.values()] == ["1/s", "1/s", "GB"]
    rows = check(gpu.training({"side": 64, "size": 1, "targets": 2, "amp": True}, 1))
    assert [row["unit"] for row in rows.values()] == ["s", "GB"]
    assert bool(gpu.measure(1, quick=True)) == (cases.DEVICE == "cuda")


def test_losses():
    (row,) = check(losses.measure(1, quick=True)).values()
    assert row["min_ratio"] == 4.0


def test_mapping():
    rows = check(mapping.measure(1, quick=True))
    assert len(rows) == 4
    assert {row["unit"] for row in rows.values()} == {"s", "1/s"}


def test_peer_and_ours_map_to_the_same_masks():
    for task, form in (("instance", "instance"), ("panoptic", "segments")):
        ours = mapping._our_mapper(task)
        peer = mapping._peer_mapper(task)
        records = mapping._record(task, 0), mapping._record(form, 0)
        found: list[dict] = []
        for mapper, record in zip((ours, peer), records):
            mapping.mapping(lambda r, m=mapper, to=found: to.append(m(r)), [record])()
        masks, other = found[0]["instances"].gt_masks, found[1]["instances"].gt_masks.tensor
        areas, other_areas = (m.flatten(1).sum(1).sort().values for m in (masks, other))
        areas = areas[areas > 0]  # detectron2 drops empty ones
        torch.testing.assert_close(areas[-3:].float(), other_areas[-3:].float(), rtol=0.03, atol=9)


def test_growth():
    rows = check(growth.measure(1))
    assert "growth with pixels: exponent of time" in rows
    causes = {row["cause"] for row in rows.values() if "cause" in row}
    assert causes == {"pixels", "queries", "images of a batch", "frames of a clip"}
    assert {row.get("series") for row in rows.values()} == {None, "ours", "transformers"}
    assert report.table(list(rows.values()))
    quick = check(growth.measure(1, quick=True))
    assert {row.get("cause") for row in quick.values()} == {None, "pixels", "images of a batch"}


def test_a_fifth_of_the_queries_finds_an_object():
    image = models.picture(64, 96)
    model = cases.build_on_cpu(tiny_config())
    models.randomise(model)
    models.calibrate(model, image)
    pixels = torch.from_numpy(image.transpose(2, 0, 1).copy())
    with torch.no_grad():
        labels = models.class_logits(model, pixels).argmax(1)
    assert (labels != 133).sum().item() == 4  # of 20


def test_command_line(monkeypatch, tmp_path, capsys):
    arguments = ["benchmarks", "losses", "--quick", "--rounds", "1", "--output", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    monkeypatch.setattr(command, "measure_apart", topics.measure)
    command.main()
    assert "| matcher and losses" in capsys.readouterr().out
    assert (tmp_path / "results.json").is_file()


def test_rows_are_printed_when_they_are_measured(monkeypatch, tmp_path, capsys):
    def measured(topic, rounds, quick):
        row = {"what": f"first of {topic}", "unit": "s", "ours": 1.0}
        yield row
        assert "| first of losses | s | 1 |" in capsys.readouterr().out
        yield row | {"what": "second"}

    arguments = ["benchmarks", "losses", "--output", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    monkeypatch.setattr(command, "measure_apart", measured)
    command.main()
    assert "| second |" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "results.json").read_text())["rows"]) == 2


def test_a_topic_that_fails_says_so(monkeypatch):
    """In its own process it finds no such topic."""
    with pytest.raises(RuntimeError, match="nothing: the process that measures it ended with 1"):
        list(topics.measure_apart("nothing", 1, quick=True))


def test_unknown_topic(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks", "speed"])
    with pytest.raises(SystemExit):
        command.parse()
    assert "unknown topics ['speed']; there are inference" in capsys.readouterr().err


@pytest.mark.slow
def test_topics_do_not_share_a_process(monkeypatch):
    """What has happened in this one does not count."""
    monkeypatch.setattr(losses, "measure", lambda *args: pytest.fail("called here"))
    (row,) = topics.measure_apart("losses", 1, quick=True)
    assert row["topic"] == "losses"
    assert row["ratio"] > 0
    assert not multiprocessing.active_children()
