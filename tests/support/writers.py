"""A small model that writes, with a tokenizer of bytes, and one that draws: for tests of all ways to a sample."""

from pathlib import Path

import numpy as np
from graded import write_images, write_untrained

from genfoundry.config.specs import TokenSpec
from genfoundry.core.io import canonical_json, publish_folder
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.modalities.common import tokens
from genfoundry.modalities.text import Encode

TOKENIZER = tokens.train(Encode(tokenizer="bytes"), [])


def writer(root: Path, key: str = "writer", labels: tuple[str, ...] = ()) -> tuple[ModelPaths, DatasetPaths]:
    """A recurrent network of random weights: it writes bytes, and ends seldom; with labels, conditional on them."""
    paths, dataset = ModelPaths(root, key), DatasetPaths(root, "letters")
    spec = TokenSpec(vocab_size=TOKENIZER.get_vocab_size(), boundary=tokens.boundary(TOKENIZER), labels=labels)
    with publish_folder(dataset.arrays) as folder:
        TOKENIZER.save(str(folder / tokens.FILE))
        (folder / "spec.json").write_bytes(canonical_json(spec.model_dump(mode="json")))
        for split in ("train", "val"):
            np.save(folder / f"{split}_records.npy", np.arange(2, dtype=np.uint64))
    write_untrained(paths, dataset, "rnn", noise=0.5, width=8, layers=1, context=32, conditional=bool(labels))
    return paths, dataset


def painter(root: Path, key: str = "painter") -> tuple[ModelPaths, DatasetPaths]:
    """A conditional VAE of random weights, for two labels."""
    paths, dataset = ModelPaths(root, key), write_images(root)
    write_untrained(paths, dataset, "vae", noise=0.05, width=8, latent=2, conditional=True)
    return paths, dataset
