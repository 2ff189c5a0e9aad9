"""Write docs/configuration.md, the reference of a config file, from the models that read it.

    python -m docs.configuration

Types, bounds and defaults are those of the models' JSON schema. What a key means is the docstring below its field; it
is read from the source, so that importing a model never pays for it.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from nightjar.jobs.nightly.night import NightConfig

PAGE = Path(__file__).with_suffix(".md")
Schema = Mapping[str, Any]
Model = type[BaseModel]

_HEAD = """# Configuration

<!-- Written by `python -m docs.configuration` (make docs) from the models that read the file. Do not edit. -->

A config file is one YAML file with a section for each concern. Only `features` is required. Every mistake is reported
at once, with its path, before Spark starts. An unknown key is a mistake, and so is a key that is there twice.

A default of – means that the key is empty: leave it out, or write `null`. A key without a default is required.
`conf/*.yaml` are examples; [features](features.md), [training](training.md), [data checks](data-checks.md) and
[the gate](gate.md) say how to choose.
"""


def reference() -> str:
    """The whole page."""
    sections = _sections(NightConfig)
    schema = NightConfig.model_json_schema()
    schemas = {**schema["$defs"], NightConfig.__name__: schema}
    anchors = {model.__name__: _anchor(_heading(paths)) for paths, models in sections for model in models}
    return "\n".join([_HEAD, *(_section(paths, models, schemas, anchors) for paths, models in sections)])


def meanings(model: Model) -> dict[str, str]:
    """What each key of a model means: the docstrings of its fields, also of those that it inherits."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            found |= _docstrings(base)
    return {name: found[name] for name in model.model_fields if name in found}


def models_by_path() -> list[tuple[str, Model]]:
    """Every mapping that a config file may hold, with the path of its keys; alternatives have the same path."""
    return [(path, model) for paths, models in _sections(NightConfig) for path in paths for model in models]


def _docstrings(model: Model) -> dict[str, str]:
    try:
        source = inspect.getsource(model)
    except OSError:  # made of the models' own sections, each of which says what it is
        own = inspect.get_annotations(model)
        return {name: _summary(model.model_fields[name].annotation) for name in own}
    (definition,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found


def _summary(annotation: Any) -> str:
    """The first sentence of a section's docstring."""
    kinds = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type) and kind is not type(None)]
    return " ".join((kinds[0].__doc__ or "").partition("\n\n")[0].split())


def _sections(root: Model) -> list[tuple[list[str], tuple[Model, ...]]]:
    """Paths and models of the page's sections, from the top down; models with the same path are alternatives."""
    found: dict[tuple[Model, ...], list[str]] = {}

    def visit(path: str, models: tuple[Model, ...]) -> None:
        paths = found.setdefault(models, [])
        paths.append(path)
        if len(paths) == 1:
            for model in models:
                for name, field in model.model_fields.items():
                    if below := tuple(_models_in(field.annotation)):
                        visit(f"{path}.{name}".lstrip("."), below)

    visit("", (root,))
    return [(paths, models) for models, paths in found.items()]


def _models_in(annotation: Any) -> Iterator[Model]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _heading(paths: Sequence[str]) -> str:
    return ", ".join(f"`{path}`" for path in paths) if paths != [""] else "Sections"


def _anchor(heading: str) -> str:
    """How GitHub calls the place of a heading."""
    return "".join(letter for letter in heading.lower() if letter.isalnum() or letter in " _-").replace(" ", "-")


def _section(
    paths: Sequence[str], models: Sequence[Model], schemas: Mapping[str, Schema], anchors: Mapping[str, str]
) -> str:
    level = "##" if "." not in paths[0] else "###"
    lines = [f"{level} {_heading(paths)}", ""]
    for model in models:
        schema, said = schemas[model.__name__], meanings(model)
        if len(models) > 1:
            (choice,) = (
                f"{name}: {field['const']}" for name, field in schema["properties"].items() if "const" in field
            )
            lines += [f"#### `{choice}`", ""]
        lines += [*inspect.cleandoc(model.__doc__ or "").splitlines(), ""]
        lines += ["| Key | Type | Default | Meaning |", "|---|---|---|---|"]
        for name, field in schema["properties"].items():
            default = _default(field) if name not in schema.get("required", ()) else "required"
            cells = (f"`{name}`", _type(field, anchors), default, said.get(name, ""))
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _default(field: Schema) -> str:
    default = field.get("default")
    if default is None:
        return "–"
    if isinstance(default, Mapping):
        return "see there" if default else "`{}`"
    return f"`{_value(default)}`"


def _value(value: Any) -> str:
    """A JSON value as it is written in YAML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_value(item)}" for key, item in value.items() if item is not None) + "}"
    return '""' if value == "" else value if isinstance(value, str) else f"{value:.15g}"


def _number(value: float) -> str:
    exponent = int(value).bit_length() - 1
    return f"2^{exponent}" if exponent >= 16 and value == 2**exponent else f"{value:.15g}"


def _type(field: Schema, anchors: Mapping[str, str]) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[section](#{anchors[name]})"
    if "const" in field:
        return f"`{_value(field['const'])}`"
    if "enum" in field:
        return _either([f"`{_value(value)}`" for value in field["enum"]])
    if alternatives := field.get("anyOf") or field.get("oneOf"):
        kinds = [_type(kind, anchors) for kind in alternatives if kind.get("type") != "null"]
        return _either(list(dict.fromkeys(kinds)))
    if field["type"] == "array":
        return _list(field, anchors)
    if field["type"] == "object":
        return f"mapping to {_type(field['additionalProperties'], anchors)}"
    if field["type"] == "string":
        text = field.get("format", "text")
        return f"{text} like `{field['pattern']}`" if "pattern" in field else text
    kind = {"boolean": "true or false", "integer": "integer", "number": "number"}[field["type"]]
    return f"{kind} {_bounds(field)}".rstrip()


def _list(field: Schema, anchors: Mapping[str, str]) -> str:
    if "prefixItems" in field:
        return f"list of {len(field['prefixItems'])}: {_type(field['prefixItems'][0], anchors)}"
    items = _type(field["items"], anchors).replace("[section]", "[each]")
    least, most = field.get("minItems", 0), field.get("maxItems")
    size = f" of {least} to {most}" if least and most else f", {least} or more" if least else ""
    size = f", at most {most}" if most and not least else size
    return f"list{size}: {items}"


def _either(kinds: Sequence[str]) -> str:
    return " or ".join([", ".join(kinds[:-1]), kinds[-1]]) if len(kinds) > 1 else kinds[0]


def _bounds(field: Schema) -> str:
    """The interval that a number must lie in."""
    low, above = field.get("minimum"), field.get("exclusiveMinimum")
    high, below = field.get("maximum"), field.get("exclusiveMaximum")
    if (low, above, high, below) == (None,) * 4:
        return ""
    left = f"[{_number(low)}" if low is not None else f"({_number(above)}" if above is not None else "(-∞"
    right = f"{_number(high)}]" if high is not None else f"{_number(below)})" if below is not None else "∞)"
    return f"in {left}, {right}"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
    print(PAGE)
