"""Predictions as files, where callers look for them; see `mask2former.results.files`."""

from ..results.files import PredictionFiles, TrackFile  # noqa: F401
