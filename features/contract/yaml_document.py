"""A YAML file as a document: no key twice, and single values replaced from the command line."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

from nightjar.features.contract.errors import SpecError, UsageError


class _OnceOnly(yaml.SafeLoader):
    """Refuses a key that a mapping holds twice: YAML keeps the last one in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_document(path: str | Path) -> dict[str, Any]:
    """The mapping at the top level of a YAML file. Raises SpecError if the file holds none, or cannot be read."""
    try:
        document = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_OnceOnly)
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror or error}. Give the path of a YAML file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
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
            parsed = yaml.load(value, Loader=_OnceOnly)
        except yaml.YAMLError as error:
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
