"""params.yaml as one typed, frozen tree.

A stage reads only the sections it names; ``genfoundry check`` reads them all and reports every fault at once.
Sections whose fields belong to a part (a modality, a family) are classes of that part's module.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from genfoundry import parts
from genfoundry.errors import ConfigError
from genfoundry.specs import Key, Section

SectionType = TypeVar("SectionType", bound=Section)

MAX_BYTES = 1_000_000
"""A params.yaml above this is refused before it is parsed: aliases can multiply it."""


class Ingest(Section):
    """How the source is read; a modality adds its own fields."""

    max_rejected: float = Field(default=0.05, ge=0, le=1)
    """Largest share of records that may be set aside as unreadable before the stage fails."""
    shard: float = Field(default=16.0, gt=0)
    """Megabytes of content in a shard, about: what one process works on at a time, and what is worked on again when
    something in it changes.
    """
    shard_records: int = Field(default=0, ge=0)
    """Records in a shard, about, where that comes to less: work on small ones goes by their number; 0 for no bound."""


class Expectation(Section):
    """One Great Expectations expectation over the table of records."""

    type: str
    """Name as Great Expectations writes it in suites, such as ``expect_column_values_to_be_between``."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Its arguments, such as ``{column: width, min_value: 8}``."""
    severity: Literal["critical", "warning", "info"] = "critical"
    """Only ``critical`` fails the stage."""


class Drift(Section):
    """When new records count as different from the accepted ones (``genfoundry accept``).

    A difference counts only if chance alone would show it once in a thousand times at most.
    """

    psi: float = Field(default=0.25, gt=0)
    """Population stability index of a column above which it has drifted; 0.25 as is usual (Siddiqi 2006)."""
    ks: float = Field(default=0.2, gt=0, le=1)
    """Largest difference of the two distribution functions of a number; 0.2 is a shift by half a standard deviation of
    a normal law, as is a PSI of 0.25.
    """
    action: Literal["warn", "error"] = "warn"
    """error: drift, or a column that came or went, fails the stage; warn: it stands on the page and in drift.json."""


class Validation(Section):
    """The contract that raw records must keep, beside the modality's own suite."""

    expectations: tuple[Expectation, ...] = ()
    drift: Drift = Drift()


class Preprocess(Section):
    """How records become canonical; a modality adds its own fields."""

    max_dropped: float = Field(default=0.5, ge=0, le=1)
    """Largest share of records that may be dropped before the stage fails."""


class Embeddings(Section):
    """Vectors that the user gives, by which records count as copies too."""

    source: str = Field(default="", pattern=r"^([A-Za-z0-9_-][A-Za-z0-9_./ -]*)?$")
    """File below presets/embeddings/: Parquet with an id and a list of numbers in each row, or .npz with ``ids`` (N)
    and ``embeddings`` (N, D). Every record that is deduplicated needs one. Empty for none.
    """
    id_column: str = "id"
    """Parquet column of the record's id."""
    column: str = "embedding"
    """Parquet column of the vector."""
    threshold: float = Field(default=0.95, gt=0, le=1)
    """Least cosine of two copies; it depends on the model that embeds, so look at the pairs before you trust it."""


class Dedup(Section):
    """What counts as a copy; a modality adds its own fields."""

    embeddings: Embeddings = Embeddings()

    max_removed: float = Field(default=0.9, ge=0, le=1)
    """Largest share of records that deduplication may remove before the stage fails."""


class Guard(Section):
    """An external evaluation set that must not be in training, such as a public benchmark."""

    source: str = Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_./ -]*$")
    """File or folder below presets/guards/, read by the data set's own modality."""
    ingest: dict[str, Any] = Field(default_factory=dict)
    """How it is read, where that differs from the defaults, such as ``{text_column: question}``."""


class Split(Section):
    """How records are divided; a given split (folder or column) wins over the drawn one.

    Where records come with some splits only, those that nobody is given are drawn from train.
    """

    by: Literal["hash", "time", "group", "contiguous"] = "hash"
    """hash: drawn from the content; group: drawn from the record's ``group``, so that none is in two splits; both stay
    where they are when data grow. time: the newest records test, the ones before them validate. contiguous: so do the
    last records of each file or ``source``, in its order. With these two, new data move the borders, unless
    ``val_from`` and ``test_from`` name them.
    """
    val: float = Field(default=0.1, ge=0, lt=1)
    """Share of records drawn for validation."""
    test: float = Field(default=0.1, gt=0, lt=1)
    """Share of records drawn for testing."""
    val_from: str = ""
    """With ``by: time``: the first moment of validation, in place of a share: ISO 8601, or a number."""
    test_from: str = ""
    """With ``by: time``: the first moment of testing."""
    gap: int = Field(default=0, ge=0)
    """With ``by: contiguous``: records left out before each border, where neighbours share some text."""
    salt: str = ""
    """Goes into the hash that draws the split; another salt is another split."""
    max_containment: float = Field(default=0.8, gt=0, le=1)
    """An evaluation record with this share of its 5-grams inside one training record is set aside."""
    guard: tuple[Guard, ...] = ()
    """External evaluation sets: training records that are like one of theirs, or contain it, are removed."""
    max_leaks: int = Field(default=0, ge=0)
    """Evaluation records that may still be like a training record, by an independent check, before the stage fails."""
    min_records: int = Field(default=2, ge=1)
    """Least number of records in each split."""
    expectations: tuple[Expectation, ...] = ()
    """Further expectations of the records in use: columns id, sha256, split, label and the records' facts."""

    @model_validator(mode="after")
    def _only_what_is_used(self) -> "Split":
        if self.val + self.test >= 1:
            raise ValueError(f"val {self.val:g} and test {self.test:g} leave nothing to train on; lower one")
        if (self.val_from or self.test_from) and self.by != "time":
            raise ValueError(f"val_from and test_from belong to by: time, but by is {self.by}; drop them or change it")
        if bool(self.val_from) != bool(self.test_from) and (self.val > 0 or self.val_from):
            raise ValueError("val_from and test_from come together; name both, or set val to 0")
        if self.gap and self.by != "contiguous":
            raise ValueError(f"gap belongs to by: contiguous, but by is {self.by}; drop it or change by")
        return self


class Encode(Section):
    """How clean records become arrays; a modality adds its own fields."""


class PretrainedNetwork(Section):
    """Published weights to score with, beside the data set's own network."""

    weights: str
    """File (inception), folder of a transformers model (dinov2, clip), or an http(s) address of a file."""
    sha256: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    """What the weights must hash to; empty takes the published one where it is known, else what is found."""


class Reference(Section):
    """What scores are held against; fields for images and for text."""

    features: int = Field(default=32, ge=2)
    """Width of the feature network's embedding; the smaller of this and N/10 is used, N the held-out records."""
    steps: int = Field(default=600, ge=1)
    """Training steps of the feature network."""
    seed: int = Field(default=0, ge=0)
    max_error_ratio: float = Field(default=0.8, gt=0)
    """The network's held-out error may be at most this share of a linear classifier's, else PCA features are used."""
    networks: dict[Literal["inception", "dinov2", "clip"], PretrainedNetwork] = Field(default_factory=dict)
    """Pretrained networks to score with as well: fid, isc and kid by inception, fd_dinov2, fd_clip."""


DATASET_SECTIONS: dict[str, type[Section]] = {
    "ingest": Ingest,
    "validation": Validation,
    "preprocess": Preprocess,
    "dedup": Dedup,
    "split": Split,
    "encode": Encode,
    "reference": Reference,
}


class Optimizer(Section):
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), SGD, or Muon (Jordan et al. 2024) and AdamW."""

    name: Literal["adamw", "muon", "sgd"] = "adamw"
    """muon takes the hidden matrices that the family names, AdamW all other parameters."""
    lr: float = Field(default=1e-3, gt=0)
    """Peak learning rate of AdamW or SGD."""
    muon_lr: float = Field(default=0.02, gt=0)
    """Peak learning rate of Muon, whose update has the same size whatever the gradient's."""
    muon_steps: Literal[3, 5] = 5
    """Newton-Schulz steps of Muon: 5 as published; 3 take three fifths of its time and leave the orthogonalisation
    rougher for the weakest directions.
    """
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay of AdamW's averages of the gradient and of its square."""
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Nesterov momentum of SGD and Muon."""
    weight_decay: float = Field(default=0.01, ge=0)
    """On matrices only; gains and biases are left alone."""
    eps: float = Field(default=1e-8, gt=0)


class Schedule(Section):
    """Learning rate over the run: linear warm-up, then the named decay to ``final`` of the peak."""

    name: Literal["cosine", "wsd", "linear", "constant"] = "cosine"
    """wsd: warm-up, stable, then decay by one minus the square root (Haegele et al. 2024, arXiv:2405.18392)."""
    warmup: int = Field(default=50, ge=0)
    """Steps of linear warm-up."""
    hold: float = Field(default=0.0, ge=0, lt=1)
    """Share of the run at the peak before the decay begins; wsd takes 0.8 where this is 0."""
    final: float = Field(default=0.1, ge=0, le=1)
    """Learning rate of the last step as a share of the peak."""


class Augment(Section):
    """Changes of training images, each drawn for each image; evaluation never sees them.

    An adversarial family shows them to its critic on real and generated images alike, so that the generator does not
    learn them (Zhao et al. 2020, arXiv:2006.10738; Karras et al. 2020, arXiv:2006.06676: keep ``p`` below 0.8).
    """

    p: float = Field(default=1.0, ge=0, le=1)
    """Probability with which each of the changes below is applied to an image."""
    flip: bool = False
    """Mirror left and right (half of the images at p 1)."""
    translate: float = Field(default=0.0, ge=0, le=0.5)
    """Farthest shift by whole pixels, as a share of each side; what is left free takes the darkest value."""
    crop: float = Field(default=1.0, gt=0, le=1)
    """Smallest side of a crop, as a share of the side; it is resized back bilinearly."""
    cutout: float = Field(default=0.0, ge=0, lt=1)
    """Side of a square that is set to the middle of the range, as a share of the side (arXiv:1708.04552)."""


class Training(Section):
    """The mathematics of a training run: all that moves the weights."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    steps: int = Field(default=1000, ge=1)
    """Batches to train on."""
    batch: int = Field(default=64, ge=1)
    """Examples in a global batch, over all devices: images, or windows of tokens."""
    accumulate: int = Field(default=1, ge=1)
    """Parts in which a device takes its share of a batch, one after the other, to save memory."""
    optimizer: Optimizer = Optimizer()
    optimizers: dict[str, Optimizer] = Field(default_factory=dict)
    """Optimizers by objective (generator, critic) that differ from ``optimizer``."""
    schedule: Schedule = Schedule()
    clip: float = Field(default=1.0, ge=0)
    """Largest gradient norm; 0 turns clipping off."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the exponential moving average whose weights are kept; 0 keeps the raw weights. Over the first steps
    the decay is at most (1 + step) / (10 + step), so that the fresh weights are soon forgotten.
    """
    augment: Augment = Augment()
    select: Literal["auto", "best", "last"] = "auto"
    """Which weights become the model: lowest validation loss, or the last step's. auto: best for families with one
    objective; last for adversarial ones, whose losses measure the other player.
    """
    patience: int = Field(default=0, ge=0)
    """Stop after this many validations without a new best; 0 never stops early."""
    val_every: int = Field(default=100, ge=1)
    """Steps between validations."""
    val_batches: int = Field(default=0, ge=0)
    """Batches of a validation; 0 takes the whole validation split."""
    sample_every: int = Field(default=0, ge=0)
    """Steps between pictures of samples from the same requests; 0 takes a quarter of the steps."""
    log_every: int = Field(default=10, ge=1)
    """Steps between points of the loss curve; each point is the mean since the last one."""
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    """16-mixed scales the loss against underflow (Micikevicius et al. 2018, arXiv:1710.03740)."""
    compile: bool = False
    """Compile the family's repeated blocks with torch.compile; needs determinism fast."""
    recompute: bool = False
    """Forget activations inside the family's repeated blocks and compute them again in the backward pass (Chen et al.
    2016, arXiv:1604.06174): less memory, about a third more time.
    """
    determinism: Literal["bitwise", "fast"] = "bitwise"
    """bitwise: equal inputs and equal execution give equal bytes; fast: equal records, batches, seeds and noise."""


class Sampling(Section):
    """How samples are drawn for evaluation; a family adds its own fields (length, temperature; steps, guidance)."""

    generator: ClassVar[frozenset[str]] = frozenset()
    """Fields that make part of what is judged, as the weights do (sampler, steps, guidance of a diffusion model):
    scores may be compared across them. All other fields are protocol: scores of different ones are never compared.
    """

    n: int = Field(default=0, ge=0)
    """Number of samples; 0 takes as many as there are test records (images) or 64 (text)."""
    seed: int = Field(default=0, ge=0)
    """Sample i is drawn with seed ``seed * 2**32 + i``, so it does not depend on batch size or devices."""
    batch: int = Field(default=256, ge=1)
    """Samples drawn at once; it moves memory and time, no result."""


class Slices(Section):
    """Scores by group of records, to see for whom a model is worse."""

    columns: tuple[str, ...] = ("label", "source")
    """Columns of the records: label, source (the file or top folder a record comes from), or one of the user's."""
    metrics: tuple[Key, ...] = ("kid_domain", "precision_domain", "recall_domain", "bits_per_byte")
    """Metrics to slice, as far as they apply."""
    min_n: int = Field(default=30, ge=3)
    """Fewest rows on each side; a smaller group is counted, not scored."""


class Template(Section):
    """A sentence with a gap, and what is put into it: does the model find one of two groups likelier?"""

    text: str = Field(pattern=r"\{\}")
    """Text with ``{}`` where the words go, as ``{} is a doctor.``"""
    pairs: tuple[tuple[str, str], ...] = Field(min_length=1)
    """Words to compare, two by two."""


class Evaluation(Section):
    """Which scores are computed: by default every metric that the data allow."""

    metrics: dict[Key, dict[str, Any]] = Field(default_factory=dict)
    """Options by metric name, the name of a file under metrics/; also switches on those that are off by default."""
    skip: tuple[Key, ...] = ()
    """Metrics to leave out."""
    slices: Slices = Slices()
    templates: tuple[Template, ...] = ()
    """Prompt template pairs for language models."""
    window: int = Field(default=0, ge=0)
    """Tokens of context when documents are scored; 0 takes the model's own."""
    stride: int = Field(default=0, ge=0)
    """Tokens newly scored per window; 0 takes half the window."""
    batch: int = Field(default=64, ge=1)


MODEL_SECTIONS: dict[str, type[Section]] = {
    "training": Training,
    "sampling": Sampling,
    "evaluation": Evaluation,
}


class Execution(Section):
    """On what a stage runs: read and logged, no part of a model's identity, so it may change on resume."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = Field(default=0, ge=0)
    """Devices on each node; 0 takes all GPUs, or one CPU process."""
    nodes: int = Field(default=1, ge=1)
    strategy: Literal["auto", "single", "ddp", "fsdp"] = "auto"
    """ddp: each device holds the model; fsdp: weights, gradients and optimizer states are divided over the devices
    (Zhao et al. 2023, arXiv:2304.11277). auto: single on one device, else ddp.
    """
    launcher: Literal["auto", "torchrun", "slurm", "ray"] = "auto"
    """Who starts the processes: auto is the stage itself on this machine (or what started it: torchrun, srun);
    torchrun and slurm make the stage start itself again through torchrun or srun; ray runs it on a Ray cluster.
    """
    main_address: str = Field(default="", pattern=r"^([A-Za-z0-9.-]+:[0-9]{1,5})?$")
    """host:port at which several nodes meet, for launcher torchrun."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of each process; 0 takes the cores divided by the processes."""
    workers: int = Field(default=0, ge=0)
    """Processes that read batches ahead; 0 reads in the training process (batches come whole from memory maps)."""
    checkpoint_every: float = Field(default=120.0, gt=0)
    """Seconds between checkpoints."""
    data_executor: Literal["auto", "serial", "pool", "ray"] = "auto"
    """Who works on the shards of a data set: this process, a pool of processes, or tasks on a Ray cluster (extra
    ``ray``). The results are the same bytes. auto: a pool where there is enough to do for it.
    """
    data_workers: int = Field(default=0, ge=0)
    """Processes of the pool, or tasks at a time; 0 takes the cores."""
    data_cache: float = Field(default=0.5, ge=0)
    """Gigabytes of results of shards to keep under the state root, so that only new shards are worked on; 0 keeps
    none.
    """


class Base(Section):
    """A pretrained model to start from; without a path it is the empty base ``scratch``."""

    path: str = ""
    """Folder of a model that genfoundry made (its ``model/``)."""


class DatasetBlock(Section):
    """One block under ``datasets:``; its sections are typed by the modality."""

    modality: Key
    source: str
    """Folder or file below data/ or imports/, relative to the project."""
    ingest: dict[str, Any]
    validation: dict[str, Any]
    preprocess: dict[str, Any]
    dedup: dict[str, Any]
    split: dict[str, Any]
    encode: dict[str, Any]
    reference: dict[str, Any]


class ModelBlock(Section):
    """One block under ``models:``; ``options`` is typed by the family."""

    dataset: Key
    family: Key
    init_from: Key = "scratch"
    options: dict[str, Any]
    training: dict[str, Any]
    sampling: dict[str, Any]
    evaluation: dict[str, Any]


class Settings(Section):
    """The whole of params.yaml, sections still raw."""

    format: Literal[1]
    project: Key
    """Name of the MLflow experiment."""
    execution: dict[str, Any]
    gate: dict[str, Any] = Field(default_factory=dict)
    """By which rules `genfoundry compare` judges two models; no stage reads it."""
    retraining: dict[str, Any] = Field(default_factory=dict)
    """How `genfoundry retrain` works (`genfoundry.retraining.options`); no stage reads it."""
    bases: dict[Key, dict[str, Any]]
    datasets: dict[Key, DatasetBlock]
    models: dict[Key, ModelBlock]


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML 1.2 file as a mapping (ruamel reads 1e-4 as a number, as DVC does; PyYAML would not)."""
    try:
        return _parse_yaml(path, path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None


@lru_cache(maxsize=16)
def _parse_yaml(path: Path, content: bytes) -> dict[str, Any]:
    """Parsed once for each content: a stage asks for the same file several times."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    if len(text) > MAX_BYTES or text.count("*") > 100:
        raise ConfigError(f"{path}: {len(text)} characters with {text.count('*')} '*'; too large, or an alias bomb")
    try:
        tree = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise ConfigError(f"{path}{line}: not YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: needs a mapping at the top, got {type(tree).__name__}")
    return tree


def faults(section: type[Section], values: Mapping[str, Any], where: str) -> list[str]:
    """Every fault of a block, one line each: where, what with its value, what to do."""
    try:
        section.model_validate(values)
    except ValidationError as error:
        return [_fault(section, fault, where) for fault in error.errors()]
    return []


def _fault(section: type[Section], fault: Any, where: str) -> str:
    path = [str(step) for step in fault["loc"]]
    place = ".".join(step for step in [where, *path] if step)
    if fault["type"] == "extra_forbidden":
        owner: Any = section
        for step in path[:-1]:
            field = getattr(owner, "model_fields", {}).get(step)
            owner = field.annotation if field else None
            if owner is None:
                break
        known = list(getattr(owner, "model_fields", {}) or {})
        return f"params.yaml: unknown key '{place}'{parts.nearest(path[-1], known)}"
    if fault["type"] == "missing":
        return f"params.yaml: '{place}' is missing; add it (a section may be {{}})"
    return f"params.yaml: '{place}' is {fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def parse(section: type[SectionType], values: Any, where: str) -> SectionType:
    """A typed section.

    Raises:
        ConfigError: With every fault of the section, one line each.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"params.yaml: '{where}' is {values!r}; needs a block of settings (it may be {{}})")
    lines = faults(section, values, where)
    if lines:
        raise ConfigError("\n".join(lines))
    return section.model_validate(values)


def load(root: Path) -> Settings:
    """params.yaml of a workspace, its upper levels checked."""
    return parse(Settings, read_yaml(root / "params.yaml"), "")


def dataset_section(settings: Settings, key: str, name: str) -> Section:
    """A typed section of a dataset, with the fields its modality adds."""
    if key not in settings.datasets:
        raise ConfigError(f"params.yaml: no dataset {key!r}{parts.nearest(key, list(settings.datasets))}")
    block = settings.datasets[key]
    kind = getattr(parts.load("modalities", block.modality), name.capitalize(), DATASET_SECTIONS[name])
    return parse(kind, getattr(block, name), f"datasets.{key}.{name}")


def model_section(settings: Settings, key: str, name: str) -> Section:
    """A typed section of a model; ``options`` is the family's ``Config``."""
    if key not in settings.models:
        raise ConfigError(f"params.yaml: no model {key!r}{parts.nearest(key, list(settings.models))}")
    block = settings.models[key]
    return parse(family_section(block.family, name), getattr(block, name), f"models.{key}.{name}")


def family_section(family: str, name: str) -> type[Section]:
    """The class of a model's section: ``options`` is the family's ``Config``, ``sampling`` its ``Sampling`` if any."""
    module = parts.load("models", family)
    found: type[Section]
    if name == "options":
        found = module.Config
    elif name == "sampling":
        found = getattr(module, "Sampling", Sampling)
    else:
        found = MODEL_SECTIONS[name]
    return found
