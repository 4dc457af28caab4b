"""Data sets, augmentation, mappers and loaders; importing it registers the data sets by name."""

from mask2former.data import datasets

__all__ = ["datasets"]
