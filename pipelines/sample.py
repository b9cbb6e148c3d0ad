"""Stage sample: draw samples from the model, one seed each, and picture its latent space if it has one."""

from genfoundry.config.sections.sampling import Sampling
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.generation.latent import write_latents
from genfoundry.generation.sampling import write_samples
from genfoundry.pipeline.stage import run_stage
from genfoundry.tracking.runs import Run


def main(sampling: Sampling, paths: ModelPaths, dataset: DatasetPaths, run: Run) -> None:
    write_samples(sampling, paths, dataset, run, also=write_latents)


if __name__ == "__main__":
    run_stage(main)
