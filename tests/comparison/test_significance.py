import numpy as np
import pytest
from extras import needs

from robustprune.comparison.difference import holm, mcnemar

their_mcnemar = needs("statsmodels.stats.contingency_tables").mcnemar
multipletests = needs("statsmodels.stats.multitest").multipletests


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 0), (3, 9), (9, 3), (12, 12), (40, 61), (300, 371)])
def test_mcnemar_is_the_exact_one_of_statsmodels(lost, gained):
    expected = their_mcnemar([[5, lost], [gained, 7]], exact=True).pvalue
    assert mcnemar(lost, gained) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_many_is_about_that_of_chi_square():
    expected = their_mcnemar([[5, 400], [480, 7]], exact=False, correction=True).pvalue
    assert mcnemar(400, 480) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_holm_is_that_of_statsmodels(count):
    random = np.random.default_rng(count)
    p_values = np.round(random.random(count) ** 3, 2)  # with ties, zeros and small ones
    np.testing.assert_allclose(holm(p_values), multipletests(p_values, method="holm")[1], rtol=1e-12)


def test_holm_of_nothing():
    assert holm([]) == []
