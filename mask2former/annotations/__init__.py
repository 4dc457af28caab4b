"""Annotation files in, plain cleaned annotations and findings out; see ``policy`` for the rules."""

from .findings import AnnotationError, Finding, Findings
from .policy import POLICY
from .readers.instances import Annotations, read_instances

__all__ = ["POLICY", "AnnotationError", "Annotations", "Finding", "Findings", "read_instances"]
