"""Whether a model takes what its description makes of a tile, and gives what is decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.errors import RequestError
from tasks.inference.description import Description, Prepared
from tasks.inference.onnx.session import Session, Slot


def check_fit(session: Session, description: Description, sample: Prepared) -> None:
    """Nothing where names, types and shapes are those of the model.

    Args:
        session: The model.
        description: What should go in and come out.
        sample: A tile like all that will come.

    Raises:
        RequestError: With the field that is wrong, and what the model has.
    """
    uri, made = description.uri, description.inputs([sample])
    _check_names(uri, "mlm:input[0].name", list(made), session.inputs, everything=True)
    _check_names(uri, "mlm:output", description.outputs, session.outputs, everything=False)
    if not description.outputs and len(session.outputs) > 1:
        raise RequestError(
            f"{uri}: mlm:output[0].name: missing, and the model gives "
            f"{', '.join(session.outputs)}; give the one to decode."
        )
    for name, tensor in made.items():
        slot = session.inputs[name]
        if tensor.dtype != slot.dtype:
            raise RequestError(
                f"{uri}: mlm:input[0].input.data_type: {tensor.dtype} is not what the model takes "
                f"in {name}; give {slot.dtype}."
            )
        if not _fits(tensor.shape, slot.shape):
            raise RequestError(
                f"{uri}: mlm:input[0].input.shape: the model takes {_shown(slot)} in {name}, where "
                f"{list(tensor.shape)} is made of a tile; give that shape and its dim_order."
            )


def _check_names(
    uri: str, field: str, wanted: Sequence[str], there: Mapping[str, Slot], *, everything: bool
) -> None:
    absent = [name for name in wanted if name not in there]
    if absent:
        raise RequestError(
            f"{uri}: {field}: the model has no {absent[0]!r}, but {', '.join(there)}; give the "
            "name that it has."
        )
    unfed = [name for name in there if name not in wanted]
    if everything and unfed:
        raise RequestError(
            f"{uri}: the model asks for {unfed[0]!r} besides the tile; where that is the size of "
            "its input, name it in swath:detector.size_input; else export the model without it."
        )


def _fits(shape: Sequence[int], slot: Sequence[int | None]) -> bool:
    return len(shape) == len(slot) and all(
        known is None or side == known for side, known in zip(shape, slot, strict=True)
    )


def _shown(slot: Slot) -> str:
    return str([-1 if side is None else side for side in slot.shape])
