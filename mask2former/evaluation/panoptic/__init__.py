"""Panoptic segmentation: panoptic quality of a model, or of files in COCO's format."""
