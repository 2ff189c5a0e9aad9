"""Expressions of `features.derive`, parsed by Python's own grammar into a closed set of nodes; nothing is executed.

A text is the same expression whatever its spaces: `str` of a node is its canonical text.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from nightjar.features.contract.errors import did_you_mean

LONGEST = 2000
_DEEPEST = 50
_LARGEST_INTEGER = 2**63 - 1


@dataclass(frozen=True)
class Literal:
    """A value that is written in the expression; None is a missing one."""

    value: bool | int | float | str | None

    def __str__(self) -> str:
        if isinstance(self.value, str):
            return json.dumps(self.value, ensure_ascii=False)
        return repr(self.value)


@dataclass(frozen=True)
class Column:
    """A column of the log and of requests, or another derived one."""

    name: str

    def __str__(self) -> str:
        return self.name if self.name.isidentifier() else f"column({json.dumps(self.name, ensure_ascii=False)})"


@dataclass(frozen=True)
class Call:
    """A function of FUNCTIONS, or an operator by its name."""

    function: str
    arguments: tuple[Node, ...]

    def __str__(self) -> str:
        return f"{self.function}({', '.join(map(str, self.arguments))})"


Node: TypeAlias = "Literal | Column | Call"


@dataclass(frozen=True)
class Signature:
    """How many arguments a function takes; `most` is None for any number. literals: those that must be written out, by
    position, with their type.
    """

    least: int
    most: int | None
    literals: tuple[tuple[int, type], ...] = ()


_ONE, _TWO, _SEVERAL = Signature(1, 1), Signature(2, 2), Signature(2, None)
FUNCTIONS: Mapping[str, Signature] = {
    **dict.fromkeys(("abs", "floor", "ceil", "sqrt", "log", "log1p"), _ONE),
    **dict.fromkeys(("least", "greatest", "coalesce", "concat"), _SEVERAL),
    **dict.fromkeys(("number", "int", "string", "lower", "upper", "trim", "length"), _ONE),
    **dict.fromkeys(("year", "month", "day", "hour", "minute", "weekday", "timestamp", "epoch_s", "epoch_ms"), _ONE),
    "days_between": _TWO,
    "substring": Signature(2, 3, ((1, int), (2, int))),
    "split_part": Signature(3, 3, ((1, str), (2, int))),
    "replace": Signature(3, 3, ((1, str), (2, str))),
    **dict.fromkeys(("contains", "starts_with", "ends_with"), Signature(2, 2, ((1, str),))),
}
"""What an expression may call, beside `column("any name")`."""
OPERATORS: Mapping[type[ast.AST], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.FloorDiv: "floor_divide",
    ast.Mod: "modulo",
    ast.USub: "negate",
    ast.Not: "not",
    ast.And: "and",
    ast.Or: "or",
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
}
"""Operators of Python's that an expression may hold, by what they are called as functions."""
CONSTRUCTS = ("if_else", "is_in", "is_missing")
"""What `a if c else b`, `a in (…)` and `a is None` are called as functions."""


def parse(text: str) -> Node:
    """The expression that a text is. Raises ValueError, which says what cannot be computed, for any other."""
    if len(text) > LONGEST:
        raise ValueError(f"an expression may have {LONGEST} characters; this one has {len(text)}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ValueError(f"{text!r} is no expression: {getattr(error, 'msg', None) or type(error).__name__}") from error
    node = _node(tree, 0)
    if not columns_of(node):
        raise ValueError(f"{text!r} reads no column")
    return node


def columns_of(node: Node) -> tuple[str, ...]:
    """The columns that an expression reads, without repeats, in order of first use."""
    if isinstance(node, Column):
        return (node.name,)
    below = node.arguments if isinstance(node, Call) else ()
    return tuple(dict.fromkeys(name for argument in below for name in columns_of(argument)))


def _node(tree: ast.expr, depth: int) -> Node:
    if depth > _DEEPEST:
        raise ValueError(f"an expression may be nested {_DEEPEST} deep; compute a part of it as a column of its own")

    def below(child: ast.expr) -> Node:
        return _node(child, depth + 1)

    match tree:
        case ast.Constant():
            return _literal(tree.value)
        case ast.Name(id=name):
            return Column(name)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return _literal(number if isinstance(number, bool) else -number)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            return Call(OPERATORS[type(op)], (below(operand),))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return Call(OPERATORS[type(op)], (below(left), below(right)))
        case ast.BoolOp(op=op, values=values):
            return Call(OPERATORS[type(op)], tuple(map(below, values)))
        case ast.IfExp(test=test, body=body, orelse=other):
            return Call("if_else", (below(test), below(body), below(other)))
        case ast.Compare():
            return _comparison(tree, below)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return _call(name, [below(argument) for argument in arguments])
    raise ValueError(f"{ast.unparse(tree)!r} cannot be computed in a request; {_known()}")


def _literal(value: Any) -> Literal:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST_INTEGER:
        raise ValueError(f"{value} is beyond 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number must be finite")
    if isinstance(value, str) and not value.isascii():
        value.encode()  # a lone surrogate is no character, and a ValueError
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError(f"{value!r} is no number, string, True, False or None")
    return Literal(value)


def _comparison(tree: ast.Compare, below: Callable[[ast.expr], Node]) -> Node:
    """`a < b < c` is `a < b and b < c`."""
    sides = [tree.left, *tree.comparators]
    found: list[Node] = []
    for op, left, right in zip(tree.ops, sides, sides[1:], strict=False):
        if isinstance(op, ast.Is | ast.IsNot) and isinstance(right, ast.Constant) and right.value is None:
            node: Node = Call("is_missing", (below(left),))
        elif isinstance(op, ast.In | ast.NotIn) and isinstance(right, ast.Tuple | ast.List):
            node = _is_in(below(left), [below(item) for item in right.elts])
        elif type(op) in OPERATORS:
            node = Call(OPERATORS[type(op)], (below(left), below(right)))
        else:
            raise ValueError(
                f"{ast.unparse(tree)!r} cannot be computed; compare by == != < <= > >=, `in (...)` of values"
            )
        found.append(Call("not", (node,)) if isinstance(op, ast.IsNot | ast.NotIn) else node)
    return found[0] if len(found) == 1 else Call("and", tuple(found))


def _is_in(value: Node, items: list[Node]) -> Node:
    literals = [item for item in items if isinstance(item, Literal)]
    kinds = {isinstance(item.value, str) for item in literals}
    if len(literals) < len(items) or len(kinds) != 1 or any(item.value is None for item in literals):
        raise ValueError("`in` needs a list of numbers or one of strings, such as country in ('DE', 'FR')")
    return Call("is_in", (value, *literals))


def _call(name: str, arguments: list[Node]) -> Node:
    if name == "column":
        if len(arguments) != 1 or not isinstance(arguments[0], Literal) or not isinstance(arguments[0].value, str):
            raise ValueError('column needs a name in quotes: column("any name")')
        return Column(arguments[0].value)
    if name not in FUNCTIONS:
        raise ValueError(f"{name} is no function of an expression{did_you_mean([name], FUNCTIONS) or '; ' + _known()}")
    takes = FUNCTIONS[name]
    if len(arguments) < takes.least or (takes.most is not None and len(arguments) > takes.most):
        several = f"{takes.least} or more" if takes.most is None else " or ".join(map(str, {takes.least, takes.most}))
        raise ValueError(f"{name} takes {several} argument(s); got {len(arguments)}")
    for position, kind in takes.literals:
        if position < len(arguments):
            _require_literal(name, position, kind, arguments[position])
    return Call(name, tuple(arguments))


def _require_literal(name: str, position: int, kind: type, argument: Node) -> None:
    value = argument.value if isinstance(argument, Literal) else None
    if type(value) is not kind or (value == "" and (name, position) != ("replace", 2)):
        wanted = "a string" if kind is str else "a whole number"
        raise ValueError(f"argument {position + 1} of {name} must be {wanted} that is written out; got {argument}")
    if (name, position) == ("substring", 2):
        if isinstance(value, int) and value < 0:
            raise ValueError(f"argument 3 of substring must be 0 or more; got {value}")
    elif value == 0:
        raise ValueError(f"argument {position + 1} of {name} counts from 1, or from -1 at the end; got 0")


def _known() -> str:
    return f"there are + - * / // %, comparisons, and, or, not, `a if c else b`, `in`, and {', '.join(FUNCTIONS)}"
