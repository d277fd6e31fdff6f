"""What a model declares about itself: its inputs, outputs and metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output, as the model or its server declares it.

    Attributes:
        dtype: NumPy's name of the type, or the declared name if NumPy does not have the type.
        shape: Size of each dimension, None for any size.
    """

    dtype: str
    shape: tuple[int | None, ...]

    @property
    def written_shape(self) -> list[int]:
        """The shape as descriptions write it: -1 for any size."""
        return [-1 if size is None else size for size in self.shape]

    def accepts(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of this shape fits."""
        return len(shape) == len(self.shape) and all(
            declared is None or size == declared
            for size, declared in zip(shape, self.shape, strict=True)
        )


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """The declarations of a model.

    Attributes:
        name: The model's file, for errors.
        inputs: Type and shape of each input, by name.
        outputs: Type and shape of each output, by name.
        metadata: Texts that its exporter added, by key.
    """

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    metadata: Mapping[str, str] = field(default_factory=dict)
