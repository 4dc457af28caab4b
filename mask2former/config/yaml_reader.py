"""Reading of untrusted config files: yaml into plain values, without ever running what it holds.

Published Mask2Former configs write lists as Python expressions behind a tag with which PyYAML calls
``eval``. The one form that they use, an arithmetic comprehension over a range, is evaluated here
from its syntax tree; see ``evaluate_list``. Every other tag is refused.
"""

import ast
import operator
import os
from collections.abc import Callable, Hashable
from typing import Any, ClassVar

import yaml
from detectron2.utils.file_io import PathManager

from ..errors import UserError

BASE_KEY = "_BASE_"
_STANDARD = "tag:yaml.org,2002:"
_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")
_EVAL = "python/object/apply:eval"
_TUPLE = "python/tuple"

_OPERATORS: dict[type[ast.AST], Callable[..., int | float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
_MAX_EXPRESSION_LENGTH = 200  # characters; bounds the depth of the syntax tree too
_MAX_LIST_LENGTH = 1000
_MAX_NUMBER = 10**9
_MAX_DEPTH = 100  # of brackets; the time of the scanner grows with their square
_MAX_VALUES = 100_000  # of one file, each as often as it is referred to


def read_chain(path: str | os.PathLike[str]) -> list[tuple[str, dict[str, Any]]]:
    """Read a config and, through its ``_BASE_``, those it builds on.

    ``_BASE_`` is a file name, or a list of them, taken relative to the file that names it.

    Returns:
        (file name, keys without ``_BASE_``) pairs in the order in which they are to be merged: a
        base before what builds on it.

    Raises:
        FileNotFoundError: a file is missing.
        UserError: a file cannot be read (see ``read_yaml``), or the bases go round in a circle.
    """
    return _read_chain(os.fspath(path), ())


def _read_chain(path: str, below: tuple[str, ...]) -> list[tuple[str, dict[str, Any]]]:
    if not PathManager.isfile(path):
        named_by = f", the {BASE_KEY} of {below[-1]}," if below else ""
        raise FileNotFoundError(f"config file {path}{named_by} does not exist")
    identity = os.path.realpath(path)
    if identity in map(os.path.realpath, below):
        raise UserError(f"{BASE_KEY} goes round in a circle: {' -> '.join((*below, path))}")
    keys = read_yaml(path)
    bases = keys.pop(BASE_KEY, [])
    bases = bases if isinstance(bases, list) else [bases]
    chain = []
    for base in bases:
        if not isinstance(base, str):
            raise UserError(f"{path}: {BASE_KEY} expects a file name, got {base!r}")
        if "://" in base and "://" not in path:
            raise UserError(
                f"{path}: {BASE_KEY} {base} is on the web, where a config of somebody else should "
                "not make us go; download it and name the file"
            )
        chain += _read_chain(_beside(path, base), (*below, path))
    return [*chain, (path, keys)]


def _beside(path: str, base: str) -> str:
    base = os.path.expanduser(base)
    is_absolute = os.path.isabs(base) or "://" in base
    return base if is_absolute else os.path.normpath(os.path.join(os.path.dirname(path), base))


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a yaml file that holds one mapping.

    Returns:
        nested dicts with str keys; the leaves are None, bool, int, float, str, list and tuple.

    Raises:
        UserError: not yaml, not a mapping, a key that occurs twice or is not a string, or a tag
            other than a tuple and the lists of ``evaluate_list``; says the file and the line.
    """
    path = os.fspath(path)
    try:
        with PathManager.open(path, "r", encoding="utf-8") as file:
            content = yaml.load(file, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: {error.problem or error.context}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a yaml text file: {error}") from error
    except RecursionError as error:
        raise UserError(f"{path}: nested too deeply for a config") from error
    if _is_huge(content):
        raise UserError(f"{path}: has more than {_MAX_VALUES} values, through aliases of aliases")
    if not isinstance(content, dict):
        kind = "an empty file" if content is None else f"a {type(content).__name__}"
        raise UserError(f"{path}: expected a mapping of config keys, got {kind}")
    return content


def _is_huge(content: Any) -> bool:
    """Tell whether so many values come of aliases that work with them would not end."""
    left, waiting = _MAX_VALUES, [content]
    while waiting and left:
        left -= 1
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
    return bool(waiting)


class _Loader(yaml.SafeLoader):
    """Build plain values, tuples and evaluated lists, and nothing else."""

    yaml_constructors: ClassVar[dict[str, Any]] = {
        _STANDARD + tag: yaml.SafeLoader.yaml_constructors[_STANDARD + tag] for tag in _PLAIN
    }
    yaml_multi_constructors: ClassVar[dict[str, Any]] = {}

    def fetch_flow_collection_start(self, token_class: type) -> None:
        if self.flow_level >= _MAX_DEPTH:
            raise RecursionError
        super().fetch_flow_collection_start(token_class)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ValueError, KeyError, IndexError) as error:  # "!!int x" and the like
            problem = f"cannot read {node.value!r:.60} as {_short(node.tag)}"
            raise _error(node, problem) from error
        if isinstance(value, int) and value.bit_length() > 64:
            raise _error(node, f"{node.value:.60} is a number of more than 64 bits")
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _error(key_node, "expected a name as key")
            # Merge keys ("<<") are resolved by the parent class.
            if key_node.tag not in (_STANDARD + "str", _STANDARD + "merge"):
                raise _error(key_node, f"expected a name as key, got {key_node.value}; quote it")
            if key_node.value in seen:
                raise _error(key_node, f"the key {key_node.value} occurs twice")
            seen.add(key_node.value)
        # Deep, so that an alias to what surrounds it is an error and not a cycle.
        return super().construct_mapping(node, deep=True)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Take the keys of "<<" in; those of mappings that merge others twice double each time."""
        super().flatten_mapping(node)
        if len(node.value) > _MAX_VALUES:
            raise _error(node, f"has more than {_MAX_VALUES} keys, through merges of merges")

    def construct_tuple(self, node: yaml.Node) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise _error(node, f"expected a sequence behind {_short(node.tag)}")
        return tuple(self.construct_sequence(node, deep=True))

    def construct_evaluated(self, node: yaml.Node) -> list[int | float]:
        arguments = node.value if isinstance(node, yaml.SequenceNode) else []
        if len(arguments) != 1 or not isinstance(arguments[0], yaml.ScalarNode):
            raise _error(node, f"expected one expression in brackets behind {_short(node.tag)}")
        try:
            return evaluate_list(arguments[0].value)
        except UserError as error:
            raise _error(node, str(error)) from error

    def refuse(self, node: yaml.Node) -> Any:
        tag = _short(node.tag)
        if tag == "!!timestamp":
            raise _error(node, f"{node.value} reads as a date; quote it")
        raise _error(node, f"the tag {tag} is refused: configs hold plain values only")


_Loader.add_constructor(_STANDARD + _TUPLE, _Loader.construct_tuple)
_Loader.add_constructor(_STANDARD + _EVAL, _Loader.construct_evaluated)
_Loader.add_constructor(None, _Loader.refuse)


def _error(node: yaml.Node, problem: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _short(tag: str) -> str:
    return tag.replace(_STANDARD, "!!")


def evaluate_list(expression: str) -> list[int | float]:
    """Work out a comprehension such as ``[int(x * 0.1 * 512) for x in range(5, 21)]``.

    Only numbers, the variable, ``+ - * / // %``, ``int()`` and one ``range()`` may occur.

    Raises:
        UserError: anything else occurs, it has no value (a division by zero), or it is too long
            (200 characters, 1000 elements, numbers beyond 1e9).
    """
    try:
        if len(expression) > _MAX_EXPRESSION_LENGTH:
            raise UserError(f"longer than {_MAX_EXPRESSION_LENGTH} characters")
        comprehension = ast.parse(expression.strip(), mode="eval").body
        return _evaluate_comprehension(comprehension)
    except (ValueError, ArithmeticError, SyntaxError, RecursionError, MemoryError) as error:
        shown = expression if len(expression) <= 60 else expression[:60] + "..."
        raise UserError(
            f"the expression {shown!r} is refused: {error}; expected arithmetic such as"
            " [int(x * 0.1 * 512) for x in range(5, 21)], or a plain list"
        ) from error


def _evaluate_comprehension(node: ast.expr) -> list[int | float]:
    if not isinstance(node, ast.ListComp) or len(node.generators) != 1:
        raise UserError("it is no list comprehension with one loop")
    loop = node.generators[0]
    if loop.ifs or loop.is_async or not isinstance(loop.target, ast.Name):
        raise UserError("its loop is no plain one")
    arguments = [_evaluate_number(bound, {}) for bound in _call_arguments(loop.iter, "range")]
    bounds = [bound for bound in arguments if isinstance(bound, int)]
    if not 1 <= len(arguments) <= 3 or len(bounds) < len(arguments):
        raise UserError("range() takes one to three whole numbers")
    values = range(*bounds)
    if len(values) > _MAX_LIST_LENGTH:
        raise UserError(f"it has more than {_MAX_LIST_LENGTH} elements")
    return [_evaluate_number(node.elt, {loop.target.id: value}) for value in values]


def _evaluate_number(node: ast.expr, variables: dict[str, int]) -> int | float:
    value: int | float
    if (
        isinstance(node, ast.Constant)
        and isinstance(node.value, int | float)
        and not isinstance(node.value, bool)
    ):
        value = node.value
    elif isinstance(node, ast.Name) and node.id in variables:
        value = variables[node.id]
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = (_evaluate_number(side, variables) for side in (node.left, node.right))
        value = _OPERATORS[type(node.op)](left, right)
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        value = _OPERATORS[type(node.op)](_evaluate_number(node.operand, variables))
    elif isinstance(node, ast.Call):
        (argument,) = _call_arguments(node, "int")
        value = int(_evaluate_number(argument, variables))
    else:
        raise UserError(f"it holds {ast.unparse(node)}")
    if abs(value) > _MAX_NUMBER:
        raise UserError("a number in it is too large")
    return value


def _call_arguments(node: ast.expr, function: str) -> list[ast.expr]:
    match node:
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name == function:
            return arguments
    raise UserError(f"it holds {ast.unparse(node)} where {function}() was expected")
