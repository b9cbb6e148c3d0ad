"""Build the reference of a data set: a feature network for grids, n-gram baselines for tokens."""

from typing import Any

from genfoundry.config.sections.reference import Reference
from genfoundry.config.specs import GridSpec, read_spec
from genfoundry.core.errors import ConfigError
from genfoundry.core.paths import DatasetPaths


def write_reference(paths: DatasetPaths, config: Reference) -> dict[str, Any]:
    """Publish the reference folder of a data set; returns the numbers for its report.

    Raises:
        ConfigError: Published networks for what is no image, or without weights.
        DataError: Too few records, or weights of another digest.
    """
    spec = read_spec(paths.arrays)
    if isinstance(spec, GridSpec):
        # Imported here so that the branch for tokens does not load torch.
        from genfoundry.evaluation.features import write_grid_reference

        return write_grid_reference(paths, spec, config)
    if config.networks:
        raise ConfigError(
            f"params.yaml: 'datasets.{paths.key}.reference.networks' is {', '.join(config.networks)}: feature networks "
            "take grids, the data set holds tokens; remove it"
        )
    from genfoundry.evaluation.ngrams import write_token_reference

    return write_token_reference(paths.arrays, spec, paths.reference)
