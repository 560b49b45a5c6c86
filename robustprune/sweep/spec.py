"""What a sweep's file may say: one run's settings, and how many runs are made of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from robustprune.attacks.requests import Attacks
from robustprune.corruptions.requests import Corruptions
from robustprune.evaluation.requests import Evaluation
from robustprune.ood.requests import OOD

Method = Literal["dense", "layer", "filter", "filter-uniform", "weight"]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Rewind = Annotated[int, Field(ge=0)] | str


class _Part(BaseModel):
    # A name such as 2024 is text, whatever YAML takes it for.
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_not_empty(cls, value: Any, info: ValidationInfo) -> Any:
        # An empty path would be the folder one is in, and an empty name comes of a variable that nobody has set.
        annotation = cls.model_fields[str(info.field_name)].annotation
        has_its_own = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        if not has_its_own and info.field_name != "description":
            _refuse_empty(value)
        if isinstance(value, bool) and not _takes_a_flag(annotation):
            raise ValueError("it takes no true or false, as yes, no, on and off are in YAML; a text goes in quotes")
        return value


def _takes_a_flag(annotation: Any) -> bool:
    """Return whether true and false are meant as such; what is nested has its own fields, and names its own types."""
    return annotation is bool or bool in get_args(annotation)


def _refuse_empty(value: Any) -> None:
    if isinstance(value, str) and not value.strip():
        raise ValueError("it is empty; give it a value, or leave it out")
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    for each in inside:
        _refuse_empty(each)


class DataSettings(_Part):
    """The image set: arguments of :func:`robustprune.load_data`.

    Its seed is its own: the same images are held out whatever the seed of a run.
    """

    name: str = "digits"
    root: str | None = None
    image_size: Annotated[int, Field(ge=8)] | None = None
    channels: Literal[1, 3] | None = None
    train_limit: Count | None = None
    validation_fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    seed: Seed = 0
    stream: bool | None = None
    workers: Seed = 0
    download: bool = False


class TrainSettings(_Part):
    """How dense networks and tickets are trained: a recipe, and what is to be other than it says."""

    recipe: str = "quick"
    epochs: Count | None = None
    batch_size: Annotated[int, Field(ge=2)] | None = None
    learning_rate: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    label_smoothing: float | None = None
    schedule: str | None = None
    augment: bool | None = None
    defence: str | None = None
    consistency: float | None = None
    adversarial: str | None = None
    epsilon: float | str | None = None
    adversarial_steps: Count | None = None
    trades_beta: float | None = None


class EvaluateSettings(_Part):
    """What is measured: arguments of :func:`robustprune.evaluate`, under the same names.

    ``attack_settings`` may say ``transfer_from: dense``, which is the dense network of the same seed.
    """

    split: Literal["test", "val", "train"] = "test"
    limit: Count | None = None
    seed: Seed = 0
    batch_size: Count = 256
    attacks: tuple[str, ...] = ()
    epsilons: tuple[float | str, ...] = ("8/255",)
    norm: Literal["linf", "l2", "l1"] = "linf"
    restarts: Count = 1
    options: dict[str, Any] = {}
    attack_settings: dict[str, Any] = {}
    corruptions: tuple[str, ...] = ()
    corruption_dir: str | None = None
    corruption_options: dict[str, Any] = {}
    shift: dict[str, str] = {}
    latency: bool = False
    ood: tuple[str, ...] | dict[str, tuple[str, ...]] = ()
    detectors: tuple[str, ...] | None = None
    ood_options: dict[str, Any] = {}

    def request(self) -> Evaluation:
        """Return the same as an evaluation takes it."""
        shared = {name: getattr(self, name) for name in ("split", "limit", "seed", "batch_size", "latency", "shift")}
        attacks = {"epsilons": self.epsilons, "norm": self.norm, "restarts": self.restarts}
        detectors = {} if self.detectors is None else {"detectors": self.detectors}
        return Evaluation(
            attacks=Attacks(self.attacks, options=self.options, **attacks, **self.attack_settings),
            corruptions=Corruptions(self.corruptions, published=self.corruption_dir, options=self.corruption_options),
            ood=OOD(self.ood, **detectors, **self.ood_options),
            **shared,
        )


class RunSettings(_Part):
    """One network: how it is made, trained and measured.

    Attributes:
        model: Name of the network.
        model_options: What its builder takes.
        data: The image set.
        train: How it is trained.
        method: ``dense``: nothing goes. ``layer``: whole blocks. ``filter``, ``filter-uniform``: as many filters as the
            layer ticket of the same criterion and blocks lost. ``weight``: single weights are masked.
        criterion: What ranks blocks, filters or weights.
        criterion_options: Its options.
        blocks: How many blocks go, or go from the layer ticket that is matched.
        sparsity: The share of weights that is masked.
        rounds: In how many rounds; by default as many as the criterion wants.
        eligibility: Which blocks may go.
        match_by: What filter tickets are matched by.
        at_init: Score the initial weights (algorithm 2) rather than the trained ones (algorithm 1).
        rewind: Where kept weights come from: epochs (25), a share of all (25%), or ``random``: new ones.
        seed: Of initial weights, scoring, and the order of training.
        evaluate: What is measured.
        threads: Of a process; part of what decides how sums are rounded, and so of a run's identity.
        device: Where to compute.
        country: Whose grid's carbon intensity counts.
        measure_energy: Whether energy is measured.
    """

    model: str = "resnet32"
    model_options: dict[str, Any] = {}
    data: DataSettings = DataSettings()
    train: TrainSettings = TrainSettings()
    method: Method = "layer"
    criterion: str | None = None
    criterion_options: dict[str, Any] = {}
    blocks: Count | None = None
    sparsity: Annotated[float, Field(gt=0, lt=1)] | None = None
    rounds: Count | None = None
    eligibility: Literal["authors", "strict", "identity"] = "authors"
    match_by: Literal["filters", "macs", "params"] = "filters"
    at_init: bool = True
    rewind: Rewind = 0
    seed: Seed = 0
    evaluate: EvaluateSettings = EvaluateSettings()
    threads: Count = 1
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    country: str = "USA"
    measure_energy: bool = True

    @field_validator("model_options")
    @classmethod
    def _names_weights_by_text(cls, options: dict[str, Any]) -> dict[str, Any]:
        path = options.get("weights_file")
        is_number = isinstance(path, (int, float)) and not isinstance(path, bool)
        return {**options, "weights_file": str(path)} if is_number else options

    @property
    def title(self) -> str:
        """What a reader calls the run; others of a sweep may have the same."""
        size = self.blocks if self.sparsity is None else self.sparsity
        if self.method == "dense":
            parts = ["dense"]
        else:
            parts = [
                self.method,
                str(self.criterion),
                str(size),
                *([] if self.rewind == 0 else [f"from {self.rewind}"]),
            ]
        return " ".join([*parts, f"seed {self.seed}"])

    def as_dense(self) -> RunSettings:
        """Return the run of the dense network that this one's is compared with."""
        untouched = {name: getattr(self, name) for name in _DENSE}
        return RunSettings.model_construct(**{**dict(RunSettings()), **untouched, "method": "dense"})


_DENSE = (
    "model",
    "model_options",
    "data",
    "train",
    "seed",
    "evaluate",
    "threads",
    "device",
    "country",
    "measure_energy",
)


class RunRequest(RunSettings):
    """A run as a file asks for it: what its method needs has to be there."""

    @model_validator(mode="after")
    def _method_has_what_it_needs(self) -> RunRequest:
        needed = {"dense": (), "weight": ("criterion", "sparsity")}.get(self.method, ("criterion", "blocks"))
        foreign = {"dense": ("criterion", "blocks", "sparsity"), "weight": ("blocks",)}.get(self.method, ("sparsity",))
        for name in needed:
            if getattr(self, name) is None:
                raise ValueError(f"the method {self.method!r} needs {name}")
        for name in foreign:
            if getattr(self, name) is not None:
                raise ValueError(f"the method {self.method!r} has no use for {name}; leave it out, or set it to null")
        if self.at_init and self.method != "dense" and str(self.rewind) not in ("0", "0%", "random"):
            raise ValueError(
                "a ticket found at initialization starts there: rewind to 0 or random, or set at_init: false"
            )
        return self


class SweepFile(RunSettings):
    """A sweep's file: the settings that all runs share, and those that differ.

    Attributes:
        name: Of the sweep; by default the file's.
        description: For readers.
        grid: Setting, as a path with dots → values; every combination is a run.
        include: Further runs: settings in place of the shared ones, with a grid of their own.
        exclude: Runs with all of these settings are left out, whether of the grid or included.
        dense: Also run the dense network of every seed.
    """

    name: str = ""
    description: str = ""
    grid: dict[str, list[Any]] = {}
    include: list[dict[str, Any]] = []
    exclude: list[dict[str, Any]] = []
    dense: bool = True
