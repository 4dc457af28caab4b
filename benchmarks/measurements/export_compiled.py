"""The model that AOTInductor compiles, beside eager: apart, as it takes minutes to compile."""

from collections.abc import Iterator

from ..timing import Row
from . import export


def measure(rounds: int, quick: bool = False) -> Iterator[Row]:
    """Yield the rows of `export.measure` for this one format."""
    return export.measure(rounds, quick, formats=("aoti",))
