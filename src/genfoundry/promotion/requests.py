"""The pyfunc loader of `mlflow models`: rows of a table in, samples out; genfoundry itself does not use it.

``MLmodel`` of a registered version names this module as its loader.
"""

import shutil
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from genfoundry.config.params import parse
from genfoundry.config.sections.sampling import GENERATOR, read_generator
from genfoundry.config.specs import GridSpec
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import MANIFEST, listed
from genfoundry.modalities.common.media import GridRequest, TextRequest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from genfoundry.generation.generator import Generator


Request = TypeVar("Request", GridRequest, TextRequest)


class Sampled:
    """A model that answers requests."""

    def __init__(self, generator: "Generator") -> None:
        self.generator = generator

    @classmethod
    def beside(cls, manifest: Path) -> "Sampled":
        """The model whose files lie beside its manifest, among others; only those that it names are looked at.

        Without a ``generator.json`` beside it, it draws as its family does by default.

        Raises:
            DataError: The files are not those of the manifest, or the generator is that of other weights.
        """
        from genfoundry.generation.generator import Generator

        settings = read_generator(manifest.parent)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for name in (MANIFEST, *listed(manifest.parent)):
                if not (manifest.parent / name).resolve().is_relative_to(manifest.parent.resolve()):
                    raise DataError(f"{manifest}: names {name!r}, which lies outside of it")
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(manifest.parent / name, folder / name)
            return cls(Generator.load(folder, settings, GENERATOR))

    def predict(self, model_input: "pd.DataFrame | Sequence[Mapping[str, Any]]") -> "np.ndarray | list[dict[str, str]]":
        """Answers to the rows of a table, or to a list of requests."""
        import pandas as pd

        rows = model_input.to_dict("records") if isinstance(model_input, pd.DataFrame) else list(model_input)
        return self.answer(rows)

    def answer(self, rows: Sequence[Mapping[str, Any]]) -> "np.ndarray | list[dict[str, str]]":
        """Pictures: uint8 (N, C, *shape) of all rows. Texts: one ``{"text": ...}`` a row, without the prompt.

        Raises:
            ConfigError: A field, label, number or prompt that the model can't have.
        """
        import numpy as np

        if isinstance(self.generator.loaded.spec, GridSpec):
            return np.concatenate([self._grids(row) for row in rows])
        return [{"text": self._text(row)} for row in rows]

    def _grids(self, row: Mapping[str, Any]) -> "np.ndarray":
        import torch

        from genfoundry.generation.generator import conditions_of, seeds_of

        asked, conditions = self._asked(GridRequest, row)
        given = conditions_of(self.generator.loaded.spec, asked.n, conditions)
        drawn = self.generator.draw(seeds_of(asked.seed, asked.n), given)
        assert isinstance(drawn, torch.Tensor)
        return drawn.numpy()

    def _text(self, row: Mapping[str, Any]) -> str:
        from genfoundry.generation.generator import conditions_of, seeds_of

        asked, conditions = self._asked(TextRequest, row)
        generator = self.generator if asked.max_tokens is None else self.generator.limited(asked.max_tokens)
        given = conditions_of(generator.loaded.spec, 1, conditions)
        (drawn,) = generator.draw(seeds_of(asked.seed, 1), given, [asked.prompt])
        return str(drawn.text)

    def _asked(self, kind: type[Request], row: Mapping[str, Any]) -> tuple[Request, dict[str, Any]]:
        """A request's fields, and the conditions that it names.

        Raises:
            ConfigError: An unknown field or condition.
        """
        loaded = self.generator.loaded
        given = _given(row, (*kind.model_fields, "label"))
        if "label" in given and "label" not in loaded.model.heeds:
            raise ConfigError(f"label is {given['label']!r}: the model knows none")
        # As the names in the data are (modalities/common/values.py): a request may come in another form.
        conditions = {name: _composed(given.pop(name)) for name in loaded.spec.asked if name in given}
        return parse(kind, given, "", "request"), conditions


def _composed(value: Any) -> Any:
    """Text in Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


def _given(row: Any, known: Sequence[str]) -> dict[str, Any]:
    """Fields of one request; what a row of a table leaves empty is as if it were not there."""
    if not isinstance(row, Mapping):
        raise ConfigError(f"a request is {row!r}; needs fields by name: {', '.join(known)}")
    return {str(name): value for name, value in row.items() if value is not None and value == value}


def _load_pyfunc(folder: str) -> Sampled:
    """The model in a folder of MLflow's, as its `loader_module` protocol asks for it."""
    return Sampled.beside(Path(folder) / MANIFEST)
