"""A head as ONNX, for serving without torch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import Any

import torch
from torch import nn

from nightjar.features.contract.layout import TableLayout
from nightjar.training.layers.dense import dense_inputs, embedding_inputs

OPSET = 18
INPUTS = ("first_order", "embeddings", "dense")


def export_head(head: nn.Module, layout: TableLayout) -> bytes:
    """The head as an ONNX model with a dynamic batch. Inputs that it does not use are absent from the graph."""
    import onnx

    example = (torch.zeros(3), torch.zeros(3, embedding_inputs(layout)), torch.zeros(3, dense_inputs(layout)))
    rows = torch.export.Dim("B")
    with _quiet():
        program = torch.onnx.export(
            head.eval(),
            example,
            input_names=INPUTS,
            output_names=["logit"],
            opset_version=OPSET,
            dynamic_shapes=({0: rows},) * len(INPUTS),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    used = {name for node in model.graph.node for name in node.input}
    for value in [value for value in model.graph.input if value.name not in used]:
        model.graph.input.remove(value)
    _forget_origin(model)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def _forget_origin(model: Any) -> None:
    """Drop what the exporter notes about this machine's source files: the same head is the same bytes
    everywhere.
    """
    for part in (
        model,
        model.graph,
        *model.graph.node,
        *model.graph.input,
        *model.graph.output,
        *model.graph.initializer,
    ):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.graph.ClearField("value_info")


@contextlib.contextmanager
def _quiet():  # type: ignore[no-untyped-def]
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
