"""Predict many images and videos in a job that goes on wherever it was ended.

find_items -> manifest of shards -> workers (read, predict, encode) -> shards -> files
"""

from .running import Outcome, run_job
from .settings import Settings, choose_outputs

__all__ = ["Outcome", "Settings", "choose_outputs", "run_job"]
