"""Names of weights in two libraries, translated by templates in both directions."""

import re
from collections.abc import Callable, Iterable, Mapping

import torch

from ..errors import UserError

_PLACEHOLDER = re.compile(r"\{(\w+?)(?:\+(\d+))?\}")


class NameMap:
    """Translate weights between two libraries, "ours" and "theirs".

    A template is a name with placeholders: ``{i}`` stands for a number, ``{i+2}`` for that number
    plus two, ``{p}`` for one word, as weight or bias. Where ``theirs`` is several templates, their
    tensors are ours cut into equal parts along the first axis (as query, key and value are).

    Args:
        rules: pairs (ours, theirs).
    """

    def __init__(self, rules: Iterable[tuple[str, str | tuple[str, ...]]]) -> None:
        pairs = [(ours, (t,) if isinstance(t, str) else t) for ours, t in rules]
        self._from_ours = [[_rule(ours, one) for one in theirs] for ours, theirs in pairs]
        self._from_theirs = [
            (_rule(one, ours), index, len(theirs))
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
            found = ([rule(name) for rule in rules] for rules in self._from_ours)
            names = next((names for names in found if names[0]), None)
            if names is None:
                unknown.append(name)
                continue
            parts = tensor.chunk(len(names)) if len(names) > 1 else (tensor,)
            translated.update({str(n): part for n, part in zip(names, parts, strict=True)})
        return translated, unknown

    def to_ours(
        self, weights: Mapping[str, torch.Tensor]
    ) -> tuple[dict[str, torch.Tensor], list[str]]:
        """Return the weights under our names, and the names without a rule.

        Raises:
            UserError: a tensor of ours has only some of its parts among ``weights``.
        """
        found: dict[tuple[str, int], dict[int, torch.Tensor]] = {}
        unknown = []
        for name, tensor in weights.items():
            ours, index, count = self._ours(name)
            if ours is None:
                unknown.append(name)
            else:
                found.setdefault((ours, count), {})[index] = tensor
        broken = [name for (name, count), parts in found.items() if len(parts) < count]
        if broken:
            raise UserError(f"Only some of the parts of {', '.join(broken)} are given.")
        joined = {
            name: parts[0] if count == 1 else torch.cat([parts[i] for i in range(count)])
            for (name, count), parts in found.items()
        }
        return joined, unknown

    def names_in_ours(self, names: Iterable[str]) -> dict[str, str]:
        """Return our name for each of ``names`` that has a rule."""
        found = ((name, self._ours(name)[0]) for name in names)
        return {name: ours for name, ours in found if ours is not None}

    def _ours(self, name: str) -> tuple[str | None, int, int]:
        """Return our name, which of its parts ``name`` is, and how many it has."""
        found = ((rule(name), index, count) for rule, index, count in self._from_theirs)
        return next((it for it in found if it[0]), (None, 0, 0))


def _rule(source: str, target: str) -> Callable[[str], str | None]:
    """Return a function from names that fit one template to another's, and from others to None."""
    offsets: dict[str, int] = {}

    def group(placeholder: re.Match) -> str:
        key, offset = placeholder.groups()
        offsets[key] = int(offset or 0)
        return f"(?P<{key}>[a-z_]+)" if key == "p" else rf"(?P<{key}>\d+)"

    regex = re.compile(_PLACEHOLDER.sub(group, source.replace(".", r"\.")))

    def translate(name: str) -> str | None:
        match = regex.fullmatch(name)
        if match is None:
            return None

        def value(placeholder: re.Match) -> str:
            key, offset = placeholder.groups()
            if key == "p":
                return match[key]
            return str(int(match[key]) - offsets[key] + int(offset or 0))

        return _PLACEHOLDER.sub(value, target)

    return translate
