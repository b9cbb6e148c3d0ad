"""What the exact join's candidates cost when its count sketch is too small: the simulation behind docs/scale-data.md.

    python benchmarks/sketch_growth.py [MB]

Source code of the installed packages, one word in twenty changed in a second copy. Printed for each size of the sketch,
in cells an element: tokens a document is found by, candidates compared, and CPU seconds; then the same for MinHash.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from data_line import make_real

from genfoundry.data.similarity.setjoin import EXACT, Engine, Index, Rows, Sketch, tokens_of
from genfoundry.modalities.common import shingles

THRESHOLD = 0.8


def main(megabytes: float) -> None:
    """Print the table."""
    import json

    with tempfile.TemporaryDirectory() as folder:
        make_real(Path(folder), megabytes)
        lines = [line for path in sorted(Path(folder).iterdir()) for line in path.read_text("utf-8").splitlines()]
    texts = [json.loads(line)["text"] for line in lines]
    sets = shingles.sets(texts)
    rows, elements = Rows.of(sets), len(sets.hashes)
    print(f"{megabytes:g} MB, {len(texts)} documents, {elements / megabytes / 1e6:.3f} elements a byte")
    print("| cells an element | tokens a document | compared | CPU s | go |\n|---|---|---|---|---|")
    for share in (2.0, 1.0, 0.25, 1 / 16, 1 / 64, 1 / 256, 0.0):
        begun = time.process_time()
        if share:
            sketch = Sketch(elements, max(256, int(share * elements))).add(sets.hashes)
            tokens, name = tokens_of(rows, sketch, THRESHOLD, EXACT), f"{len(sketch.cells) / elements:.3g}"
        else:
            tokens, name = tokens_of(rows, Sketch(1), THRESHOLD, Engine(32, 4)), "MinHash, 32 bands of 4"
        index = Index(rows, tokens, THRESHOLD)
        gone = int(index.settle().sum())
        spent, count = time.process_time() - begun, int((tokens.lasts - tokens.firsts).sum())
        print(f"| {name} | {count / len(texts):.1f} | {index.compared} | {spent:.2f} | {gone} |", flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 40)
