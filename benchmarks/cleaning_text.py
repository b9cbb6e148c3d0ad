"""How fast each step of cleaning text is, in MB of text per CPU-second, one process.

Usage: python benchmarks/cleaning_text.py SOURCE [ROUNDS]

SOURCE is anything that modality text reads, such as data/apidocs; steps are interleaved, the median of 3 rounds counts.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from genfoundry.modalities import text
from genfoundry.modalities.code import sourcecode
from genfoundry.modalities.common import masking
from genfoundry.modalities.text import languages, quality, repair
from genfoundry.modalities.text.quality import Quality

LOOSE = {  # limits that no text fails, so that every rule is evaluated
    rule.field: 0 if rule.field.startswith("min_") else 10**9 if rule.field in ("max_words", "max_mean_word") else 1.0
    for rule in quality.RULES
}
LOOSE["max_newlines"] = 10**9
REPETITION = {name: limit for name, limit in LOOSE.items() if "gram" in name}
CHEAP = {name: limit for name, limit in LOOSE.items() if name not in REPETITION}


def _rules(limits: dict[str, float]) -> Callable[[str], object]:
    config = Quality.model_validate(limits)
    return lambda document: quality.fault(document, config)


def _mask(kind: masking.Kind) -> Callable[[str], object]:
    return lambda document: masking.masked(document, [kind])


STEPS: dict[str, Callable[[str], object]] = {
    "`canonical` (always)": text.canonical,
    "`repair`, texts that are not ASCII": lambda document: document.isascii() or repair.mojibake(document),
    "`quality`, all rules but those of n-grams": _rules(CHEAP),
    "`quality`, the nine rules of n-grams": _rules(REPETITION),
    "`languages`": languages.detect,
    **{f"`mask: [{kind}]`": _mask(kind) for kind in masking.KINDS},
    "code: `generated`": lambda document: sourcecode.generated("a.py", document),
    "code: `license`": sourcecode.licence,
    "code: lines and letters": sourcecode.shape,
}


def main(source: Path, rounds: int) -> None:
    tables = [records for records, _ in text.read(source, text.Ingest())]
    documents = [document for table in tables for document in table["content"]]
    sizes = {name: sum(len(d.encode()) for d in documents) / 1e6 for name in STEPS}
    foreign = [document for document in documents if not document.isascii()]
    sizes["`repair`, texts that are not ASCII"] = sum(len(d.encode()) for d in foreign) / 1e6
    for step in STEPS.values():
        step(documents[0])
    seconds: dict[str, list[float]] = {name: [] for name in STEPS}
    for _ in range(rounds):
        for name, step in STEPS.items():
            started = time.process_time()
            for document in foreign if "repair" in name else documents:
                step(document)
            seconds[name].append(time.process_time() - started)
    print(f"{len(documents)} documents, {max(sizes.values()):.1f} MB, {len(foreign)} of them not ASCII\n")
    print("| step | MB per CPU-second |\n|---|---|")
    for name, taken in seconds.items():
        print(f"| {name} | {sizes[name] / statistics.median(taken):.3g} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
