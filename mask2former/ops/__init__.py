"""Tensor operations that need torch, numpy and scipy only: no detectron2, no config."""
