"""Stage reference: fit the models that scores need: a feature network for grids, n-gram baselines for tokens."""

from genfoundry.config.sections.reference import Reference
from genfoundry.core.paths import DatasetPaths
from genfoundry.data.funnel import write_report
from genfoundry.evaluation.reference import write_reference
from genfoundry.evaluation.reference_page import write_reference_page
from genfoundry.pipeline.stage import run_stage


def main(reference: Reference, paths: DatasetPaths) -> None:
    numbers = write_reference(paths, reference)
    write_reference_page(paths, numbers)
    write_report(paths, "reference", numbers)


if __name__ == "__main__":
    run_stage(main)
