"""The filter before the merge: which detections have a wanted class and a sufficient score.

It looks at one detection at a time, so that its decisions do not depend on regions. A detection
that it drops suppresses no other, as with the options `conf` and `classes` of other software.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.request import Algorithm


def passes_filter(detections: pa.Table, algorithm: Algorithm) -> NDArray[np.bool_]:
    """(n,) whether each detection has a wanted class and the score that its class needs.

    Args:
        detections: n rows of `detections.SCHEMA`.
        algorithm: Its `classes`, `class_thresholds` and `skip_box_threshold`.
    """
    scores = detections["score"].to_numpy()
    if not algorithm.classes and not algorithm.class_thresholds:
        enough: NDArray[np.bool_] = scores >= algorithm.skip_box_threshold
        return enough
    encoded = pc.dictionary_encode(detections["class_name"].combine_chunks())
    thresholds = [_threshold(name, algorithm) for name in encoded.dictionary.to_pylist()]
    passes: NDArray[np.bool_] = scores >= np.array(thresholds)[encoded.indices.to_numpy()]
    return passes


def _threshold(name: str, algorithm: Algorithm) -> float:
    """The least score of a class; infinite if the class is not wanted."""
    if algorithm.classes and name not in algorithm.classes:
        return np.inf
    return algorithm.class_thresholds.get(name, algorithm.skip_box_threshold)
