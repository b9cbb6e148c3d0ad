"""Prompt template pairs: a language model's NLLs of one sentence with each of two groups in it.

Counterfactual pairs as in Nadeem et al. 2021 (arXiv:2004.09456) and Nangia et al. 2020 (arXiv:2010.00133), each
sentence scored as one document, by the same rules as held-out documents. A model that heeds conditions is given those
of its spec in turn over the pairs, both sentences of a pair the same.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genfoundry.config.sections.evaluation import Evaluation, Template
from genfoundry.config.specs import TokenSpec
from genfoundry.core.io import digest_of, write_table
from genfoundry.evaluation.extraction.documents import Documents
from genfoundry.evaluation.extraction.likelihood import Plan, document_nats
from genfoundry.generation.modelfile import LoadedModel
from genfoundry.modalities.common.tokens import FILE as TOKENIZER

FILE = "pairs.parquet"


def sentences(templates: Sequence[Template]) -> list[tuple[str, str, str]]:
    """(template, first sentence, second sentence), in the order of the settings."""
    return [
        (template.text, *(template.text.replace("{}", word) for word in pair))
        for template in templates
        for pair in template.pairs
    ]


def score_pairs(loaded: LoadedModel, config: Evaluation, chosen: Plan, model: Path, folder: Path) -> dict[str, Any]:
    """Write ``pairs.parquet`` with the nats of both sentences of each pair; returns the fact of the protocol.

    Args:
        loaded: A model with ``Likelihood``.
        config: The evaluation section, with templates.
        chosen: Window and stride.
        model: Its folder, for the tokenizer.
        folder: Where to write.
    """
    import pandas as pd
    from tokenizers import Tokenizer

    assert isinstance(loaded.spec, TokenSpec)
    rows = sentences(config.templates)
    texts = [text for _, first, second in rows for text in (first, second)]
    tokenizer = Tokenizer.from_file(str(model / TOKENIZER))
    encoded = [[loaded.spec.boundary, *found.ids] for found in tokenizer.encode_batch(texts, add_special_tokens=False)]
    offsets = np.cumsum([0, *map(len, encoded)])
    sizes = np.array([len(text.encode()) for text in texts])
    given = {
        name: loaded.spec.asked[name].encode(name, loaded.spec.asked[name].in_turn(len(rows))).repeat(2, axis=0)
        for name in loaded.model.heeds
    }
    documents = Documents(np.array([token for row in encoded for token in row], np.int64), offsets, sizes, given)
    device = str(next(loaded.model.parameters()).device)
    nats = document_nats(loaded.model, documents, chosen, config.batch, device).reshape(-1, 2)  # type: ignore[arg-type]
    table = {name: [row[place] for row in rows] for place, name in enumerate(("template", "first", "second"))}
    table |= {"first_nats": nats[:, 0], "second_nats": nats[:, 1]}
    write_table(folder / FILE, pd.DataFrame(table))
    return {"n": len(rows), "digest": digest_of(rows)}
