"""The training loss: the matching of queries to targets, and the losses of matched pairs."""

from .criterion import SetCriterion
from .matcher import HungarianMatcher

__all__ = ["HungarianMatcher", "SetCriterion"]
