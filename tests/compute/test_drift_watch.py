from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from compute.drift_watch import MIN_EVENTS, Watch

N_PANES, PER_PANE = 4, 500


def watched(columns, n_panes=N_PANES, reference_events=400, per_pane=PER_PANE):
    watch = Watch(n_panes, reference_events, len(columns))
    starts = np.arange(0, columns.shape[1], per_pane)
    return watch, watch.observe(columns, starts, np.arange(len(starts)))


def half_missing(n_events, seed=1):
    random = np.random.default_rng(seed)
    return np.where(random.random((1, n_events)) < 0.5, np.nan, random.normal(size=(1, n_events)))


def test_p_values_count_what_was_compared_and_what_events_that_are_alike_tell_less():
    # The reference stands for 2,000 events, of which it counted fewer, in runs of 10 equal ones.
    columns = np.repeat(half_missing(600), 10, axis=1)
    watch, _ = watched(columns)
    found, reference = watch.compare(), watch.reference
    assert (reference.n_events, watch.window.n_held) == (2000, 2000)
    n_sampled = reference.n_sampled
    assert n_sampled <= 1000
    alike = reference.noise[0]
    assert alike > 2 / 2000
    noise = 1 / n_sampled + 1 / 2000 + alike * (1 + 2000 / 2000)
    assert found.p_value[0] == pytest.approx(stats.chi2.sf(found.psi[0] / noise, 10), rel=1e-9)
    share = min(reference.counts.sum() / n_sampled, 1 - found.missing[0])
    assert found.ks_p_value[0] == pytest.approx(
        stats.kstwobign.sf(found.ks[0] / np.sqrt(noise / share)), rel=1e-9
    )


def test_the_window_has_the_moments_of_its_values():
    columns = np.concatenate([half_missing(6000), 1e9 + 1e-3 * half_missing(6000, seed=2)])
    _, compared = watched(columns)
    for pane, found in compared:
        window = columns[:, (pane - N_PANES) * PER_PANE : pane * PER_PANE]
        np.testing.assert_allclose(found.mean, np.nanmean(window, axis=1), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found.stddev, np.nanstd(window, axis=1), rtol=1e-4)
        np.testing.assert_allclose(found.missing, np.isnan(window).mean(axis=1))
    assert [pane for pane, _ in compared] == list(range(2 * N_PANES, 12))


def test_the_reference_lasts_a_window_and_the_window_is_compared_when_it_has():
    for n_panes in (1, 2, 5):
        watch, compared = watched(half_missing(12 * PER_PANE), n_panes)
        assert watch.reference.n_events == n_panes * PER_PANE
        assert [pane for pane, _ in compared] == list(range(2 * n_panes, 12))


def test_a_reference_of_many_events_takes_as_many_whole_panes():
    watch, compared = watched(half_missing(20 * PER_PANE), reference_events=4001)
    assert watch.reference.n_events == 9 * PER_PANE
    assert [pane for pane, _ in compared] == list(range(9 + N_PANES, 20))


def test_a_window_of_few_events_is_not_compared():
    for per_pane, n_compared in ((MIN_EVENTS // N_PANES - 1, 0), (MIN_EVENTS // N_PANES, 5)):
        columns = half_missing(8 * 400 + 3 * per_pane)
        watch = Watch(N_PANES, 400, 1)
        starts = np.r_[np.arange(0, 5 * 400, 400), 5 * 400 + per_pane * np.arange(10)]
        compared = watch.observe(columns[:, : starts[-1]], starts[:-1], np.arange(len(starts) - 1))
        assert len([pane for pane, _ in compared if pane > 8]) == n_compared


def test_many_panes_at_once_are_counted_in_parts():
    columns = np.tile(half_missing(8_400), (64, 1))
    _, compared = watched(columns, n_panes=100, per_pane=4)
    _, one_feature = watched(columns[:1], n_panes=100, per_pane=4)
    assert [pane for pane, _ in compared] == [pane for pane, _ in one_feature]
    for (_, found), (_, alone) in zip(compared, one_feature, strict=True):
        assert (found.psi == alone.psi[0]).all()
