from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustprune.data import ImageData, load_data
from robustprune.errors import TicketError, TrainingError
from robustprune.models import build_model
from robustprune.pruning import score_blocks
from robustprune.runtime.files import read_sealed
from robustprune.runtime.randomness import seeded_generator
from robustprune.runtime.work import Work
from robustprune.tickets import prune_layers
from robustprune.tickets.ticket import Ticket, load_ticket
from robustprune.training import CHECKPOINT_NAME, EnergyMeter, Recipe, train, train_to_file

EPOCHS = 4


def fresh(data: ImageData, name: str = "resnet20", **options: Any) -> Ticket:
    return Ticket.from_model(build_model(name, data, **{"width": 4, **options}), data)


def quietly(ticket: Ticket, data: ImageData, **options: Any) -> Ticket:
    return train(ticket, data, **{"epochs": EPOCHS, "batch_size": 64, "country": None, **options})


class Interrupted(Exception):
    """Stands for whatever ends a run from outside."""


def stop_after(steps: int, folder: Path | None = None) -> Work:
    left = [steps]

    def progress(_what: str, _done: float, _total: float) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Interrupted

    return Work(progress=progress, folder=folder)


def test_it_learns(few_digits: ImageData) -> None:
    ticket = quietly(fresh(few_digits, width=8), few_digits, epochs=20, batch_size=32)
    assert ticket.history[-1]["validation_accuracy"] > 0.8
    assert ticket.history[-1]["train_loss"] < ticket.history[0]["train_loss"]
    assert not ticket.model().training


def test_equal_seeds_give_equal_weights_and_others_do_not(few_digits: ImageData) -> None:
    first, again, other = (quietly(fresh(few_digits), few_digits, seed=seed).sha256 for seed in (1, 1, 2))
    assert first == again != other


def test_updates_are_those_of_nesterov_momentum(few_digits: ImageData, tmp_path: Path) -> None:
    """An epoch against the update rule written out; a smooth network, since a kink would amplify rounding."""
    code = tmp_path / "smooth.py"
    code.write_text(
        "from torch import nn\nnet = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))\n"
    )
    recipe = Recipe("quick", epochs=1, batch_size=32, augmentation="none")
    ticket = Ticket.from_model(build_model(f"file:{code}:net", few_digits), few_digits)
    network = copy.deepcopy(ticket.network)
    train(ticket, few_digits, recipe=recipe, country=None)

    part = few_digits.require("train")
    steps = len(part) // 32
    order = torch.randperm(len(part), generator=seeded_generator(0, "epoch", 0))[: steps * 32]
    velocity = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    for step, rows in enumerate(order.split(32)):
        network.zero_grad()
        log_probabilities = network(part.images[rows].float() / 255).log_softmax(dim=1)
        target = torch.full_like(log_probabilities, 0.1 / 10)
        target[torch.arange(32), part.labels[rows]] += 0.9
        (-(target * log_probabilities).sum(dim=1).mean()).backward()
        rate = recipe.learning_rate_at(step / steps)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                gradient = parameter.grad + 5e-4 * parameter
                velocity[name] = 0.9 * velocity[name] + gradient
                parameter -= rate * (gradient + 0.9 * velocity[name])
    trained = dict(ticket.network.named_parameters())
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(trained[name], parameter, rtol=1e-4, atol=1e-6)


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("steps", [1, 4, 7, 11])
def test_interrupted_and_resumed_is_bit_identical(few_digits: ImageData, tmp_path: Path, steps: int) -> None:
    expected = quietly(fresh(few_digits), few_digits).sha256
    with pytest.raises(Interrupted):
        quietly(fresh(few_digits), few_digits, work=stop_after(steps, tmp_path))
    steps_done: list[float] = []
    work = Work(progress=lambda _what, done, _total: steps_done.append(done), folder=tmp_path)
    resumed = quietly(fresh(few_digits), few_digits, work=work)
    assert resumed.sha256 == expected
    assert steps_done == list(range((steps - 1) // 3 * 3 + 1, 3 * EPOCHS + 1))
    assert [entry["epoch"] for entry in resumed.history] == [1, 2, 3, 4]


def test_networks_that_draw_random_numbers_resume_identically(few_digits: ImageData, tmp_path: Path) -> None:
    code = tmp_path / "net.py"
    code.write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 10))\n"
    )
    name = f"file:{code}:net"
    expected = quietly(Ticket.from_model(build_model(name, few_digits)), few_digits).sha256
    with pytest.raises(Interrupted):
        quietly(Ticket.from_model(build_model(name, few_digits)), few_digits, work=stop_after(8, tmp_path))
    torch.rand(17)  # what the process-wide generator did in between must not matter
    again = Ticket.from_model(build_model(name, few_digits))
    assert quietly(again, few_digits, work=Work(folder=tmp_path)).sha256 == expected


def test_global_generators_are_left_alone(few_digits: ImageData) -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].tolist()
    quietly(fresh(few_digits), few_digits, epochs=1)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]


def test_checkpoint_of_another_run_is_refused_with_the_difference(few_digits: ImageData, tmp_path: Path) -> None:
    work, checkpoint = Work(folder=tmp_path), tmp_path / CHECKPOINT_NAME
    quietly(fresh(few_digits), few_digits, work=work, epochs=1)
    with pytest.raises(TrainingError, match="seed was 0, is 5"):
        quietly(fresh(few_digits), few_digits, work=work, epochs=1, seed=5)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-3])
    with pytest.raises(TrainingError, match="delete the file"):
        quietly(fresh(few_digits), few_digits, work=work, epochs=1)


@pytest.mark.parametrize("rate", [1e20, 1e38])
def test_divergence_is_an_error_that_says_where(few_digits: ImageData, tmp_path: Path, rate: float) -> None:
    with pytest.raises(
        TrainingError, match=r"training diverged: the (loss|gradient norm) is (nan|inf).*epoch \d, step"
    ):
        quietly(fresh(few_digits), few_digits, learning_rate=rate, work=Work(folder=tmp_path))


def test_infinite_gradient_of_a_finite_loss_is_caught(few_digits: ImageData) -> None:
    ticket = fresh(few_digits)
    ticket.network.fc.register_forward_hook(lambda _module, _inputs, logits: _Cliff.apply(logits))
    with pytest.raises(TrainingError, match=r"gradient norm is (inf|nan)"):
        quietly(ticket, few_digits)


class _Cliff(torch.autograd.Function):
    @staticmethod
    def forward(_context: Any, logits: Tensor) -> Tensor:
        return logits.clone()

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        return torch.full_like(gradient, torch.inf)


def test_the_test_split_is_never_looked_at(few_digits: ImageData) -> None:
    blind = ImageData(
        name="digits",
        classes=few_digits.classes,
        mean=few_digits.mean,
        std=few_digits.std,
        flips=False,
        train=few_digits.train,
        val=None,
        test=None,
        spec=few_digits.spec,
        provenance=few_digits.provenance,
    )
    seen, unseen = fresh(few_digits), fresh(few_digits)
    assert quietly(seen, few_digits).sha256 == quietly(unseen, blind).sha256
    assert "validation_accuracy" not in unseen.history[-1]


def test_images_of_another_shape_are_refused(few_digits: ImageData) -> None:
    with pytest.raises(TicketError, match=r"takes 1×8×8 images of 10 classes.*has 1×12×12"):
        quietly(fresh(few_digits), load_data("digits", image_size=12))


def test_everything_is_kept_in_the_ticket(few_digits: ImageData, tmp_path: Path) -> None:
    dense = fresh(few_digits)
    ticket = prune_layers(dense, score_blocks(dense.network, few_digits, "snip"), blocks=2)
    train_to_file(ticket, few_digits, tmp_path / "ticket.pt", epochs=2, batch_size=64, country="FRA")
    loaded = load_ticket(tmp_path / "ticket.pt")
    training = loaded.training
    assert (training["epochs"], training["recipe"]["name"], training["country"]) == (2, "quick", "FRA")
    assert training["seconds"] == pytest.approx(sum(entry["seconds"] for entry in loaded.history))
    assert training["energy_kwh"] > 0
    assert training["co2_kg"] > 0
    assert training["images_per_second"] > 0
    assert training["device"] == "cpu"
    assert training["energy_method"].startswith("codecarbon")
    assert loaded.sha256 == ticket.sha256
    assert [path.name for path in tmp_path.iterdir()] == ["ticket.pt"]


def test_unknown_country_is_refused_before_any_training(few_digits: ImageData) -> None:
    with pytest.raises(TrainingError, match="Did you mean 'USA'"):
        quietly(fresh(few_digits), few_digits, country="USS", work=stop_after(1))


def test_meter_that_fails_does_not_stop_training(few_digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustprune.training.meter._tracker", lambda *_: 1 / 0)
    ticket = quietly(fresh(few_digits), few_digits, epochs=1, country="USA")
    assert ticket.training["energy_kwh"] is None
    assert "ZeroDivisionError" in ticket.training["energy_method"]


def test_energy_is_power_times_time_and_carbon_follows_the_grid() -> None:
    readings = {}
    for country in ("FRA", "POL"):
        with EnergyMeter(country).measure() as energy:
            start = time.perf_counter()
            while time.perf_counter() - start < 1.0:
                sum(range(1000))
        readings[country] = energy
    intensity = {country: energy.co2_kg / energy.energy_kwh for country, energy in readings.items()}
    # Kilograms a kilowatt-hour; Poland burns coal, France splits atoms.
    assert 0.01 < intensity["FRA"] < 0.15 < 0.5 < intensity["POL"] < 1.0
    watts = readings["POL"].energy_kwh * 3.6e6 / 1.0
    assert 1 < watts < 500


def test_file_of_an_interrupted_run_is_neither_lost_nor_redone(few_digits: ImageData, tmp_path: Path) -> None:
    out = tmp_path / "out.pt"
    options = {"epochs": 3, "batch_size": 64, "country": None}
    with pytest.raises(Interrupted):
        train_to_file(fresh(few_digits), few_digits, out, work=stop_after(5), **options)
    with pytest.raises(TrainingError, match="--resume"):
        train_to_file(fresh(few_digits), few_digits, out, **options)
    assert not out.exists()
    done = train_to_file(fresh(few_digits), few_digits, out, resume=True, **options)
    written = out.stat().st_mtime_ns
    again = train_to_file(fresh(few_digits), few_digits, out, resume=True, work=stop_after(1), **options)
    assert again.sha256 == done.sha256
    assert out.stat().st_mtime_ns == written
    with pytest.raises(Interrupted):
        train_to_file(fresh(few_digits), few_digits, out, resume=True, work=stop_after(1), seed=9, **options)


@pytest.mark.slow
def test_run_that_was_to_stop_early_is_not_the_finished_one(few_digits: ImageData, tmp_path: Path) -> None:
    out, options = tmp_path / "out.pt", {"epochs": 3, "batch_size": 64, "country": None, "resume": True}
    train_to_file(fresh(few_digits), few_digits, out, stop_epoch=2, **options)
    stopped = train_to_file(fresh(few_digits), few_digits, out, stop_epoch=2, work=stop_after(1), **options)
    assert [entry["epoch"] for entry in stopped.history] == [1, 2]
    whole = train_to_file(fresh(few_digits), few_digits, out, **options)
    assert whole.sha256 == quietly(fresh(few_digits), few_digits, epochs=3).sha256
    assert load_ticket(out).sha256 == whole.sha256


def test_two_processes_with_the_same_run(few_digits: ImageData, tmp_path: Path) -> None:
    out, options = tmp_path / "out.pt", {"epochs": 3, "batch_size": 64, "country": None, "resume": True}

    def other_process_finishes(entry: dict[str, Any], epochs: int) -> None:
        if entry["epoch"] == epochs:
            train_to_file(fresh(few_digits), few_digits, out, **options)

    found = train_to_file(fresh(few_digits), few_digits, out, on_epoch=other_process_finishes, **options)
    assert load_ticket(out).sha256 == found.sha256
    assert list(tmp_path.iterdir()) == [out]


def test_checkpoint_holds_what_it_says(few_digits: ImageData, tmp_path: Path) -> None:
    ticket = quietly(fresh(few_digits), few_digits, work=Work(folder=tmp_path), epochs=2)
    content = read_sealed(tmp_path / CHECKPOINT_NAME, "robustprune-checkpoint")
    assert [entry["epoch"] for entry in content["history"]] == [1, 2]
    for name, value in ticket.network.state_dict().items():
        assert torch.equal(content["weights"][name], value)


def test_tiny_training_sets_make_at_least_one_step() -> None:
    data = load_data("digits", train_limit=20)
    ticket = quietly(fresh(data), data, epochs=1, batch_size=64)
    assert len(ticket.history) == 1


def test_modules_are_trained_in_channels_last_and_handed_back_contiguous(few_digits: ImageData) -> None:
    layouts: list[bool] = []
    ticket = fresh(few_digits)
    convolution = ticket.network.layer2[1].conv1
    assert isinstance(convolution, nn.Conv2d)
    handle = convolution.register_forward_pre_hook(
        lambda _module, inputs: layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    quietly(ticket, few_digits, epochs=1)
    handle.remove()
    assert all(layouts)
    assert convolution.weight.is_contiguous()


def test_ticket_remembers_the_data_it_was_trained_on(few_digits: ImageData, digits: ImageData) -> None:
    ticket = fresh(digits)
    assert quietly(ticket, few_digits, epochs=1).data == few_digits.spec != digits.spec


def test_divergence_in_the_very_last_step_is_caught(few_digits: ImageData, tmp_path: Path) -> None:
    # One step an epoch: no later loss would see what the update made of the weights.
    out = tmp_path / "out.pt"
    with pytest.raises(TrainingError, match="training diverged"):
        train_to_file(fresh(few_digits), few_digits, out, epochs=1, batch_size=200, learning_rate=1e39, country=None)
    assert list(tmp_path.iterdir()) == []


def test_resuming_with_other_threads_is_refused(few_digits: ImageData, tmp_path: Path) -> None:
    work = Work(folder=tmp_path)
    quietly(fresh(few_digits), few_digits, work=work, epochs=1)
    torch.set_num_threads(2)
    try:
        with pytest.raises(TrainingError, match="threads was 1, is 2"):
            quietly(fresh(few_digits), few_digits, work=work, epochs=1)
    finally:
        torch.set_num_threads(1)


def test_earlier_training_is_remembered(few_digits: ImageData, tmp_path: Path) -> None:
    dense = quietly(quietly(fresh(few_digits), few_digits, epochs=1), few_digits, epochs=2)
    ticket = prune_layers(dense, score_blocks(dense.network, few_digits, "random"), blocks=1)
    quietly(ticket, few_digits, epochs=3).save(tmp_path / "ticket.pt")
    loaded = load_ticket(tmp_path / "ticket.pt")
    assert [training["epochs"] for training in loaded.earlier_training] == [1, 2]
    assert loaded.training["epochs"] == 3


def test_what_a_recipe_cannot_be_is_said_without_the_recipe() -> None:
    with pytest.raises(TrainingError) as caught:
        Recipe("quick", consistency=1.0)
    assert str(caught.value) == "a consistency loss compares mixtures of augmix, which this recipe has not"
    for rate in (float("inf"), float("nan"), -1.0):
        with pytest.raises(TrainingError, match=rf"learning_rate: Input should be .*, not {rate}"):
            Recipe("quick", learning_rate=rate)


def test_a_recipe_of_ones_own_can_be_overridden(few_digits: ImageData) -> None:
    ticket = quietly(fresh(few_digits), few_digits, recipe=Recipe("quick", epochs=1), epochs=2)
    assert len(ticket.history) == 2
