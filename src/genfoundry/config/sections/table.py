"""Table of all sections by name, for `genfoundry check`, the stage runner and the docs."""

from genfoundry.config.params import Settings, dataset_section, model_options, model_section
from genfoundry.config.sections.dedup import Dedup
from genfoundry.config.sections.encode import Encode
from genfoundry.config.sections.evaluation import Evaluation
from genfoundry.config.sections.ingest import Ingest
from genfoundry.config.sections.preprocess import Preprocess
from genfoundry.config.sections.reference import Reference
from genfoundry.config.sections.sampling import Sampling
from genfoundry.config.sections.split import Split
from genfoundry.config.sections.training import Training
from genfoundry.config.sections.validation import Validation
from genfoundry.config.specs import Section

DATASET_SECTIONS: dict[str, type[Section]] = {
    "ingest": Ingest,
    "validation": Validation,
    "preprocess": Preprocess,
    "dedup": Dedup,
    "split": Split,
    "encode": Encode,
    "reference": Reference,
}

MODEL_SECTIONS: dict[str, type[Section]] = {
    "training": Training,
    "sampling": Sampling,
    "evaluation": Evaluation,
}

SECTIONS = (*DATASET_SECTIONS, *MODEL_SECTIONS, "options")


def section(settings: Settings, key: str, name: str) -> Section:
    """A typed section of a dataset or model by its name in params.yaml."""
    if name in DATASET_SECTIONS:
        return dataset_section(settings, key, DATASET_SECTIONS[name])
    return model_options(settings, key) if name == "options" else model_section(settings, key, MODEL_SECTIONS[name])
