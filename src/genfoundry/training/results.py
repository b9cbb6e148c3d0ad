"""Outputs of a training run: progress pictures, the model and its reports; timings go to MLflow alone."""

import importlib.metadata
import platform
import resource
from pathlib import Path

import torch
from torch import Tensor

from genfoundry.config.params import family_section
from genfoundry.config.sections.sampling import Sampling
from genfoundry.config.specs import DataSpec, Section
from genfoundry.core.io import file_digest, publish_folder
from genfoundry.core.pin import kind
from genfoundry.generation.generator import Generator, read_tokenizer, seeds_of
from genfoundry.generation.modelfile import LoadedModel, write_model
from genfoundry.modalities.common.lookup import media_of
from genfoundry.nn.contract import Model
from genfoundry.tracking import tags
from genfoundry.tracking.runs import NoRun, Run
from genfoundry.training.control import Selection
from genfoundry.training.job import Job
from genfoundry.training.module import Trainee
from genfoundry.training.reports import write_train

PROGRESS_TOKENS = 96
"""Tokens of a text in a picture of the progress."""


class Pictures:
    """Samples of the same requests at several steps, kept beside the checkpoints until the model is published."""

    def __init__(self, folder: Path, spec: DataSpec, arrays: Path, family: str, options: Section) -> None:
        self.folder, self.spec, self.family, self.options = folder, spec, family, options
        self.media, section = media_of(spec), family_section(family, Sampling)
        length = {"length": PROGRESS_TOKENS} if "length" in section.model_fields else {}
        self.sampling = section.model_validate({"batch": self.media.at_once, **length})
        self.tokenizer = read_tokenizer(arrays)

    def take(self, model: Model, step: int, write: bool) -> None:
        loaded = LoadedModel(model, self.spec, self.family, self.options)
        # The same seeds at each step.
        drawn = Generator(loaded, self.sampling, self.tokenizer).draw(seeds_of(0, self.media.at_once))
        if write:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.media.sheet(self.media.decoded(drawn)).save(self.folder / f"samples-{step:07d}")

    def publish(self, target: Path, steps: int) -> None:
        """Publish the pictures up to the last step (a kill may have left later ones)."""
        with publish_folder(target) as folder:
            for file in sorted(self.folder.glob("samples-*")):
                if int(file.stem.rsplit("-", 1)[1]) <= steps:
                    (folder / file.name).write_bytes(file.read_bytes())


def log_timings(run: Run | NoRun, steps: int, seconds: float) -> None:
    """Speed and memory of the run: they differ from run to run, so they go to MLflow alone."""
    if steps:
        run.metrics({"seconds": seconds, "steps_per_second": steps / seconds})
    run.metric("threads", torch.get_num_threads())
    run.metric("peak_memory_gib", peak_memory() / 2**30)
    if torch.cuda.is_available():
        run.metric("peak_gpu_memory_gib", torch.cuda.max_memory_allocated() / 2**30)


def peak_memory() -> int:
    """Most bytes that this process ever had in memory."""
    # Linux counts in KiB, macOS in bytes.
    scale = 2**10 if platform.system() == "Linux" else 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def environment(root: Path, devices: str) -> dict[str, str]:
    """MLflow tags of a run's hardware and software."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "pytorch-lightning")}
    versions["python"] = platform.python_version()
    found = {
        tags.VERSIONS: ", ".join(f"{name} {version}" for name, version in versions.items()),
        tags.DEVICES: devices,
    }
    lock = root / "requirements.lock"
    return {**found, tags.LOCK: file_digest(lock)} if lock.is_file() else found


def publish(job: Job, module: Trainee, weights: dict[str, Tensor], selection: Selection) -> None:
    """Publish ``model/``, ``history.csv``, ``validation.csv`` and ``train.json``."""
    paths, components = job.paths, {role: one.model for role, one in job.components.items()}
    with publish_folder(paths.model) as folder:
        write_model(folder, weights, job.family, job.options, job.dataset.arrays, job.init.model, components)
    first = next(iter(module.objective.losses()))
    frozen = sum(one.numel() for one in module.model.parameters() if not one.requires_grad)
    write_train(
        paths.reports,
        {
            "steps": module.done,
            "best_step": selection.best_step,
            "best_val_loss": selection.best_loss,
            "final_loss": module.history[-1][first],
            "parameters": sum(parameter.numel() for parameter in module.model.parameters()),
            "examples_seen": module.done * module.training_settings.batch,
            "processor": _processor(module),
            **({"frozen_parameters": frozen} if frozen else {}),
        },
        module.history,
        selection.validations,
    )


def _processor(module: Trainee) -> str:
    """The hardware that trained: kind of processor, or name of the GPU."""
    device = next(module.model.parameters()).device
    return kind() if device.type == "cpu" else torch.cuda.get_device_name(device)
