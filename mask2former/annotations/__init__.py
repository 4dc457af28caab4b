"""Annotation files in, plain cleaned annotations and findings out; see ``policy`` for the rules."""

from .findings import AnnotationError, Finding, Findings
from .instances import Annotations, read_instances
from .policy import POLICY

__all__ = ["POLICY", "AnnotationError", "Annotations", "Finding", "Findings", "read_instances"]
