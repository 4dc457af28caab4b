"""Parquet files of tables, row by row, through pyarrow (the extra "parquet")."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from ...errors import MissingPackageError
from ..atomic import PathLike, atomic_path

_ROWS = 4096  # of a group, which is what memory holds


def import_pyarrow() -> Any:
    """Return pyarrow with its `parquet`; raise MissingPackageError with what to install."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "Parquet files need pyarrow: pip install 'mask2former[parquet]'"
        ) from error
    return pyarrow


def write_parquet(path: PathLike, columns: Mapping[str, str], rows: Iterable[Any]) -> None:
    """Write a table atomically; rows are taken a few thousand at a time.

    Args:
        path: its folder must exist.
        columns: pyarrow's names of their types, such as "int64", "string" or "list<double>".
        rows: mappings with values of these columns; what one lacks is null.

    Raises:
        MissingPackageError: pyarrow is missing.
    """
    pa = import_pyarrow()
    schema = pa.schema([(name, _type(pa, kind)) for name, kind in columns.items()])
    remaining = iter(rows)
    with atomic_path(path) as part, pa.parquet.ParquetWriter(part, schema) as writer:
        while group := list(islice(remaining, _ROWS)):
            writer.write_table(pa.Table.from_pylist(group, schema))


def _type(pa: Any, kind: str) -> Any:
    if kind.startswith("list<"):
        return pa.list_(pa.type_for_alias(kind[5:-1]))
    return pa.type_for_alias(kind)
