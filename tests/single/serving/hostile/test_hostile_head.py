"""A head that asks for more memory than its file holds is a DataError, before ONNX Runtime has computed anything."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nightjar import serving
from nightjar.features.contract.errors import DataError
from nightjar.serving.head_graph import OPERATIONS, check_head
from nightjar.serving.packing.pack import pack
from tests.kits.serving.serving_kit import make_world

MANY = 200_000_000
"""Of float32 enough to be seen, and few enough for a machine to have: whoever makes them is not stopped by malloc."""


def numbers(name: str, *values: int) -> Any:
    return numpy_helper.from_array(np.array(values, dtype=np.int64), name)


def weight(name: str, *shape: int) -> Any:
    return numpy_helper.from_array(np.ones(shape, dtype=np.float32), name)


def claimed(name: str, *shape: int, **fields: Any) -> Any:
    """A weight of this shape without its values."""
    return TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT, **fields)


def graph(nodes: Sequence[Any], weights: Sequence[Any] = ()) -> onnx.GraphProto:
    """Whatever the last node gives is added to the logit, of which there is one a row."""
    last = helper.make_node("Add", ["first_order", nodes[-1].output[0]], ["logit"])
    inputs, outputs = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B"])] for name in INPUTS)
    return helper.make_graph([*nodes, last], "head", inputs, outputs, list(weights))


def model(of_graph: onnx.GraphProto, **more: Any) -> bytes:
    made = helper.make_model(of_graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8, **more)
    return bytes(made.SerializeToString())


def node(kind: str, *names: str, **settings: Any) -> Any:
    *inputs, output = names
    return helper.make_node(kind, inputs, [output], **settings)


def in_two_messages() -> bytes:
    """Which a reader of Protocol Buffers takes for one: what is forbidden is in the second."""
    second = onnx.ModelProto(
        graph=onnx.GraphProto(node=[node("ConstantOfShape", "n", "x")], initializer=[numbers("n", MANY)])
    )
    return model(graph([node("Identity", "first_order", "a")])) + second.SerializeToString()


INPUTS = ("first_order", "logit")
CUBE = [weight(f"w{n}", *([1] * n + [60] + [1] * (4 - n))) for n in range(5)]
SUB = helper.make_graph(
    [node("Identity", "first_order", "y")], "sub", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B"])]
)
HEADS = {
    "a constant of many": (
        model(graph([node("ConstantOfShape", "n", "x"), node("ReduceSum", "x", "s")], [numbers("n", MANY)])),
        "operation 'ConstantOfShape'",
    ),
    "a constant of more than there is": (
        model(graph([node("ConstantOfShape", "n", "x"), node("ReduceSum", "x", "s")], [numbers("n", 10**12)])),
        "operation 'ConstantOfShape'",
    ),
    "one number for many places": (
        model(
            graph([node("Expand", "w", "n", "x"), node("ReduceSum", "x", "s")], [weight("w", 1), numbers("n", MANY)])
        ),
        "operation 'Expand'",
    ),
    "a range": (
        model(graph([node("Range", "a", "b", "c", "x")], [numbers("a"), numbers("b"), numbers("c")])),
        "operation 'Range'",
    ),
    "constants multiplied to a table": (
        model(graph([node("Mul", "a", "b", "x")], [weight("a", 15_000, 1), weight("b", 1, 15_000)])),
        "Mul reads .* nothing that is known",
    ),
    "rows multiplied to five dimensions": (
        model(
            graph(
                [
                    node("Unsqueeze", "first_order", "axes", "x0"),
                    *(node("Mul", f"x{n}", f"w{n}", f"x{n + 1}") for n in range(5)),
                    node("ReduceSum", "x5", "all", "s"),
                ],
                [numbers("axes", 1, 2, 3, 4), numbers("all", 0, 1, 2, 3, 4), *CUBE[1:], weight("w0", 1)],
            )
        ),
        "results would hold more than",
    ),
    "a row against itself, again and again": (
        model(
            graph(
                [
                    node("Unsqueeze", "first_order", "one", "column"),
                    node("Mul", "column", "first_order", "square"),
                    node("ReduceSum", "square", "one", "s", keepdims=0),
                ],
                [numbers("one", 1)],
            )
        ),
        "results would hold more than",
    ),
    "a weight without its values": (
        model(graph([node("Add", "first_order", "w", "x")], [claimed("w", 10**12, raw_data=b"")])),
        "weight 'w' is not in the file|weight 'w' has the shape",
    ),
    "a weight of which there is a part": (
        model(graph([node("Add", "first_order", "w", "x")], [claimed("w", MANY, raw_data=b"1234")])),
        r"weight 'w' has the shape \(200000000,\) and 4 bytes",
    ),
    "a weight in another file": (
        model(
            graph(
                [node("Add", "first_order", "w", "x")],
                [
                    claimed(
                        "w",
                        4,
                        data_location=TensorProto.EXTERNAL,
                        external_data=[onnx.StringStringEntryProto(key="location", value="/etc/passwd")],
                    )
                ],
            )
        ),
        "weight 'w' is not in the file",
    ),
    "a tensor in an attribute": (
        model(graph([node("Identity", "first_order", "x", value=weight("w", 3))])),
        "tensors or graphs of its own",
    ),
    "a graph in an attribute": (
        model(graph([node("Identity", "first_order", "x", body=SUB)])),
        "tensors or graphs of its own",
    ),
    "an operation of another domain": (
        model(graph([node("Identity", "first_order", "x", domain="ai.example")])),
        "operation 'Identity'",
    ),
    "functions": (
        model(
            graph([node("Identity", "first_order", "x")]),
            functions=[
                helper.make_function(
                    "", "Relu", ["x"], ["y"], [node("Identity", "x", "y")], [helper.make_opsetid("", 18)]
                )
            ],
        ),
        "functions",
    ),
    "a graph in two messages": (in_two_messages(), "operation 'ConstantOfShape'"),
    "a reshape to what is not there": (
        model(graph([node("Reshape", "first_order", "n", "x")], [numbers("n", MANY, 2)])),
        "it makes",
    ),
    "a split into what is not there": (
        model(graph([node("Split", "first_order", "n", "x")], [numbers("n", MANY)])),
        "it splits",
    ),
    "what it reads is not there": (model(graph([node("Relu", "nobody", "x")])), "Relu reads"),
    "its own result again": (model(graph([node("Relu", "first_order", "first_order")])), "Relu gives"),
}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("heads")
    made = make_world(place, "lr")
    pack(made.candidate, made.state, made.holdout, str(place / "artifact"))
    return place / "artifact"


@pytest.mark.parametrize("head", HEADS)
def test_a_head_that_could_take_all_memory_is_refused_without_taking_any(
    artifact: Path, head: str, tmp_path: Path
) -> None:
    content, reason = HEADS[head]
    copy = tmp_path / "artifact"
    shutil.copytree(artifact, copy)
    (copy / "scoring/head.onnx").write_bytes(content)
    manifest = json.loads((copy / "manifest.json").read_text())
    [entry] = [entry for entry in manifest["files"] if entry["path"] == "scoring/head.onnx"]
    entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    Path("/proc/self/clear_refs").write_text("5")  # the most memory so far is forgotten
    before = highest()
    with pytest.raises(DataError, match=rf"head\.onnx is no head that can be loaded: .*({reason})"):
        serving.load(str(copy))
    assert highest() - before < 100 << 20


def highest() -> int:
    """The most memory of this process, in bytes."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines["VmHWM"].split()[0])


def test_the_formats_page_names_the_operations() -> None:
    page = Path(__file__).parents[4] / "docs" / "artifact-format.md"
    [line] = [line for line in page.read_text().splitlines() if line.startswith("| `scoring/head.onnx`")]
    assert re.findall(r"`([A-Z]\w+)`", line) == sorted(OPERATIONS)


def test_a_head_that_is_cut_or_changed_anywhere_is_refused_or_bounded() -> None:
    """The reader of the graph raises one kind of error, whatever it is given."""
    content = model(graph([node("Mul", "first_order", "w", "x")], [weight("w", 1)]))
    check_head(content)
    rng, refused = np.random.default_rng(0), 0
    for end in range(len(content)):
        for damaged in (content[:end], content[:end] + rng.bytes(1) + content[end + 1 :]):
            try:
                check_head(damaged)
            except ValueError:
                refused += 1
    assert refused > len(content) // 2
