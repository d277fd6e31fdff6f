"""Open and read damaged copies of files, in a process of its own: `FOLDER SEED COUNT FILE…`.

Prints the number of each outcome as a JSON line. GDAL and its libraries are written in C and C++: a
fault there ends the process, which is what the test looks for.
"""

from __future__ import annotations

import json
import random
import sys
import warnings
from collections import Counter
from itertools import islice
from pathlib import Path

from tasks.errors import ImageError
from tasks.grid.tiles import Grid
from tasks.imagery import open_image, read_tiles
from tasks.imagery.reading import strips


def damaged(body: bytes, rng: random.Random) -> bytes:
    """The bytes truncated, or with a few of them changed, mostly near the beginning."""
    if rng.random() < 0.25:
        return body[: rng.randrange(1, len(body))]
    changed = bytearray(body)
    reach = min(len(body), rng.choice([64, 600, 4000, len(body)]))
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        changed[rng.randrange(reach)] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
    return bytes(changed)


def outcome(file: Path) -> str:
    """The outcome for an image: refused, or the types of its first tiles."""
    try:
        image = open_image(str(file), roots=[file.parent])
    except ImageError:
        return "refused"
    grid = Grid(image.width, image.height, 64, 8)
    first, *_ = grid.regions(10**9)
    tiles = list(islice(grid.tiles(first), 9))
    return "+".join(sorted({type(one).__name__ for one in read_tiles(image, tiles)}))


def main() -> None:
    """Damage, open, count."""
    folder, seed, count, *names = sys.argv[1:]
    warnings.simplefilter("ignore")
    strips._PAUSE = 0
    bodies = [Path(name).read_bytes() for name in names]
    found: Counter[str] = Counter()
    for number in range(int(count)):
        rng = random.Random(int(seed) + number)
        file = Path(folder) / "damaged"
        file.write_bytes(damaged(bodies[number % len(bodies)], rng))
        print(
            f"{names[number % len(bodies)]} damaged with seed {int(seed) + number}", file=sys.stderr
        )
        found[outcome(file)] += 1
    print(json.dumps(found))


if __name__ == "__main__":
    main()
