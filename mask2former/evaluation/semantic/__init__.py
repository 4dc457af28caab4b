"""Semantic segmentation: IoU and accuracy, and the panoptic quality of semantic results."""
