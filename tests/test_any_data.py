"""Every public function that takes image sets takes loaders, Datasets and pairs, and makes the same of them."""

import inspect

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import robustprune as rp
from robustprune.data import ImageData
from robustprune.lottery import algorithm_2

FORMS = {
    "loader": lambda images, labels: DataLoader(TensorDataset(images.float() / 255, labels), batch_size=50),
    "Dataset": lambda images, labels: TensorDataset(images, labels),
    "arrays": lambda images, labels: (images.permute(0, 2, 3, 1).numpy() / 255, labels.numpy()),
    "mapping": lambda images, labels: {"image": images, "label": labels.tolist()},
}
EPOCH = rp.Recipe("quick", epochs=1)


@pytest.fixture(scope="module")
def data(few_digits: ImageData) -> ImageData:
    return rp.as_data(train=few_digits.train, test=few_digits.test.subset(torch.arange(80)))


@pytest.fixture(scope="module", params=FORMS)
def form(request):
    return FORMS[request.param]


def network(data):
    return rp.build_model("resnet20", data, width=4)


def test_networks_are_shaped_for_what_is_in_hand(data, form):
    given = part(data, "train", form)
    built = [rp.build_model("resnet20", each, width=4) for each in (given, data)]
    assert built[0].architecture == built[1].architecture
    ticket = rp.Ticket.from_model(built[0], given)
    assert ticket.sha256 == rp.Ticket.from_model(built[1], data).sha256
    ticket.check_fits(given)
    own = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    assert rp.Ticket.from_model(own, given).architecture == rp.Ticket.from_model(own, data).architecture
    wider = form(torch.zeros(8, 1, 9, 9, dtype=torch.uint8) + 9, torch.arange(8))
    with pytest.raises(rp.TicketError, match="does not fit"):
        ticket.check_fits(wider)


def part(data, name, form):
    split = data.require(name)
    return form(split.images, split.labels)


@pytest.mark.quick_cases(2)
def test_scores(data, form):
    model, given = network(data), part(data, "train", form)
    assert rp.score_blocks(model, given, "snip") == rp.score_blocks(model, data, "snip")
    layers = [*rp.prunable_convolutions(model).values()]
    filters = [rp.score_filters(model, layers, each, "hrank") for each in (given, data)]
    weights = [rp.score_weights(model, each, "snip") for each in (given, data)]
    for one, other in (filters, weights):
        assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.quick_cases(2)
def test_tickets_and_their_training(data, form):
    model, given = network(data), part(data, "train", form)
    scores = rp.score_blocks(model, data, "snip")
    tickets = [rp.prune_layers(model, scores, blocks=1, data=each) for each in (given, data)]
    masked = [rp.prune_weights(model, each, "snip", sparsity=0.5) for each in (given, data)]
    assert masked[0].sha256 == masked[1].sha256
    filters = rp.score_filters(model, [*rp.prunable_convolutions(model).values()], data, "l1")
    assert rp.prune_filters(model, filters, filters=3, data=given).data == {}
    trained = [rp.train(ticket, each, EPOCH, country=None) for ticket, each in zip(tickets, (given, data), strict=True)]
    assert trained[0].sha256 == trained[1].sha256


def test_evaluation(data, form):
    model, given = network(data), part(data, "test", form)
    records = [rp.evaluate(model, each, limit=50) for each in (given, data)]
    assert records[0].samples_sha256 == records[1].samples_sha256
    assert records[0].clean == records[1].clean
    assert rp.evaluate_models({"one": model}, given, limit=50)["one"].clean == records[0].clean
    alike = [rp.compare_representations(model, model, each, layers=["fc"]) for each in (given, data, data.test)]
    assert alike[0] == alike[1] == alike[2]


@pytest.mark.quick_cases(2)
def test_detection(data, form):
    model, given = network(data), part(data, "test", form)
    # As other packages label what is out of distribution: by no class.
    foreign = torch.randint(256, (64, 3, 12, 10), dtype=torch.uint8)
    other = form(foreign, torch.full((64,), -1))
    found = rp.evaluate_ood(model, given, other, limit=40)
    (entry,) = found.entries
    assert (entry.dataset, entry.n_out, entry.conversions["channels_from"]) == ("given", 40, 3)
    assert entry.conversions["resized_from"] == [12, 10]
    asked = rp.OOD(["noise", "mine"], detectors=["energy", "msp"])
    for alike in (other, foreign, (foreign, np.arange(64) % 2), DataLoader(foreign, batch_size=9), [*foreign]):
        again = rp.evaluate_ood(model, given, asked, images={"mine": alike}, limit=40).entries
        assert [each.dataset for each in again] == ["noise", "mine"]
        assert [*again[1].detectors] == ["energy", "msp"]
        assert again[1].detectors["energy"] == entry.detectors["energy"]
    record = rp.evaluate(model, given, ood=asked, ood_images={"mine": other}, limit=40)
    assert record.ood[1].detectors["energy"] == entry.detectors["energy"]
    with pytest.raises(rp.EvaluationError, match="none of the sets asked for: noise, mine"):
        rp.evaluate_ood(model, given, asked, images={"yours": other})
    assert rp.evaluate_ood(model, given, "noise", limit=40).entries[0].dataset == "noise"


@pytest.mark.quick_cases(1)
def test_a_lottery(data, form, tmp_path):
    given = rp.as_data(train=part(data, "train", form), test=part(data, "test", form))
    how = {"recipe": EPOCH, "model": "resnet20", "model_options": {"width": 4}, "country": None}
    found = rp.run_lottery(tmp_path, given, algorithm_2("random", 1), **how)
    assert found.rows[0].records[0].data == {}
    with pytest.raises(rp.RobustPruneError, match="has no test split"):
        rp.run_lottery(tmp_path / "other", part(data, "train", form), algorithm_2("random", 1), **how)


def test_normalized_images_are_refused_everywhere(data):
    model, train = network(data), data.require("train")
    given = TensorDataset((train.images / 255 - 0.5) / 0.5, train.labels)
    for call in (
        lambda: rp.score_blocks(model, given),
        lambda: rp.prune_weights(model, given, "snip", sparsity=0.5),
        lambda: rp.train(rp.Ticket.from_model(model, data), given),
        lambda: rp.Ticket.from_model(model, given),
        lambda: rp.Ticket.from_model(model, data).check_fits(given),
        lambda: rp.evaluate(model, given),
        lambda: rp.evaluate_ood(model, data, given),
        lambda: rp.compare_representations(model, model, given),
    ):
        with pytest.raises(rp.DataError, match="normalized"):
            call()
    with pytest.raises(rp.DataError, match="normalized"):
        rp.build_model("resnet20", given)


def test_no_public_function_takes_image_sets_alone():
    public = [getattr(rp, name) for name in rp.__all__]
    methods = [getattr(kind, name) for kind in public if inspect.isclass(kind) for name in dir(kind) if name[0] != "_"]
    functions = [value for value in (*public, *methods) if inspect.isfunction(value) or inspect.ismethod(value)]
    taken = [str(each.annotation) for value in functions for each in inspect.signature(value).parameters.values()]
    assert any("AnyData" in each for each in taken)
    assert [each for each in taken if "ImageData" in each] == []


def test_a_dataset_that_is_read_as_it_is_used_trains_alike(data, monkeypatch):
    images = [TensorDataset(each.images, each.labels) for each in (data.train, data.test)]
    monkeypatch.setattr("robustprune.data.given.IN_MEMORY_BYTES", 0)
    streamed = rp.as_data(train=images[0], test=images[1])
    assert streamed.provenance["streamed"]
    tickets = [rp.Ticket.from_model(network(data)) for _ in range(2)]
    for ticket, each in zip(tickets, (data, streamed), strict=True):
        rp.train(ticket, each, EPOCH, country=None)
    assert tickets[0].sha256 == tickets[1].sha256
    assert rp.evaluate(tickets[0], streamed).clean == rp.evaluate(tickets[1], data).clean
