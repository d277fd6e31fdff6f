"""Whether a model's weights are all in its own file.

ONNX lets a tensor name another file to be read in its place. A model may be anybody's, so none is
followed, wherever it lies. onnxruntime refuses but those that leave the model's folder, or, for a
model in memory, the working directory.
"""

from __future__ import annotations

from collections.abc import Iterator

from tasks.errors import RequestError

_EXTERNAL_DATA = 13  # of a tensor: where else it lies

# Fields (onnx.proto, IR version 13) on the way from a model to its tensors, and what they hold
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}


def check_weights(uri: str, model: bytes) -> None:
    """Refuse a model that names other files.

    Args:
        uri: Of the model, for the message.
        model: Its file, a ModelProto in protobuf's wire format.

    Raises:
        RequestError: A tensor of it lies elsewhere; or it is no protobuf.
    """
    left = [("model", memoryview(model))]
    try:
        while left:
            kind, message = left.pop()
            for field, value in _fields(message):
                if kind != "tensor":
                    inner = _FIELDS[kind].get(field)
                    if inner is not None and isinstance(value, memoryview):
                        left.append((inner, value))
                elif field == _EXTERNAL_DATA:
                    raise RequestError(
                        f"{uri}: keeps weights in other files, which are not read; save it whole, "
                        "with onnx.save_model(model, path, save_as_external_data=False)."
                    )
    except (IndexError, ValueError) as error:
        raise RequestError(
            f"{uri}: is not an ONNX file, or is damaged; export it again."
        ) from error


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The number and value of each field of a message: its bytes, or its number; 0 for floats.

    Raises:
        IndexError: The message ends within a field.
        ValueError: It holds what no ONNX file does.
    """
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        if key >> 32:  # protobuf reads 32 bits of it, and sees another field than we do
            raise ValueError("a tag of more than 32 bits")
        match key & 7:
            case 0:
                value, place = _varint(message, place)
                yield key >> 3, value
            case 1:
                place += 8
            case 2:
                size, place = _varint(message, place)
                if place + size > len(message):
                    raise ValueError("a field is longer than its message")
                yield key >> 3, message[place : place + size]
                place += size
            case 5:
                place += 4
            case other:
                raise ValueError(f"wire type {other}")


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """The number that begins at a place, and the place after it."""
    number = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
    raise ValueError("a number of more than ten bytes")
