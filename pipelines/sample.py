"""Stage sample: draw from the model, one seed a sample, and show its latent space if it has one."""

from genfoundry.latent import write_latents
from genfoundry.paths import DatasetPaths, ModelPaths
from genfoundry.sampling import write_samples
from genfoundry.settings import Sampling
from genfoundry.stage import run_stage
from genfoundry.tracking.runs import Run


def main(sampling: Sampling, paths: ModelPaths, dataset: DatasetPaths, run: Run) -> None:
    write_samples(sampling, paths, dataset, run, also=write_latents)


if __name__ == "__main__":
    run_stage(main)
