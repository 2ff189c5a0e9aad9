"""Ask the processor for a row of a table before it is needed: rows come in random order, and memory is far away."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

ROWS_AHEAD = 16
"""How many rows ahead; by measurement anything from 8 to 32 hides the way to memory."""

_FOR_READING, _KEEP, _DATA = 0, 3, 1


def _prefetch(typing_context, array, row):  # type: ignore[no-untyped-def]
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind, _ = signature.args
        struct = context.make_array(kind)(context, builder, arguments[0])
        shape, strides = (cgutils.unpack_tuple(builder, part) for part in (struct.shape, struct.strides))
        place = [arguments[1], context.get_constant(types.intp, 0)]
        item = cgutils.get_item_pointer2(context, builder, struct.data, shape, strides, kind.layout, place)
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        hints = [ir.Constant(number, hint) for hint in (_FOR_READING, _KEEP, _DATA)]
        builder.call(function, [builder.bitcast(item, byte), *hints])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


prefetch: Any = intrinsic(_prefetch)
"""prefetch(array, row): LLVM's prefetch of the start of array[row], in compiled code. array: of two dimensions."""
