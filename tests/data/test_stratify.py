"""Stratified subsets against the optimality condition of the Sainte-Laguë method and hand-worked cases."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustprune.data.stratify import hold_out, stratified_indices, stratified_per_class
from robustprune.errors import DataError

labelled = st.lists(st.integers(0, 6), min_size=1, max_size=120).map(lambda values: torch.tensor(values))
seeds = st.integers(0, 2**32)


def counts(labels, indices):
    return {label: int((labels[indices] == label).sum()) for label in labels.unique().tolist()}


@settings(deadline=None)
@given(labelled, st.data(), seeds)
def test_a_subset_is_exact_unique_and_in_proportion(labels, data, seed):
    classes = len(labels.unique())
    count = data.draw(st.integers(classes, len(labels)))
    indices = stratified_indices(labels, count, seed)
    assert len(indices) == count
    assert torch.equal(indices, indices.unique())  # sorted, each once
    seats = counts(labels, indices)
    sizes = labels.bincount().tolist()
    assert min(seats.values()) >= 1
    # No seat beyond the first would be better placed in another class: Sainte-Laguë's condition.
    for giver, takes in seats.items():
        for taker, has in seats.items():
            if takes > 1 and has < sizes[taker]:
                assert (takes - 0.5) / sizes[giver] <= (has + 0.5) / sizes[taker] + 1e-12


@settings(deadline=None)
@given(labelled, seeds)
def test_a_smaller_subset_is_part_of_a_larger_one(labels, seed):
    previous: set[int] = set()
    for count in range(len(labels.unique()), len(labels) + 1):
        current = set(stratified_indices(labels, count, seed).tolist())
        assert previous < current or not previous
        previous = current


@settings(deadline=None)
@given(labelled, st.integers(0, 30), seeds)
def test_per_class_takes_so_many_or_all(labels, per_class, seed):
    indices = stratified_per_class(labels, per_class, seed)
    sizes = counts(labels, torch.arange(len(labels)))
    assert counts(labels, indices) == {label: min(size, per_class) for label, size in sizes.items()}
    assert torch.equal(indices, stratified_per_class(labels, per_class, seed))


@settings(deadline=None)
@given(labelled, st.floats(0.01, 0.5), seeds)
def test_holding_out_partitions_and_leaves_every_class_an_image(labels, fraction, seed):
    if len(labels) == len(labels.unique()):
        with pytest.raises(DataError, match="validation"):
            hold_out(labels, fraction, seed)
        return
    kept, held = hold_out(labels, fraction, seed)
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(len(labels)))
    assert set(labels[kept].tolist()) == set(labels.tolist())
    assert 1 <= len(held) <= max(1, round(fraction * len(labels)))


def test_equal_classes_get_equal_shares():
    labels = torch.arange(10).repeat(100)
    assert set(counts(labels, stratified_indices(labels, 200, 3)).values()) == {20}
    _, held = hold_out(labels, 0.1, 3)
    assert set(counts(labels, held).values()) == {10}


def test_the_seed_chooses():
    labels = torch.arange(10).repeat(100)
    chosen = {tuple(stratified_indices(labels, 100, seed).tolist()) for seed in range(5)}
    assert len(chosen) == 5


def test_the_choice_is_that_of_the_documented_stream():
    # One class: the subset is the images with the smallest raw 64-bit draws of PCG64.
    labels = torch.zeros(50, dtype=torch.int64)
    draws = np.random.PCG64(np.random.SeedSequence([7, 0])).random_raw(50)
    expected = sorted(np.argsort(draws)[:9].tolist())
    assert stratified_indices(labels, 9, 7).tolist() == expected


def test_every_image_is_as_likely_as_any_other():
    labels = torch.tensor([0] * 8 + [1] * 8)
    hits = torch.zeros(16)
    for seed in range(400):
        hits[stratified_indices(labels, 4, seed)] += 1
    # Binomial(400, 1/4): five standard deviations are 43.
    assert hits.min() > 57
    assert hits.max() < 143


def test_impossible_counts_name_the_numbers():
    labels = torch.tensor([0, 0, 1, 1, 2])
    with pytest.raises(DataError, match="asked for 6 images, and 5 are available"):
        stratified_indices(labels, 6, 0)
    with pytest.raises(DataError, match="at least 3"):
        stratified_indices(labels, 2, 0)
