"""A YAML file as a document: no key twice, and single values replaced from the command line.

Aliases are allowed as long as what they stand for stays small when it is written out: nine levels of ten are a
gigabyte of values out of 300 bytes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

from nightjar.features.contract.errors import SpecError, UsageError

MOST_NODES = 100_000
_LONGEST_ERROR = 1000


class _OnceOnly(yaml.SafeLoader):
    """Refuses a key that a mapping holds twice: YAML keeps the last one in silence. Also aliases that grow."""

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        nodes = _written_out(node, {}, set())
        if nodes > MOST_NODES:
            raise yaml.constructor.ConstructorError(
                None, None, f"with its aliases written out it has {nodes} nodes; {MOST_NODES} are allowed"
            )
        return self.construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _written_out(node: yaml.Node, known: dict[int, int], around: set[int]) -> int:
    """How many nodes there are with every alias written out. Each node is looked at once."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in around:
        raise yaml.constructor.ConstructorError(None, None, "an alias stands for what it is in", node.start_mark)
    if id(node) not in known:
        around.add(id(node))
        inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_written_out(part, known, around) for part in inner)
        around.remove(id(node))
    return known[id(node)]


def _parsed(text: str) -> Any:
    """A YAML text as values. Raises ValueError if it is none."""
    try:
        return yaml.load(text, Loader=_OnceOnly)
    except Exception as error:  # constructors raise what Python raises of a date or a number that is none
        raise ValueError(str(error)[:_LONGEST_ERROR] or type(error).__name__) from error


def read_document(path: str | Path) -> dict[str, Any]:
    """The mapping at the top level of a YAML file. Raises SpecError if the file holds none, or cannot be read."""
    try:
        document = _parsed(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror or error}. Give the path of a YAML file.") from error
    except ValueError as error:
        raise SpecError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise SpecError(f"{path} must hold a mapping at its top level; it holds {type(document).__name__}.")
    return document


def with_overrides(document: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The document with values replaced or added; later overrides win. The given document stays as it is.

    Args:
        document: a YAML file's mapping.
        overrides: `KEY=VALUE` each. KEY is a path with dots (`training.epochs`, `features.fields.0.min_count`: an
            entry of a list goes by its number); mappings on the way are made. VALUE is YAML.

    Raises UsageError where an override is malformed or its path leads through a single value.
    """
    for text in overrides:
        key, equals, value = text.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            raise UsageError(f"--set {text} is not KEY=VALUE, as in training.epochs=2.")
        try:
            parsed = _parsed(value)
        except ValueError as error:
            raise UsageError(f"the value of --set {text} is not valid YAML: {error}") from error
        document = _replaced(document, path, parsed, text)
    return document


def _replaced(node: Any, path: Sequence[str], value: Any, text: str) -> Any:
    """A copy of the node in which the path leads to the value."""
    if not path:
        return value
    first, *rest = path
    if isinstance(node, list):
        if not (first.isdecimal() and int(first) < len(node)):
            raise UsageError(f"--set {text}: {first!r} is no entry of a list with the entries 0 to {len(node) - 1}.")
        return [_replaced(entry, rest, value, text) if n == int(first) else entry for n, entry in enumerate(node)]
    if not isinstance(node, dict | None):
        raise UsageError(f"--set {text}: {first!r} would be a key of {node!r}, which has none. Set that as a whole.")
    node = node or {}
    return {**node, first: _replaced(node.get(first), rest, value, text)}
