"""A page of pictures: each row an image, and beside it what was drawn over it."""

import html
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from ..formats.atomic import atomic_path
from ..formats.images import write_image

_STYLE = """
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; background: #f6f6f4; color: #222; }
  h1 { font-size: 1.3rem; } .note { color: #555; max-width: 60rem; }
  .rows { display: grid; gap: 1rem; margin-top: 1.5rem; }
  .row { display: grid; grid-template-columns: repeat(COLUMNS, minmax(0, 24rem)); gap: .5rem; }
  figure { margin: 0; } img { width: 100%; border-radius: 4px; display: block; }
  figcaption { font-size: .8rem; color: #555; overflow-wrap: anywhere; }
"""


class ContactSheet:
    """Write pictures into a folder and, in the end, `index.html` that shows them side by side.

    Args:
        folder: made if it is missing.
        title: heading of the page.
        columns: names of the pictures of a row.

    Raises:
        OSError: the folder cannot be made or written; of the kind that the system reports.
    """

    def __init__(self, folder: str | os.PathLike[str], title: str, columns: Sequence[str]):
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise type(error)(
                f"folder {os.fspath(folder)!r} cannot be written ({error.strerror}); choose another"
            ) from error
        self.title = title
        self.columns = list(columns)
        self._rows: list[tuple[str, dict[str, str]]] = []
        self._names: set[str] = set()

    def add(self, name: str, pictures: Mapping[str, np.ndarray]) -> None:
        """Write the pictures of one row.

        Args:
            name: of the row; files are called after it, with a number if it came before.
            pictures: (H, W, 3), uint8, RGB, by column; columns may be missing.
        """
        stem = self._unused(name.replace(os.sep, "_"))
        files = {}
        for column, picture in pictures.items():
            file = f"{stem}_{column.lower().replace(' ', '_')}.jpg"
            write_image(self.folder / file, picture, quality=92)
            files[column] = file
        self._rows.append((name, files))

    def write(self, note: str = "") -> Path:
        """Write the page over all rows so far and return its path."""
        rows = "\n".join(self._row_html(name, files) for name, files in self._rows)
        style = _STYLE.replace("COLUMNS", str(len(self.columns)))
        title, note = html.escape(self.title), html.escape(note)
        page = (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f"<style>{style}</style></head>\n<body><h1>{title}</h1><p class=note>{note}</p>"
            f"<div class=rows>\n{rows}\n</div></body></html>\n"
        )
        target = self.folder / "index.html"
        with atomic_path(target) as path:  # names of files need not be Unicode
            path.write_text(page, encoding="utf-8", errors="replace")
        return target

    def _row_html(self, name: str, files: Mapping[str, str]) -> str:
        figures = []
        for column in self.columns:
            caption = html.escape(f"{column}: {name}" if column == self.columns[0] else column)
            picture = ""
            if column in files:
                link = quote(os.fsencode(files[column]))
                picture = f'<a href="{link}"><img loading="lazy" src="{link}" alt="{caption}"></a>'
            figures.append(f"<figure>{picture}<figcaption>{caption}</figcaption></figure>")
        return f"<div class=row>{''.join(figures)}</div>"

    def _unused(self, name: str) -> str:
        stem, number = name, 1
        while stem in self._names:
            number += 1
            stem = f"{name}_{number}"
        self._names.add(stem)
        return stem
