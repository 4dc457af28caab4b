"""Small videos with their ground truth."""

import numpy as np

from mask2former.formats.rle import encode_masks


def video_data(tubes, num_frames=3, size=(8, 8), num_videos=1):
    """Ground truth of tubes (video, category, (T, H, W) masks); empty frames are None."""
    annotations = []
    for i, (video, category, masks, crowd) in enumerate(tubes):
        rles = encode_masks(masks)
        annotations.append(
            {
                "id": i,
                "video_id": video,
                "category_id": category,
                "iscrowd": crowd,
                "segmentations": [r if m.any() else None for r, m in zip(rles, masks)],
            }
        )
    videos = [
        {
            "id": v,
            "height": size[0],
            "width": size[1],
            "file_names": [f"{v}/{t}.jpg" for t in range(num_frames)],
        }
        for v in range(num_videos)
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 4, "name": "dog"}]
    return {"videos": videos, "categories": categories, "annotations": annotations}


def square(side, num_frames=3, size=(300, 300)):
    masks = np.zeros((num_frames, *size), bool)
    masks[:, :side, :side] = True
    return masks
