"""The HTML of a report: one file that needs nothing else."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_STYLE = """
  body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 90rem; padding: 1.5rem;
         background: #f6f6f4; color: #222; }
  h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; }
  h3 { font-size: .95rem; margin: 1rem 0 .3rem; }
  .note { color: #555; margin: .2rem 0; max-width: 60rem; }
  .plots { display: flex; flex-wrap: wrap; gap: .8rem; align-items: start; }
  .plot { background: #fff; border-radius: 6px; padding: .4rem; max-width: 100%; }
  .pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr));
              gap: .8rem; }
  .pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(30rem, 1fr));
           gap: 1rem; }
  .pair { display: grid; grid-template-columns: 1fr 1fr; gap: .4rem; }
  .pair figcaption { grid-column: 1 / 3; }
  figure { margin: 0; } figure img { width: 100%; border-radius: 4px; display: block; }
  figcaption { font-size: .8rem; color: #555; overflow-wrap: anywhere; }
  table { border-collapse: collapse; background: #fff; border-radius: 6px; font-size: .88rem; }
  td, th { padding: .2rem .7rem; text-align: left; border-bottom: 1px solid #eee;
           overflow-wrap: anywhere; vertical-align: top; }
  td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
  td.number { white-space: nowrap; }
  .bars { max-height: 34rem; overflow: auto; display: inline-block; margin-right: 1rem;
          vertical-align: top; }
  .bar { background: #4878a8; height: .7rem; border-radius: 2px; min-width: 1px; }
  td.room { width: 14rem; }
  details { margin: .5rem 0; } summary { cursor: pointer; }
"""


def page(title: str, note: str, sections: Iterable[tuple[str, str]]) -> str:
    """Return the page.

    Args:
        title, note: plain text.
        sections: headings in plain text and content in HTML; those without content are left out.
    """
    parts = [f"<h2>{html.escape(name)}</h2>\n{content}" for name, content in sections if content]
    title = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{title}</h1>"
        f"<p class=note>{html.escape(note)}</p>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def note(text: str) -> str:
    """Return a line of plain text in HTML."""
    return f"<p class=note>{html.escape(text)}</p>"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table; numbers stand right, and None is a dash."""
    rows = [list(row) for row in rows]
    if not rows:
        return ""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>\n{body}</table>"


def bars(title: str, values: Mapping[str, float]) -> str:
    """Return a table with a bar for each class.

    Args:
        values: in percent.
    """
    rows = [
        f"<tr><td>{html.escape(name)}</td><td class=number>{value:.1f}</td><td class=room>"
        f'<div class=bar style="width: {min(max(value, 0.0), 100.0):.1f}%"></div></td></tr>'
        for name, value in values.items()
    ]
    head = f"<h3>{html.escape(title)}</h3>"
    return f"<div class=bars>{head}<table>{''.join(rows)}</table></div>" if rows else ""


def plots(charts: Iterable[str]) -> str:
    """Return charts side by side."""
    joined = "\n".join(charts)
    return f"<div class=plots>{joined}</div>" if joined else ""


def pictures(sources: Iterable[str]) -> str:
    """Return pictures in a grid."""
    found = "\n".join(f'<figure><img alt="" src="{source}"></figure>' for source in sources)
    return f"<div class=pictures>{found}</div>" if found else ""


def pairs(rows: Iterable[tuple[str, str, str, str]]) -> str:
    """Return pairs of pictures in a grid: caption, two sources, and a note in their place."""
    found = []
    for caption, left, right, text in rows:
        body = f'<img alt="" src="{left}"><img alt="" src="{right}">' if left else note(text)
        found.append(
            f"<figure class=pair>{body}<figcaption>{html.escape(caption)}</figcaption></figure>"
        )
    return f"<div class=pairs>{''.join(found)}</div>" if found else ""


def folded(summary: str, content: str) -> str:
    """Return content that opens on a click."""
    return f"<details><summary>{html.escape(summary)}</summary>{content}</details>"


def _cell(value: Any) -> str:
    if value is None:
        return "<td>-</td>"
    if isinstance(value, float):
        text = "-" if value != value else f"{value:.4g}" if abs(value) < 1 else f"{value:.2f}"
        return f"<td class=number>{text}</td>"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"<td class=number>{value}</td>"
    return f"<td>{html.escape(str(value))}</td>"
