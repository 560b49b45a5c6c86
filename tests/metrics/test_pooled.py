"""The mean over settings: against published figures, an independent library, analysis of variance and draws."""

from __future__ import annotations

import numpy as np
import pytest
from extras import needs
from scipy import stats

from robustprune.metrics.pooled import pool_settings

# Calcium in turnip greens, four determinations of each of four leaves, in percent of dry matter: Snedecor and Cochran,
# "Statistical Methods", on the components of variance.
LEAVES = np.array(
    [[3.28, 3.09, 3.03, 3.03], [3.52, 3.48, 3.38, 3.38], [2.88, 2.80, 2.81, 2.76], [3.34, 3.38, 3.23, 3.26]]
)
# Cases of tuberculosis and the others, vaccinated and not, of 13 trials: Colditz et al. 1994, as metafor has them.
CASES = np.array(
    [
        *[(4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619), (33, 5036, 47, 5761)],
        *[(180, 1361, 372, 1079), (8, 2537, 10, 619), (505, 87886, 499, 87892), (29, 7470, 45, 7232)],
        *[(17, 1699, 65, 1600), (186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825)],
    ]
)


def of_replicates(values):
    """Pool settings with equally many replicates (k, n) each."""
    n = values.shape[1]
    return pool_settings(values.mean(axis=1), values.var(axis=1, ddof=1) / n, np.full(len(values), n - 1.0))


def test_a_worked_example():
    found, between = of_replicates(LEAVES)
    # Mean squares 0.2961 between leaves and 0.0066 within them; components 0.0724 and 0.0066.
    assert 16 * found.standard_error**2 == pytest.approx(0.2961, abs=5e-5)
    assert between.deviation**2 == pytest.approx(0.0724, abs=5e-5)
    assert between.share == pytest.approx(1 - 0.0066 / 0.2961, abs=5e-4)
    assert found.difference == pytest.approx(3.166, abs=5e-4)


def test_equally_many_replicates_are_analysis_of_variance():
    random = np.random.default_rng(0)
    values = random.normal(size=(5, 4))
    values = values / values.std(axis=1, keepdims=True) + random.normal(size=(5, 1))  # of equal variances
    found, between = of_replicates(values)
    assert between.p_value == pytest.approx(stats.f_oneway(*values).pvalue)
    expected = stats.t.interval(0.95, 4, values.mean(), stats.sem(values.mean(axis=1)))
    assert found.interval() == pytest.approx(expected)


def test_the_interval_is_that_of_hartung_and_knapp_at_equal_variances():
    combine = needs("statsmodels.stats.meta_analysis").combine_effects
    effects = np.array([0.4, -0.2, 0.55, 0.1])
    found, _ = pool_settings(effects, np.full(4, 0.05), np.full(4, 1e9))
    theirs = combine(effects, np.full(4, 0.05), method_re="iterated", use_t=True)
    assert found.interval() == pytest.approx(theirs.conf_int()[3])  # random effects, Hartung and Knapp's variance
    assert found.standard_error**2 == pytest.approx(theirs.var_hksj_re)


def test_thirteen_trials():
    treated, safe, infected, control = CASES.T
    effects = np.log(treated / (treated + safe)) - np.log(infected / (infected + control))
    variances = 1 / treated - 1 / (treated + safe) + 1 / infected - 1 / (infected + control)
    _, between = pool_settings(effects, variances, np.full(13, 1e9))
    assert between.deviation**2 == pytest.approx(0.3286, abs=1e-4)  # metafor's rma(yi, vi, method="HE")
    assert between.p_value < 1e-3


def test_settings_that_agree_by_chance_make_nothing_surer():
    equal, _ = pool_settings(np.full(4, 0.3), np.full(4, 0.04), np.full(4, 9.0))
    assert equal.standard_error == pytest.approx(np.sqrt(0.04 / 4))
    apart, _ = pool_settings(np.array([0.0, 0.2, 0.4, 0.6]), np.full(4, 0.04), np.full(4, 9.0))
    assert apart.standard_error == pytest.approx(np.std([0, 0.2, 0.4, 0.6], ddof=1) / 2)


def test_two_settings_say_nothing_of_a_third():
    _, between = pool_settings(np.array([0.1, 0.5]), np.full(2, 0.01), np.full(2, 4.0))
    assert between.prediction is None
    assert between.n_settings == 2


def test_settings_without_any_variance():
    same, between = pool_settings(np.zeros(3), np.zeros(3), np.ones(3))
    assert same.interval() == (0, 0)
    assert (between.deviation, between.share, between.p_value) == (0, 0, pytest.approx(1, abs=1))
    _, between = pool_settings(np.arange(3.0), np.zeros(3), np.ones(3))
    assert (between.deviation, between.share, between.p_value) == (1, 1, 0)


def test_the_prediction_holds_what_is_found_in_a_further_setting():
    random, held = np.random.default_rng(1), 0
    for _ in range(1000):
        values = 0.5 * random.normal(size=(5, 1)) + random.normal(size=(5, 3))
        _, between = of_replicates(values[:4])
        assert between.prediction is not None
        held += between.prediction[0] <= values[4].mean() <= between.prediction[1]
    assert held / 10 >= 95 - 2  # and more where settings agree by chance


def test_the_prediction_is_never_narrower_than_seeds_and_images_leave_it():
    means = np.array([0.46, 1.40, 1.95])
    for variance in (0.01, 0.3, 4.0):
        found, between = pool_settings(means, np.full(3, variance), np.full(3, 2.0))
        assert between.prediction is not None
        # Of two independent normal values, a mean of three and one more.
        half = max(
            stats.t.ppf(0.975, 2) * np.sqrt(means.var(ddof=1) * 4 / 3),
            stats.t.ppf(0.975, 6) * np.sqrt(variance * 4 / 3),
        )
        assert between.prediction == pytest.approx((found.difference - half, found.difference + half))
