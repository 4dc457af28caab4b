"""Names of weights in two libraries, translated by templates in both directions."""

import re
from collections.abc import Iterable, Mapping

import torch

_PLACEHOLDER = re.compile(r"\{(\w+?)(?:\+(\d+))?\}")


class NameMap:
    """Translates weights between two libraries, "ours" and "theirs".

    A template is a name with placeholders: ``{i}`` stands for a number, ``{i+2}`` for that number
    plus two, ``{p}`` for one word, as weight or bias. Where ``theirs`` is several templates, their
    tensors are ours cut into equal parts along the first axis (as query, key and value are).

    Args:
        rules: pairs (ours, theirs).
    """

    def __init__(self, rules: Iterable[tuple[str, str | tuple[str, ...]]]) -> None:
        pairs = [(ours, (t,) if isinstance(t, str) else t) for ours, t in rules]
        self._from_ours = [(_pattern(ours), theirs) for ours, theirs in pairs]
        self._from_theirs = [
            (_pattern(one), ours, index, len(theirs))
            for ours, theirs in pairs
            for index, one in enumerate(theirs)
        ]

    def to_theirs(
        self, weights: Mapping[str, torch.Tensor]
    ) -> tuple[dict[str, torch.Tensor], list[str]]:
        """Return the weights under their names, and the names without a rule."""
        translated: dict[str, torch.Tensor] = {}
        unknown = []
        for name, tensor in weights.items():
            for pattern, templates in self._from_ours:
                values = _match(pattern, name)
                if values is not None:
                    parts = tensor.chunk(len(templates)) if len(templates) > 1 else (tensor,)
                    names = [_fill(template, values) for template in templates]
                    translated.update(zip(names, parts, strict=True))
                    break
            else:
                unknown.append(name)
        return translated, unknown

    def to_ours(
        self, weights: Mapping[str, torch.Tensor]
    ) -> tuple[dict[str, torch.Tensor], list[str]]:
        """Return the weights under our names, and the names without a rule.

        Raises:
            ValueError: a tensor of ours has only some of its parts among ``weights``.
        """
        parts: dict[str, dict[int, torch.Tensor]] = {}
        counts: dict[str, int] = {}
        unknown = []
        for name, tensor in weights.items():
            found = self._ours(name)
            if found is None:
                unknown.append(name)
                continue
            ours, index, count = found
            parts.setdefault(ours, {})[index] = tensor
            counts[ours] = count
        broken = [name for name, its in parts.items() if len(its) < counts[name]]
        if broken:
            raise ValueError(f"Only some of the parts of {', '.join(broken)} are given.")
        joined = {
            name: its[0] if len(its) == 1 else torch.cat([its[i] for i in range(len(its))])
            for name, its in parts.items()
        }
        return joined, unknown

    def names_in_ours(self, names: Iterable[str]) -> dict[str, str]:
        """Return our name for each of ``names`` that has a rule."""
        found = {name: self._ours(name) for name in names}
        return {name: ours[0] for name, ours in found.items() if ours is not None}

    def _ours(self, name: str) -> tuple[str, int, int] | None:
        """Return our name, which of its parts ``name`` is, and how many it has."""
        for pattern, template, index, count in self._from_theirs:
            values = _match(pattern, name)
            if values is not None:
                return _fill(template, values), index, count
        return None


def _pattern(template: str) -> tuple[re.Pattern, dict[str, int]]:
    """Return a regular expression for the template, and what is added to each number in it."""
    offsets: dict[str, int] = {}

    def group(match: re.Match) -> str:
        name, offset = match.groups()
        offsets[name] = int(offset or 0)
        return f"(?P<{name}>[a-z_]+)" if name == "p" else rf"(?P<{name}>\d+)"

    # Placeholders are kept from being escaped by splitting at them.
    regex, position = "", 0
    for placeholder in _PLACEHOLDER.finditer(template):
        regex += re.escape(template[position : placeholder.start()]) + group(placeholder)
        position = placeholder.end()
    return re.compile(regex + re.escape(template[position:])), offsets


def _match(pattern: tuple[re.Pattern, dict[str, int]], name: str) -> dict[str, str | int] | None:
    regex, offsets = pattern
    match = regex.fullmatch(name)
    if match is None:
        return None
    groups = match.groupdict()
    return {k: v if k == "p" else int(v) - offsets[k] for k, v in groups.items()}


def _fill(template: str, values: Mapping[str, str | int]) -> str:
    def value(match: re.Match) -> str:
        name, offset = match.groups()
        found = values[name]
        return found if isinstance(found, str) else str(found + int(offset or 0))

    return _PLACEHOLDER.sub(value, template)
