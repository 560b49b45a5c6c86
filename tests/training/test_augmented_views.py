"""Training against corruptions: what is drawn, the consistency loss, and resuming."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scipy.spatial.distance import jensenshannon

from robustprune.corruptions import EXTRAS, corrupt
from robustprune.data import ImageData, load_data
from robustprune.errors import TrainingError
from robustprune.models import build_model
from robustprune.runtime.work import Work
from robustprune.tickets.ticket import Ticket
from robustprune.training import Recipe, train
from robustprune.training.augmented_views import augmented_views, consistency_loss, corrupt_some


def test_consistency_loss_is_the_jensen_shannon_divergence() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 50, 10, generator=generator)
    shares = [row.softmax(1).double().numpy() for row in (first, second)]
    expected = (jensenshannon(*shares, axis=1) ** 2).mean()
    assert float(consistency_loss([first, second])) == pytest.approx(expected, rel=1e-4)
    assert float(consistency_loss([first, first, first])) == pytest.approx(0, abs=1e-6)
    third = torch.randn(50, 10, generator=generator)
    assert float(consistency_loss([first, second, third])) > 0


def test_half_of_the_images_are_corrupted_by_an_extra_one() -> None:
    images = load_data("photo-patches").require("test").images[:400]
    indices = torch.arange(400) + 7
    made = corrupt_some(images, torch.Generator().manual_seed(3), 5, indices)
    changed = (made != images).flatten(1).any(1)
    assert 150 < int(changed.sum()) < 250
    # Each is what one of the four, keyed by the image, makes at severity 1 to 3.
    possible = torch.stack(
        [corrupt(images, name, severity, seed=5, sample_ids=indices) for name in EXTRAS for severity in (1, 2, 3)]
    )
    matches = (possible == made).flatten(2).all(2)
    assert matches.any(0)[changed].all()
    assert matches.any(1).all()


def test_views() -> None:
    images = load_data("digits").require("train").images[:20]
    keys = {"seed": 0, "epoch": 2, "indices": torch.arange(20)}

    def views(**options: object) -> list[torch.Tensor]:
        return augmented_views(images, Recipe(**options), torch.Generator().manual_seed(0), **keys)  # type: ignore[arg-type]

    assert [view is images for view in views()] == [True]
    assert [view.dtype for view in views(augmentation="augmix")] == [torch.float32]
    three = views(augmentation="augmix", consistency=12)
    assert three[0] is images
    assert len(three) == 3
    assert not torch.equal(three[1], three[2])
    assert [view.dtype for view in views(augmentation="corruptions")] == [torch.uint8]
    with pytest.raises(TrainingError, match="augmix"):
        Recipe(consistency=12)
    with pytest.raises(TrainingError, match=r"augmentation: .*'mixup'"):
        Recipe(augmentation="mixup")


@pytest.mark.quick_cases(1)
@pytest.mark.parametrize("options", [{"augmentation": "augmix", "consistency": 12.0}, {"augmentation": "corruptions"}])
def test_interrupted_training_ends_in_the_same_weights(
    few_digits: ImageData, tmp_path: Path, options: dict[str, object]
) -> None:
    def fresh() -> Ticket:
        return Ticket.from_model(build_model("resnet20", few_digits, width=4), few_digits)

    settings = {"epochs": 2, "batch_size": 40, "seed": 3, "country": None, **options}
    whole = train(fresh(), few_digits, **settings)  # type: ignore[arg-type]

    class Stop(Exception):
        pass

    def stop(_what: str, done: float, _total: float) -> None:
        if done == 6:  # in the second epoch
            raise Stop

    with pytest.raises(Stop):
        train(fresh(), few_digits, work=Work(progress=stop, folder=tmp_path), **settings)  # type: ignore[arg-type]
    resumed = train(fresh(), few_digits, work=Work(folder=tmp_path), **settings)  # type: ignore[arg-type]
    assert resumed.sha256 == whole.sha256
    plain = train(fresh(), few_digits, epochs=2, batch_size=40, seed=3, country=None)
    assert plain.sha256 != whole.sha256
    assert whole.training["recipe"]["augmentation"] == options["augmentation"]
