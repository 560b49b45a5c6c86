import pytest
import torch
from torch import nn

from robustprune.errors import EvaluationError
from robustprune.inference import predict_logits
from robustprune.ood.detector import DETECTORS
from robustprune.ood.detector_scores import fit_detectors, score_outputs
from robustprune.ood.extraction import TRUST, Extractor


def test_outputs_are_what_the_network_computes(case):
    expected = predict_logits(case.network, case.inside.images)
    torch.testing.assert_close(case.inside.logits, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(case.inside.head(case.inside.features), expected, rtol=1e-4, atol=1e-4)


def test_the_network_runs_once_over_each_image(case):
    batches = []
    extractor = Extractor(case.network, case.inside.images[:8], batch_size=100)
    handle = extractor.network.register_forward_hook(lambda _module, inputs, _output: batches.append(len(inputs[0])))
    train, inside, outside = (
        extractor.run(part.images, part.labels) for part in (case.train, case.inside, case.outside)
    )
    names = [name for name in DETECTORS.names() if name != "odin"]
    fitted = fit_detectors(names, train, inside)
    scores = [score_outputs(each, part) for each in fitted.values() for part in (inside, outside)]
    handle.remove()
    assert all(not isinstance(each, str) for each in scores)
    assert sum(batches) == len(train) + len(inside) + len(outside)


@pytest.mark.parametrize("change", ["batch size", "order", "subset", "threads"])
def test_no_score_changes_beyond_1e_6(case, change):
    images, labels = case.inside.images, case.inside.labels
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    if change == "subset":
        order = order[:77]
    extractor = Extractor(case.network, images[:8], batch_size=31 if change == "batch size" else 256)
    if change == "threads":
        torch.set_num_threads(2)
    try:
        again = extractor.run(images[order], labels[order])
        train = extractor.run(case.train.images, case.train.labels)
        held_out = extractor.run(case.held_out.images, case.held_out.labels)
        fitted = fit_detectors(DETECTORS.names(), train, held_out)
        found = {name: torch.tensor(score_outputs(each, again)) for name, each in fitted.items()}
    finally:
        torch.set_num_threads(1)
    for name, each in fit_detectors(DETECTORS.names(), case.train, case.held_out).items():
        expected = torch.tensor(score_outputs(each, case.inside))
        scale = max(1.0, float(expected.abs().max()))
        assert float((found[name] - expected[order]).abs().max()) <= 1e-6 * scale, name


class Counting(nn.Module):
    """Counts what it is run on, also in the copies that are made of it."""

    seen = 0

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 3)
        self.scale = 1.0

    def forward(self, images):
        Counting.seen += len(images)
        return self.scale * self.layer(images.flatten(1))


def test_the_cache_saves_the_pass_and_knows_weights_and_pixels_apart(tmp_path):
    torch.manual_seed(0)
    network, images = Counting(), torch.randint(0, 256, (9, 1, 8, 8), dtype=torch.uint8)

    def run(network, images):
        extractor = Extractor(network, images[:2], cache=tmp_path / "cache")
        Counting.seen = 0
        return extractor.run(images), Counting.seen

    first, computed = run(network, images)
    assert computed == 9
    again, computed = run(network, images)
    assert computed == TRUST
    assert torch.equal(again.logits, first.logits)
    assert torch.equal(again.features, first.features)
    other = images.clone()
    other[3, 0, 0, 0] ^= 1
    assert run(network, other)[1] == 9
    with torch.no_grad():
        network.layer.bias[0] += 1
    changed, computed = run(network, images)
    assert computed == 9
    assert not torch.equal(changed.logits, first.logits)
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:-30])
    assert run(network, images)[1] == 9  # a damaged file is made anew
    assert run(network, images)[1] == TRUST


def test_the_cache_is_not_believed_where_the_network_now_says_otherwise(tmp_path):
    torch.manual_seed(0)
    network, images = Counting(), torch.randint(0, 256, (9, 1, 8, 8), dtype=torch.uint8)
    before = Extractor(network, images[:2], cache=tmp_path).run(images)
    network.scale = 2.0  # neither weight nor module: no hash can see it
    after = Extractor(network, images[:2], cache=tmp_path).run(images)
    torch.testing.assert_close(after.logits, 2 * before.logits)


def test_infinite_logits_and_other_classes_do_not_make_the_cache_believed(tmp_path):
    class Changing(Counting):
        columns = 3

        def forward(self, images):
            logits = super().forward(images)
            first = torch.full_like(logits[:, :1], float("inf"))
            return torch.cat([first, logits], dim=1)[:, : self.columns]

    torch.manual_seed(0)
    network, images = Changing(), torch.randint(0, 256, (9, 1, 8, 8), dtype=torch.uint8)
    before = Extractor(network, images[:2], cache=tmp_path).run(images)
    network.scale = 2.0
    after = Extractor(network, images[:2], cache=tmp_path).run(images)
    torch.testing.assert_close(after.logits[:, 1:], 2 * before.logits[:, 1:])
    network.columns = 2
    assert Extractor(network, images[:2], cache=tmp_path).run(images).logits.shape == (9, 2)


def test_a_cache_that_cannot_be_written_is_a_clean_error(tmp_path):
    (tmp_path / "file").write_text("")
    images = torch.zeros(2, 1, 8, 8)
    with pytest.raises(EvaluationError, match="cannot be kept"):
        Extractor(Counting(), images, cache=tmp_path / "file").run(images)


def test_no_images_are_a_clean_error():
    with pytest.raises(EvaluationError, match="no images"):
        Extractor(Counting(), torch.zeros(2, 1, 8, 8)).run(torch.zeros(0, 1, 8, 8))
