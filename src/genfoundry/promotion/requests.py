"""Requests of people who use `mlflow models`: rows of a table in, samples out. genfoundry itself goes another way."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genfoundry.config.params import family_section, parse
from genfoundry.config.sections.sampling import Sampling
from genfoundry.config.specs import GridSpec
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import MANIFEST, read_json
from genfoundry.generation.modelfile import TOKENIZER, LoadedModel, default_device, load_model

if TYPE_CHECKING:
    import numpy as np

MOST = 1024
"""Samples of one request."""


class Sampled:
    """A loaded model that answers requests."""

    def __init__(self, loaded: LoadedModel, tokenizer: Any = None) -> None:
        self.loaded, self.tokenizer = loaded, tokenizer
        self.sampling: Any = parse(family_section(loaded.family, Sampling), {}, "sampling")

    @classmethod
    def beside(cls, manifest: Path) -> "Sampled":
        """The model whose files lie beside its manifest, among others; only those that it names are looked at."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for name in (MANIFEST, *read_json(manifest)["files"]):
                if not (manifest.parent / name).resolve().is_relative_to(manifest.parent.resolve()):
                    raise DataError(f"{manifest}: names {name!r}, which lies outside of it")
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(manifest.parent / name, folder / name)
            loaded = load_model(folder, default_device())
            tokenizer = None
            if (folder / TOKENIZER).is_file():
                from tokenizers import Tokenizer

                tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
            return cls(loaded, tokenizer)

    def answer(self, rows: Sequence[Mapping[str, Any]]) -> "np.ndarray | list[dict[str, str]]":
        """Pictures: uint8 (N, C, *shape) of all rows. Texts: one ``{"text": ...}`` a row, without the prompt.

        Raises:
            ConfigError: A label, a number or a prompt that the model can't have.
        """
        import numpy as np

        if isinstance(self.loaded.spec, GridSpec):
            return np.concatenate([self._grids(row) for row in rows])
        return [{"text": self._text(row)} for row in rows]

    def _grids(self, row: Mapping[str, Any]) -> "np.ndarray":
        import torch

        from genfoundry.generation.sampling import SEED_STRIDE, draw_loaded, labels_of

        spec, count = self.loaded.spec, int(row["n"])
        assert isinstance(spec, GridSpec)
        if not 1 <= count <= MOST:
            raise ConfigError(f"n is {count}: ask for 1 to {MOST} samples")
        labels, wanted = labels_of(spec, count), row.get("label")
        if labels is not None and isinstance(wanted, str):
            if wanted not in spec.labels:
                raise ConfigError(f"label is {wanted!r}: the model knows {', '.join(spec.labels)}")
            labels = torch.full_like(labels, spec.labels.index(wanted))
        seeds = int(row["seed"]) * SEED_STRIDE + torch.arange(count)
        drawn = draw_loaded(self.loaded, seeds, self.sampling, labels_B=labels)
        assert isinstance(drawn, torch.Tensor)
        return drawn.numpy()

    def _text(self, row: Mapping[str, Any]) -> str:
        import torch

        from genfoundry.generation.sampling import SEED_STRIDE, draw_loaded

        length = row.get("max_tokens")
        asked = self.sampling.model_copy(update={"length": int(length)} if length and length == length else {})
        prompt = self.tokenizer.encode(row["prompt"] or "", add_special_tokens=False).ids
        (tokens,) = draw_loaded(self.loaded, torch.tensor([int(row["seed"]) * SEED_STRIDE]), asked, prompts=[prompt])
        return str(self.tokenizer.decode(tokens))
