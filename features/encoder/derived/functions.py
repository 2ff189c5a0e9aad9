"""What each function and operator of an expression does to arrays of a kind (features.encoder.derived.evaluate).

Every function takes the arguments as arrays of one length, and the values of those that are literals. Arithmetic and
comparisons of numbers are those of 64-bit floating-point numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial, reduce
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MOMENT = pa.timestamp("us")
Kind = Literal["nothing", "integer", "number", "boolean", "string", "moment"]
Function: TypeAlias = "Callable[[Sequence[pa.Array], Sequence[Any]], pa.Array]"

_INTEGRAL = re.compile(r"[+-]?[0-9]{1,30}")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,5})?")
_LARGEST = 2.0**63
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The years from 1 through 9999, which a moment may be of, and a day: in microseconds.
FIRST_MICROS, LAST_MICROS = -62_135_596_800_000_000, 253_402_300_799_999_999
DAY_MICROS = 86_400_000_000
_TYPES: Mapping[Kind, pa.DataType] = {
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "string": pa.string(),
    "moment": MOMENT,
}


class KindError(Exception):
    """A function was given values of a kind that it does not take. where: the call, as text."""

    def __init__(self, reason: str, where: str = ""):
        super().__init__(f"{where} {reason}".strip())
        self.reason, self.where = reason, where


def kind_of(array: pa.Array) -> Kind:
    """What an array holds."""
    return next((kind for kind, of in _TYPES.items() if array.type == of), "nothing")


def _a(kind: Kind) -> str:
    return f"an {kind}" if kind == "integer" else f"a {kind}"


def _as_numbers(array: pa.Array) -> pa.Array:
    """float64 without NaN."""
    if kind_of(array) in ("string", "moment"):
        raise KindError(f"needs a number and got {_a(kind_of(array))}; see number(...)")
    if kind_of(array) == "boolean":
        array = array.cast(pa.int8())
    return array.cast(pa.float64(), safe=False)


def _as_strings(array: pa.Array) -> pa.Array:
    if kind_of(array) not in ("string", "nothing"):
        raise KindError(f"needs a string and got {_a(kind_of(array))}; see string(...)")
    return array.cast(pa.string())


def _as_truth(array: pa.Array) -> pa.Array:
    if kind_of(array) not in ("boolean", "nothing"):
        raise KindError(f"needs something true or false and got {_a(kind_of(array))}; compare it first")
    return array.cast(pa.bool_())


def _as_moments(array: pa.Array) -> pa.Array:
    if kind_of(array) == "string":
        return _by_value(array, _moment, MOMENT)
    if kind_of(array) not in ("moment", "nothing"):
        raise KindError(f"needs a moment and got {_a(kind_of(array))}; see epoch_s(...) and epoch_ms(...)")
    return array.cast(MOMENT)


def _by_value(array: pa.Array, of: Callable[[Any], Any], kind: pa.DataType) -> pa.Array:
    """A function of Python's, of each distinct value; missing stays missing."""
    encoded = array.dictionary_encode()
    return pa.array([of(value) for value in encoded.dictionary.to_pylist()], kind).take(encoded.indices)


def moments(micros: pa.Array) -> pa.Array:
    """Of microseconds since 1970, int64; those beyond the years from 1 through 9999 are missing."""
    held = pc.and_(pc.greater_equal(micros, FIRST_MICROS), pc.less_equal(micros, LAST_MICROS))
    return pc.if_else(held, micros, pa.scalar(None, pa.int64())).cast(MOMENT)


def _known(numbers: pa.Array) -> pa.Array:
    """NaN as missing."""
    return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)


def _alike(arrays: Sequence[pa.Array]) -> list[pa.Array]:
    """Arrays of one type, which can hold the values of all."""
    kinds = {kind_of(array) for array in arrays} - {"nothing"}
    if len(kinds) > 1 and kinds <= {"integer", "number", "boolean"}:
        if "number" in kinds:
            return [_as_numbers(array) for array in arrays]
        return [array.cast(pa.int64()) for array in arrays]
    if len(kinds) > 1:
        raise KindError(f"mixes {' and '.join(_a(kind) for kind in sorted(kinds))}")
    return [array.cast(_TYPES[kind]) for kind in kinds for array in arrays] or list(arrays)


def _arithmetic(name: str) -> Function:
    return lambda arguments, _: _known(pc.call_function(name, [_as_numbers(array) for array in arguments]))


def _without_zero(divisor: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(divisor, 0.0), pa.scalar(None, pa.float64()), divisor)


def _divide(arguments: Sequence[pa.Array], _: Sequence[Any]) -> pa.Array:
    dividend, divisor = map(_as_numbers, arguments)
    return _known(pc.divide(dividend, _without_zero(divisor)))


def _floor_divide(arguments: Sequence[pa.Array], _: Sequence[Any]) -> pa.Array:
    return pc.floor(_divide(arguments, _))


def _modulo(arguments: Sequence[pa.Array], _: Sequence[Any]) -> pa.Array:
    """With the sign of the divisor, as Python's."""
    dividend, divisor = _as_numbers(arguments[0]), _without_zero(_as_numbers(arguments[1]))
    with np.errstate(invalid="ignore"):
        rest = np.mod(*(side.to_numpy(zero_copy_only=False) for side in (dividend, divisor)))
    return pa.array(rest, pa.float64(), from_pandas=True)


def _compare(name: str, arguments: Sequence[pa.Array], _: Sequence[Any]) -> pa.Array:
    sides = _alike(arguments)
    if kind_of(sides[0]) in ("integer", "boolean"):
        sides = [_as_numbers(side) for side in sides]
    if kind_of(sides[0]) == "nothing":
        return pa.nulls(len(sides[0]), pa.bool_())
    return pc.call_function(name, sides)


def _is_in(arguments: Sequence[pa.Array], literals: Sequence[Any]) -> pa.Array:
    value = arguments[0]
    if kind_of(value) == "nothing":
        return value.cast(pa.bool_())
    is_text = isinstance(literals[1], str)
    value = _as_strings(value) if is_text else _as_numbers(value)
    known = pa.array(literals[1:] if is_text else [float(one) for one in literals[1:]], value.type)
    return pc.if_else(value.is_valid(), pc.is_in(value, value_set=known), pa.scalar(None, pa.bool_()))


def _if_else(arguments: Sequence[pa.Array], _: Sequence[Any]) -> pa.Array:
    """A missing condition does not hold."""
    one, other = _alike(arguments[1:])
    holds = pc.fill_null(_as_truth(arguments[0]), False)
    return one if kind_of(one) == "nothing" else pc.if_else(holds, one, other)


def _coalesce(arguments: Sequence[pa.Array], _: Sequence[Any]) -> pa.Array:
    return pc.coalesce(*_alike(arguments))


def _extreme(name: str, arguments: Sequence[pa.Array], _: Sequence[Any]) -> pa.Array:
    """Of those that are not missing."""
    sides = _alike(arguments)
    if kind_of(sides[0]) == "nothing":
        return sides[0]
    if kind_of(sides[0]) not in ("integer", "number"):
        raise KindError(f"needs numbers and got {_a(kind_of(sides[0]))}")
    return pc.call_function(f"{name}_element_wise", sides)


def _logical(name: str, arguments: Sequence[pa.Array], _: Sequence[Any]) -> pa.Array:
    return reduce(lambda one, other: pc.call_function(name, [one, other]), map(_as_truth, arguments))


def _negation(arguments: Sequence[pa.Array], _: Sequence[Any]) -> pa.Array:
    return pc.invert(_as_truth(arguments[0]))


def _integer(arguments: Sequence[pa.Array], _: Sequence[Any]) -> pa.Array:
    """Cut towards zero; a string only if it is a whole number."""
    value = arguments[0]
    if kind_of(value) == "integer":
        return value
    if kind_of(value) == "string":
        return _by_value(value, _whole, pa.int64())
    number = pc.trunc(_as_numbers(value))
    held = pc.and_(pc.greater_equal(number, -_LARGEST), pc.less(number, _LARGEST))
    return pc.if_else(held, number, pa.scalar(None, pa.float64())).cast(pa.int64(), safe=False)


def _whole(text: str) -> int | None:
    number = int(text) if _INTEGRAL.fullmatch(text.strip()) else None
    return number if number is not None and -(2**63) <= number < 2**63 else None


def _number(arguments: Sequence[pa.Array], _: Sequence[Any]) -> pa.Array:
    if kind_of(arguments[0]) == "string":
        return _by_value(arguments[0], lambda t: float(t) if _NUMBER.fullmatch(t.strip()) else None, pa.float64())
    return _as_numbers(arguments[0])


def _string(array: pa.Array) -> pa.Array:
    if kind_of(array) == "moment":
        raise KindError("gives no string of a moment; take its parts")
    return _by_value(array, _spelt, pa.string()) if kind_of(array) == "number" else array.cast(pa.string())


def _spelt(number: float) -> str:
    """A whole number as an integer is, any other by the shortest digits that give it again."""
    return str(int(number)) if number.is_integer() and abs(number) < _LARGEST else repr(number)


def _concat(arguments: Sequence[pa.Array], _: Sequence[Any]) -> pa.Array:
    return pc.binary_join_element_wise(*map(_string, arguments), "")


def _text(name: str, kind: pa.DataType = _TYPES["string"]) -> Function:
    return lambda arguments, _: pc.call_function(name, [_as_strings(arguments[0])]).cast(kind)


def _substring(arguments: Sequence[pa.Array], literals: Sequence[Any]) -> pa.Array:
    """From a character on, the first of which is 1, and the last -1; a place before the first is empty."""
    at, most = literals[1], literals[2] if len(literals) == 3 else None

    def cut(text: str) -> str:
        begin = at - 1 if at > 0 else len(text) + at
        stop = len(text) if most is None else begin + most
        return text[max(begin, 0) : max(stop, 0)]

    return _by_value(_as_strings(arguments[0]), cut, pa.string())


def _split_part(arguments: Sequence[pa.Array], literals: Sequence[Any]) -> pa.Array:
    """The n-th piece, from 1, or from -1 at the end; missing where there are fewer."""
    _, separator, n = literals

    def piece(text: str) -> str | None:
        pieces = text.split(separator)
        return pieces[n - 1 if n > 0 else n] if abs(n) <= len(pieces) else None

    return _by_value(_as_strings(arguments[0]), piece, pa.string())


def _replace(arguments: Sequence[pa.Array], literals: Sequence[Any]) -> pa.Array:
    return pc.replace_substring(_as_strings(arguments[0]), pattern=literals[1], replacement=literals[2])


def _holds(name: str, arguments: Sequence[pa.Array], literals: Sequence[Any]) -> pa.Array:
    return pc.call_function(name, [_as_strings(arguments[0])], pc.MatchSubstringOptions(literals[1]))


def _part(name: str, arguments: Sequence[pa.Array], _: Sequence[Any]) -> pa.Array:
    return pc.call_function(name, [_as_moments(arguments[0])]).cast(pa.int64())


def _weekday(arguments: Sequence[pa.Array], _: Sequence[Any]) -> pa.Array:
    """Monday is 1."""
    return pc.day_of_week(_as_moments(arguments[0]), count_from_zero=False, week_start=1)


def _moment(text: str) -> int | None:
    """Microseconds since 1970; of a moment without a time zone in UTC."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _since_1970(micros: float, arguments: Sequence[pa.Array], _: Sequence[Any]) -> pa.Array:
    """micros: microseconds of one."""
    number = pc.round(pc.multiply(_as_numbers(arguments[0]), micros))
    held = pc.less(pc.abs(number), _LARGEST)
    return moments(pc.if_else(held, number, pa.scalar(None, pa.float64())).cast(pa.int64(), safe=False))


def _days_between(arguments: Sequence[pa.Array], _: Sequence[Any]) -> pa.Array:
    later, earlier = (_as_moments(array).cast(pa.int64()) for array in arguments)
    return pc.divide(pc.subtract(later, earlier).cast(pa.float64(), safe=False), float(DAY_MICROS))


FUNCTIONS: Mapping[str, Function] = {
    **{name: _arithmetic(name) for name in ("add", "subtract", "multiply", "negate", "abs", "floor", "ceil", "sqrt")},
    "log": _arithmetic("ln"),
    "log1p": _arithmetic("log1p"),
    "divide": _divide,
    "floor_divide": _floor_divide,
    "modulo": _modulo,
    **{
        name: partial(_compare, name)
        for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
    },
    "is_in": _is_in,
    "is_missing": lambda arguments, _: arguments[0].is_null(),
    "if_else": _if_else,
    "coalesce": _coalesce,
    "least": partial(_extreme, "min"),
    "greatest": partial(_extreme, "max"),
    "and": partial(_logical, "and_kleene"),
    "or": partial(_logical, "or_kleene"),
    "not": _negation,
    "int": _integer,
    "number": _number,
    "string": lambda arguments, _: _string(arguments[0]),
    "concat": _concat,
    "lower": _text("utf8_lower"),
    "upper": _text("utf8_upper"),
    "trim": _text("utf8_trim_whitespace"),
    "length": _text("utf8_length", pa.int64()),
    "substring": _substring,
    "split_part": _split_part,
    "replace": _replace,
    "contains": partial(_holds, "match_substring"),
    "starts_with": partial(_holds, "starts_with"),
    "ends_with": partial(_holds, "ends_with"),
    **{name: partial(_part, name) for name in ("year", "month", "day", "hour", "minute")},
    "weekday": _weekday,
    "timestamp": lambda arguments, _: _as_moments(arguments[0]),
    "epoch_s": partial(_since_1970, 1e6),
    "epoch_ms": partial(_since_1970, 1e3),
    "days_between": _days_between,
}
