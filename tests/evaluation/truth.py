"""What a perfect model would give for the images of a dataset, read from its ground truth."""

import json

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances

from mask2former.config import get_config
from mask2former.evaluation import read_panoptic_png
from mask2former.evaluation.semantic.truth import SemanticTruth
from mask2former.formats.segmentations import compress


def config(*flags):
    """A config with the named outputs, of PANOPTIC, INSTANCE and SEMANTIC, turned on."""
    cfg = get_config()
    for flag in ("PANOPTIC", "INSTANCE", "SEMANTIC"):
        cfg.MODEL.MASK_FORMER.TEST[f"{flag}_ON"] = flag in flags
    return cfg


def panoptic_output(record):
    """The segments of a record of a panoptic dataset."""
    segment_map = read_panoptic_png(record["pan_seg_file_name"]).astype(np.int32)
    return {"panoptic_seg": (torch.from_numpy(segment_map), record["segments_info"])}


def semantic_output(name, record):
    """Scores that are 1 at the true class of a pixel and 0 elsewhere."""
    truth = SemanticTruth(name)
    labels = truth.read(record["file_name"])
    scores = np.stack([labels == k for k in range(len(truth.class_names))])
    return {"sem_seg": torch.from_numpy(scores).float()}


def instance_output(name, image_id):
    """The objects of the json that are no crowds, in contiguous classes."""
    metadata = MetadataCatalog.get(name)
    with open(metadata.json_file) as file:
        gt = json.load(file)
    image = next(i for i in gt["images"] if i["id"] == image_id)
    size = (image["height"], image["width"])
    own = [a for a in gt["annotations"] if a["image_id"] == image_id and not a.get("iscrowd")]
    masks = [mask_util.decode(compress(a["segmentation"], *size)).astype(bool) for a in own]
    ids = metadata.thing_dataset_id_to_contiguous_id
    boxes = np.array([a["bbox"] for a in own], dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    instances = Instances(size, pred_boxes=Boxes(torch.from_numpy(boxes)))
    instances.pred_masks = torch.from_numpy(np.array(masks, bool).reshape(-1, *size))
    instances.pred_classes = torch.tensor([ids[a["category_id"]] for a in own], dtype=torch.int64)
    instances.scores = torch.ones(len(own))
    return {"instances": instances}
