"""Write reports: of a run, or of several beside each other."""

from collections.abc import Sequence
from pathlib import Path

from ...errors import UserError
from ...formats.atomic import atomic_path
from . import page
from .run import Run, read_run
from .sections import comparison, sections

REPORT = "report.html"
COMPARISON = "comparison.html"

# Raised by files that are json, but not of the form that training writes.
_OTHER_FORM = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def write_report(folders: Sequence[Path] | Path, output: Path | None = None) -> Path:
    """Write a page about a run, or one that compares runs, atomically; return its path.

    Args:
        folders: OUTPUT_DIR of each run.
        output: the page; by default report.html in the folder, or comparison.html in the current
            one.

    Raises:
        FileNotFoundError: a folder does not exist, or has no measurements (yet).
        UserError: a file of a run is damaged; names it. Or matplotlib is not installed.
        OSError: the page cannot be written.
    """
    paths = [Path(f) for f in ([folders] if isinstance(folders, Path) else folders)]
    found: dict[Path, Path] = {}
    for path in paths:
        found.setdefault(path.resolve(), path)
    runs = [read_run(path) for path in found.values()]
    try:
        text = _text(runs)
    except UserError:
        raise
    except _OTHER_FORM as error:
        raise UserError(
            f"{', '.join(str(run.folder) for run in runs)}: expected what training writes, but a "
            f"file among run.json and inference/*.json has another form ({error!r:.200}); remove it"
        ) from error
    target = output or (runs[0].folder / REPORT if len(runs) == 1 else Path(COMPARISON))
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8", errors="replace")
    return target


def _text(runs: Sequence[Run]) -> str:
    if len(runs) > 1:
        return page.page("Comparison", f"{len(runs)} runs", comparison(_named(runs)))
    (run,) = runs
    return page.page(run.name, f"{run.folder}: {run.state}", sections(run))


def _named(runs: Sequence[Run]) -> dict[str, Run]:
    """Return runs by the name of their folder, or by their path where names come twice."""
    names = [run.name for run in runs]
    return {(run.name if names.count(run.name) == 1 else str(run.folder)): run for run in runs}
