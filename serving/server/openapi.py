"""The OpenAPI document of a served version: its rows as the model's own inputs say, with golden rows as examples."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

import nightjar
from nightjar.features.encoder.inputs import InputColumn
from nightjar.serving.server.settings import Settings

Schema = dict[str, Any]

EXAMPLES = 5
_CATEGORY = ["string", "integer", "boolean", "null"]
_TYPES: Mapping[str, Schema] = {
    "category": {"type": _CATEGORY},
    "list of categories": {"type": ["array", "null"], "items": {"type": _CATEGORY}},
    "delimited list": {"type": ["string", "null"]},
    "number": {"type": ["number", "boolean", "null"]},
    "count": {"type": ["integer", "null"], "minimum": 0},
    "value": {"type": ["string", "number", "boolean", "null"]},
}
_REFUSALS = {
    "400": "The body is not JSON.",
    "408": "The body did not come in time.",
    "413": "The body or the number of rows is too large.",
    "415": "The body is not declared as JSON.",
    "422": "The rows are not such as the model scores.",
    "503": "Too many requests wait, or the counters are too old. `Retry-After` says when to send it again.",
    "504": "The answer took too long.",
}
_NUMBERS: Schema = {"type": "array", "items": {"type": "number"}}
_ANSWERED_BY: Schema = {
    "version": {"type": "string", "description": "The model's, which made all of this answer."},
    "counters": {"type": ["string", "null"], "description": "Those that it served with; null for its own."},
    "counters_as_of": {"type": "string", "format": "date", "description": "The day whose requests they are for."},
}
_CONTRIBUTION: Schema = {
    "part": {"enum": ["wide", "deep"]},
    "feature": {"type": "string"},
    "name": {"type": "string"},
    "x": {"type": ["number", "null"]},
    "logit": {"type": "number"},
    "shared": {"type": "string"},
}
_COUNTS: Schema = {
    "frequency": {"type": "string"},
    "keys": {"type": "string"},
    "window": {"type": "string"},
    "impressions": {"type": "integer"},
    "positives": {"type": "integer"},
}


def document(version: str, inputs: Sequence[InputColumn], golden: pa.Table | None, settings: Settings) -> bytes:
    """The document as JSON.

    Args:
        version: of the model.
        inputs: its columns.
        golden: its golden rows, of which the first are examples; None for none.
        settings: bounds that the schemas tell.
    """
    examples = rows_of(golden, inputs) if golden is not None else []
    rows: Schema = {"type": "array", "maxItems": settings.rows, "items": {"$ref": "#/components/schemas/Row"}}
    context = {"type": "object", "description": "Columns that all rows have in common, given once."}
    schemas = {
        "Row": _row(inputs, examples),
        "Context": context,
        "Part": {
            "type": "object",
            "description": "A row, but for the columns of the context.",
            "properties": _properties(inputs),
        },
        "Rank": _object(
            {
                "context": {"$ref": "#/components/schemas/Context"},
                "candidates": rows | {"items": {"$ref": "#/components/schemas/Part"}},
                "k": {"type": "integer", "minimum": 1, "description": "How many of the best; all if it is left out."},
            },
            ["candidates"],
        ),
        "Score": _object(
            {
                "context": {"$ref": "#/components/schemas/Context"},
                "rows": rows | {"items": {"$ref": "#/components/schemas/Part"}},
            },
            ["rows"],
        ),
        "Explain": _object({"row": {"$ref": "#/components/schemas/Row"}}),
        "Ranking": _object(
            _ANSWERED_BY
            | {
                "positions": {"type": "array", "items": {"type": "integer"}, "description": "The best first, from 0."},
                "scores": _NUMBERS | {"description": "Probabilities, in the order of `positions`."},
            }
        ),
        "Scores": _object(_ANSWERED_BY | {"scores": _NUMBERS | {"description": "Probabilities, one a row."}}),
        "Explanation": _object(
            _ANSWERED_BY
            | {
                "probability": {"type": "number"},
                "logit": {"type": "number"},
                "base": {"type": "number"},
                "contributions": {"type": "array", "items": _object(_CONTRIBUTION)},
                "counts": {"type": "array", "items": _object(_COUNTS)},
            }
        ),
        "Refusal": _object({"error": {"type": "string"}}),
    }
    paths = {
        "/rank": _post(
            "Rank candidates, the most probable first.", "Rank", "Ranking", {"candidates": examples, "k": 3}
        ),
        "/score": _post("Score rows.", "Score", "Scores", {"rows": examples}),
        "/explain": _post(
            "Why a row has its score.", "Explain", "Explanation", {"row": examples[0] if examples else {}}
        ),
        "/healthz": _get("Whether the process is at work."),
        "/readyz": _get("Which version serves, and why not what the pointer names."),
        "/metrics": _get("Metrics for Prometheus.", "text/plain"),
    }
    if not examples:
        for path in ("/rank", "/score", "/explain"):
            del paths[path]["post"]["requestBody"]["content"]["application/json"]["example"]
    found = {
        "openapi": "3.1.0",
        "info": {"title": "Nightjar", "version": nightjar.__version__, "description": f"Serves {version}."},
        "paths": paths,
        "components": {"schemas": schemas},
    }
    return json.dumps(found).encode()


def rows_of(golden: pa.Table, inputs: Sequence[InputColumn]) -> list[Schema]:
    """The first golden rows as a request would send them."""
    names = [column.name for column in inputs if column.name in golden.column_names]
    return [
        {name: as_json(value) for name, value in row.items()}
        for row in golden.select(names).slice(0, EXAMPLES).to_pylist()
    ]


def as_json(value: Any) -> Any:
    """A raw value of a log as JSON has it; NaN is missing."""
    if isinstance(value, list):
        return [as_json(item) for item in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value) if value % 1 else int(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _row(inputs: Sequence[InputColumn], examples: list[Schema]) -> Schema:
    required = [column.name for column in inputs if column.required]
    found = _object(_properties(inputs), required) | {"description": "Raw columns; further ones are ignored."}
    return found | ({"examples": examples} if examples else {})


def _properties(inputs: Sequence[InputColumn]) -> Schema:
    properties = {column.name: _TYPES[column.type] | {"description": column.meaning} for column in inputs}
    counts = [column.name for column in inputs if column.type == "count" and column.required]
    return properties | {name: properties[name] | {"type": "integer"} for name in counts}


def _object(properties: Schema, required: Sequence[str] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties if required is None else required),
    }


def _content(schema: str) -> Schema:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _post(summary: str, body: str, answer: str, example: Schema) -> Schema:
    content = _content(body)
    content["application/json"]["example"] = example
    responses = {"200": {"description": "The answer.", "content": _content(answer)}}
    refusals = {status: {"description": said, "content": _content("Refusal")} for status, said in _REFUSALS.items()}
    post = {
        "summary": summary,
        "requestBody": {"required": True, "content": content},
        "responses": responses | refusals,
    }
    return {"post": post}


def _get(summary: str, kind: str = "application/json") -> Schema:
    return {"get": {"summary": summary, "responses": {"200": {"description": "It is.", "content": {kind: {}}}}}}
