"""Train one model: from arrays and starting weights to a published folder, resumed exactly if it was killed."""

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from genfoundry.config.dag import fingerprint
from genfoundry.config.sections.training import Training
from genfoundry.config.specs import DataSpec, read_spec
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.progress import progress
from genfoundry.core.ranks import rank_zero
from genfoundry.generation.modelfile import build, is_empty, load_start
from genfoundry.nn.contract import Batch
from genfoundry.tracking.runs import NoRun, Run
from genfoundry.training.batches import Stream, open_data, to_batch
from genfoundry.training.checkpoints import Checkpoints
from genfoundry.training.control import Control, Selection
from genfoundry.training.curve import Curve
from genfoundry.training.distributed import frozen_state
from genfoundry.training.estimate import estimate, flops_of
from genfoundry.training.examples import Data
from genfoundry.training.job import Job
from genfoundry.training.module import Trainee
from genfoundry.training.objective import load_components, make_objective
from genfoundry.training.peaks import device_names, peak_flops
from genfoundry.training.results import Pictures, environment, log_timings, publish
from genfoundry.training.setup import Devices, choose_devices, go_on_with_threads, set_determinism, strategy
from genfoundry.training.steps import check_numerics, prepare_units


def train(job: Job, run: Run | NoRun) -> None:
    """Train and publish ``model/``, ``progress/``, ``history.csv``, ``validation.csv`` and ``train.json``.

    Raises:
        ConfigError: The devices, the family and the data, or the starting weights don't fit together.
        DivergedError: A loss or gradient is not finite.
        PreemptedError: SIGTERM or SIGINT came; the state is saved.
    """
    training, execution, paths, arrays = job.training, job.execution, job.paths, job.dataset.arrays
    devices = choose_devices(execution)
    set_determinism(training, execution, devices)
    spec = read_spec(arrays)
    components = load_components(job.components)
    model = build(job.family, job.options, spec, training.seed, components)
    if not is_empty(job.init.model):
        load_start(model, job.family, job.init.model, arrays)
    context = getattr(model, "context", 0)
    heeds = {name for one in (model, *components.values()) for name in one.heeds}
    data, held = (open_data(arrays, split, spec, context, heeds) for split in ("train", "val"))
    _fits(paths.key, job.dataset.key, training, data, devices)

    objective = make_objective(model, spec, training, paths.key, components)
    losses, frozen = list(objective.losses()), frozen_state(model)
    check_numerics(model, losses, training, spec, job.family, paths.key)
    prepare_units(model, training)

    module, selection = Trainee(objective, training, spec), Selection(training, len(losses))
    checkpoints = Checkpoints(paths.state / "checkpoints" / f"{paths.key}-{fingerprint(paths.root, job.node)[:16]}")
    found = checkpoints.load()
    if found:
        go_on_with_threads(found.get("threads", 0), execution)
        module.restore(found["module"])
        selection.restore(found["selection"])
        print(f"continuing after step {module.done} of {training.steps}", flush=True)
    stream = Stream(data, spec, training, module.done)
    pictures = Pictures(checkpoints.folder / "progress", spec, arrays, job.family, job.options)
    unit = "tokens" if context else "samples"
    curve = Curve(run, unit, round(training.batch * data.size))
    run.tags(environment(paths.root, device_names(devices)))

    def announce(module: Trainee) -> None:
        batch = stream.batch(module.done)
        facts = estimate(module, batch, checkpoints.folder)
        if rank_zero():
            print(f"train@{paths.key}: {facts}", flush=True)
        curve.peak = peak_flops(device_names(devices), training.precision) if devices.accelerator == "gpu" else 0.0
        if curve.peak:
            curve.flops = flops_of(module, batch)

    with progress(training.steps, f"training {paths.key}") as bar, run.system_metrics():
        bar.done = module.done
        validation = _validation(held, spec, training)
        every_s = execution.checkpoint_every
        control = Control(training, selection, checkpoints, every_s, validation, pictures.take, curve, announce, bar)
        _fit(module, control, stream, job, devices)
    if not rank_zero():
        return
    if module.done == 0 or not selection.best:
        raise DataError(f"train@{paths.key}: no step was done; the training split is empty or training.steps is 0")
    log_timings(run, module.done - control.first_step, time.monotonic() - control.started_at)
    pictures.publish(paths.reports / "progress", module.done)
    publish(job, module, {**frozen, **selection.best}, selection)
    checkpoints.clear()


def _fits(model: str, dataset: str, training: Training, data: Data, devices: Devices) -> None:
    where = f"params.yaml: 'models.{model}.training.batch' is {training.batch}"
    if training.batch > len(data):
        raise ConfigError(f"{where}, but {dataset} has {len(data)} training examples; lower it")
    if training.batch % devices.world:
        raise ConfigError(f"{where}, not a multiple of {devices.world} processes; change one of them")
    share = training.batch // devices.world
    if training.accumulate > share:
        raise ConfigError(
            f"params.yaml: 'models.{model}.training.accumulate' is {training.accumulate}, but a device's share of a "
            f"batch is {share} examples; lower it to {share} or less"
        )


def _validation(held: Data, spec: DataSpec, training: Training) -> Callable[[int, int], Iterator[Batch]]:
    """Batches of the validation split that a rank evaluates."""
    limit = training.val_batches or math.inf

    def batches(rank: int, world: int) -> Iterator[Batch]:
        # Every rank the same number of batches, the last one perhaps empty: divided weights are gathered by all.
        size = max(training.batch // world, 1) * world
        for number, values in enumerate(held.sequential(size, rank, world)):
            if number >= limit:
                return
            yield to_batch(values, spec)

    return batches


def _fit(
    module: Trainee,
    control: Control,
    stream: Stream,
    job: Job,
    devices: Devices,
) -> None:
    training, execution = job.training, job.execution
    if module.done >= training.steps:
        return
    with warnings.catch_warnings():
        # Lightning's advice on worker counts: batches come whole from memory maps, workers would only copy them.
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        trainer = pl.Trainer(
            accelerator=devices.accelerator,
            devices=devices.count,
            num_nodes=execution.nodes,
            strategy=strategy(training, execution, devices, len(module.objective.losses())),
            max_epochs=1,
            deterministic=training.determinism == "bitwise",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            default_root_dir=job.paths.state,
            callbacks=[_Ranks(stream), control],
        )
        gpu = devices.accelerator == "gpu"
        trainer.fit(module, DataLoader(stream, batch_size=None, num_workers=execution.workers, pin_memory=gpu))


class _Ranks(pl.Callback):
    """Sets the stream's rank and world size, which decide its share of each batch."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.stream.rank, self.stream.world = trainer.global_rank, trainer.world_size
