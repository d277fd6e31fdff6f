"""Refuses models whose weights are in other files.

A tensor of an ONNX model may name another file that holds its data. Models are untrusted, so no
such file is ever read. onnxruntime itself only refuses files outside the model's folder, or, for a
model in memory, outside the working directory.
"""

from __future__ import annotations

from collections.abc import Iterator

from tasks.errors import RequestError

_EXTERNAL_DATA = 13  # field of TensorProto: the file that holds its data

_KEY, _VALUE = 1, 2  # fields of StringStringEntryProto

# For each kind of message, the fields (onnx.proto, IR version 13) on the way to tensors, and the
# kinds of messages in them
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}


def refuse_external_weights(uri: str, model: bytes) -> None:
    """Check that all tensors of a model are in its own file.

    Args:
        uri: URI of the model, for the error.
        model: The file's content, a ModelProto in protobuf's wire format.

    Raises:
        RequestError: A tensor names another file, or the content is not protobuf.
    """
    pending = [("model", memoryview(model))]
    try:
        while pending:
            kind, message = pending.pop()
            for field, value in _fields(message):
                if kind != "tensor":
                    inner = _FIELDS[kind].get(field)
                    if inner is not None and isinstance(value, memoryview):
                        pending.append((inner, value))
                elif field == _EXTERNAL_DATA:
                    raise RequestError(
                        f"{uri}: keeps weights in other files{_location(value)}, which Swath does "
                        "not read; with them beside it, save it as one file: onnx.save_model("
                        "onnx.load(path), path, save_as_external_data=False); without them, export "
                        "it again, from torch with external_data=False."
                    )
    except (IndexError, ValueError) as error:
        raise RequestError(
            f"{uri}: is not an ONNX file, or is damaged; export it again."
        ) from error


def _location(entry: int | memoryview) -> str:
    """The file that an entry of a tensor's external data names, in brackets; else nothing."""
    if isinstance(entry, int):
        return ""
    texts = {key: bytes(text) for key, text in _fields(entry) if isinstance(text, memoryview)}
    if texts.get(_KEY) != b"location":
        return ""
    return f" ({texts.get(_VALUE, b'').decode(errors='replace')[:100]})"


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Read the fields of a message.

    Yields:
        The number and value of each field: an integer for a varint, bytes for what has a length.
        Fields of a fixed width (floats) are skipped.

    Raises:
        IndexError: The message ends within a field.
        ValueError: It has a wire type or a length that ONNX files do not have.
    """
    offset = 0
    while offset < len(message):
        key, offset = _varint(message, offset)
        if key >> 32:  # protobuf truncates it to 32 bits, and would read it as another field
            raise ValueError("a tag of more than 32 bits")
        match key & 7:
            case 0:
                value, offset = _varint(message, offset)
                yield key >> 3, value
            case 1:
                offset += 8
            case 2:
                size, offset = _varint(message, offset)
                if offset + size > len(message):
                    raise ValueError("a field is longer than its message")
                yield key >> 3, message[offset : offset + size]
                offset += size
            case 5:
                offset += 4
            case other:
                raise ValueError(f"wire type {other}")


def _varint(message: memoryview, offset: int) -> tuple[int, int]:
    """The varint at an offset, and the offset after it."""
    number = 0
    for shift in range(0, 70, 7):
        byte = message[offset]
        offset += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, offset
    raise ValueError("a varint of more than ten bytes")
