"""Every evaluator over two processes: the same scores as in one, on the main process only."""

import json
import multiprocessing

import cv2
import numpy as np
import pytest
import torch
from detectron2.structures import Instances

from mask2former.evaluation.instance.evaluator import InstanceSegEvaluator
from mask2former.evaluation.panoptic.evaluator import PanopticEvaluator
from mask2former.evaluation.semantic.evaluator import SemSegEvaluator
from mask2former.evaluation.video.evaluator import YTVISEvaluator
from mask2former.formats.label_maps import write_panoptic_png
from mask2former.formats.rle import encode_masks

NUM_IMAGES, SIZE = 5, (12, 16)


@pytest.fixture
def scene(tmp_path, register):
    """One dataset with all kinds of ground truth, and outputs that are a little off."""
    rng = np.random.default_rng(0)
    categories = [{"id": k + 1, "name": f"c{k}", "isthing": 1} for k in range(3)]
    coco = {"images": [], "categories": categories, "annotations": [], "videos": []}
    panoptic = {"images": [], "categories": categories, "annotations": []}
    records, outputs = [], []
    for i in range(NUM_IMAGES):
        labels = np.kron(rng.integers(0, 3, (3, 4)), np.ones((4, 4), int))
        guess = np.roll(labels, 1, axis=1)
        write_panoptic_png(tmp_path / f"{i}.png", labels + 1)
        present = np.unique(labels).tolist()
        segments = [{"id": k + 1, "category_id": k + 1, "iscrowd": 0} for k in present]
        panoptic["annotations"].append(
            {"image_id": i, "file_name": f"{i}.png", "segments_info": segments}
        )
        shape = {"height": SIZE[0], "width": SIZE[1]}
        coco["images"].append({"id": i, **shape})
        coco["videos"].append({"id": i, "length": 1, **shape})
        for k in present:
            mask = encode_masks((labels == k)[None])
            coco["annotations"].append(
                {
                    "id": len(coco["annotations"]),
                    "image_id": i,
                    "video_id": i,
                    "category_id": k + 1,
                    "segmentation": mask[0],
                    "segmentations": mask,
                    "bbox": [0, 0, 5, 5],
                }
            )
        records.append(
            {
                "file_name": f"{i}.jpg",
                "image_id": i,
                "video_id": i,
                "sem_seg_file_name": str(tmp_path / f"labels{i}.png"),
            }
        )
        cv2.imwrite(records[-1]["sem_seg_file_name"], labels.astype(np.uint8))
        masks = torch.from_numpy(np.stack([guess == k for k in range(3)]))
        instances = Instances(SIZE, pred_masks=masks, pred_classes=torch.arange(3))
        instances.scores = torch.from_numpy(rng.random(3))
        outputs.append(
            {
                "sem_seg": masks.float(),
                "panoptic_seg": (
                    torch.from_numpy(guess + 1),
                    [{"id": k + 1, "category_id": k, "isthing": True} for k in present],
                ),
                "instances": instances,
                "pred_scores": instances.scores.tolist(),
                "pred_labels": [0, 1, 2],
                "pred_masks": list(masks[:, None]),
            }
        )
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    (tmp_path / "panoptic.json").write_text(json.dumps(panoptic))
    name = register(
        records,
        json_file=str(tmp_path / "coco.json"),
        panoptic_json=str(tmp_path / "panoptic.json"),
        panoptic_root=str(tmp_path),
        stuff_classes=["c0", "c1", "c2"],
        ignore_label=255,
        thing_dataset_id_to_contiguous_id={1: 0, 2: 1, 3: 2},
        stuff_dataset_id_to_contiguous_id={1: 0, 2: 1, 3: 2},
    )
    return name, records, outputs


def score(name, records, outputs, folder):
    """All evaluators on a part of the images: their results, joined."""
    scores = {}
    for kind in (SemSegEvaluator, PanopticEvaluator, InstanceSegEvaluator, YTVISEvaluator):
        evaluator = kind(name, output_dir=folder / kind.__name__)
        evaluator.reset()
        evaluator.process(records, outputs)
        scores[kind.__name__] = evaluator.evaluate()
    return scores


def one_of_two(rank, rendezvous, queue, *scene_and_folder):
    name, records, outputs, folder, shares = scene_and_folder
    mine = shares[rank]
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2
    )
    queue.put((rank, score(name, records[mine], outputs[mine], folder)))
    torch.distributed.destroy_process_group()


def flatten(results):
    return {
        f"{kind}/{task}/{metric}": value
        for kind, tasks in results.items()
        for task, scores in tasks.items()
        for metric, value in scores.items()
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "shares",
    [
        (slice(0, None, 2), slice(1, None, 2)),
        (slice(0, 1), slice(1, None)),
        (slice(0, 0), slice(0, None)),  # more processes than images
        (slice(0, None), slice(0, 0)),
    ],
)
def test_two_processes_score_as_one(scene, tmp_path, shares):
    alone = score(*scene, tmp_path / "alone")
    context = multiprocessing.get_context("fork")  # the registered dataset comes along
    queue = context.SimpleQueue()
    arguments = (tmp_path / "rendezvous", queue, *scene, tmp_path / "together", shares)
    processes = [context.Process(target=one_of_two, args=(r, *arguments)) for r in range(2)]
    for process in processes:
        process.start()
    results = dict(queue.get() for _ in processes)
    for process in processes:
        process.join(30)
    assert all(not tasks for tasks in results[1].values())
    expected = flatten(alone)
    assert len(expected) > 40
    assert flatten(results[0]) == pytest.approx(expected, nan_ok=True)
    for path in sorted(tmp_path.glob("alone/*/*.json")):
        other = tmp_path / "together" / path.relative_to(tmp_path / "alone")
        entries = [json.loads(p.read_text()) for p in (path, other)]
        if path.name.endswith("_details.json"):
            assert entries[0] == entries[1]
            continue
        if path.name == "predictions.json":
            entries = [e["annotations"] for e in entries]
        assert len(entries[0]) >= NUM_IMAGES
        first, second = (sorted(map(json.dumps, e)) for e in entries)
        assert first == second
    assert not list(tmp_path.rglob(".*part*"))
