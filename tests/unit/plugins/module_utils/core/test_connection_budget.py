# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow_runbook.plugins.module_utils.core.connection_budget import (
    Pool,
    connection_budget,
    connections_needed,
    fitting_pool,
    most_replicas,
    read_pool,
)

POOL = "MLFLOW_SQLALCHEMYSTORE_"


def test_defaults_are_the_figures_of_the_field_guide() -> None:
    assert connections_needed(1, 4, Pool()) == 4 * 45 + 20
    assert connections_needed(3, 4, Pool()) == 3 * (4 * 45 + 20)


def test_without_jobs_there_is_one_engine_less_and_no_job_runner() -> None:
    assert connections_needed(1, 1, Pool(), jobs=False) == 2 * 15 + 3


@pytest.mark.parametrize("pool", [Pool(0, 10), Pool(5, -1), Pool(limited=False)])
def test_a_pool_without_a_limit_never_fits(pool: Pool) -> None:
    budget = connection_budget(replicas=1, workers=1, pool=pool, max_connections=10_000, reserved=3)
    assert budget.needed is None
    assert not budget.fits


def test_what_is_reserved_taken_or_limited_is_not_available() -> None:
    common: dict[str, Any] = {"replicas": 1, "workers": 1, "pool": Pool(), "max_connections": 100, "reserved": 3}
    assert connection_budget(**common).available == 97
    assert connection_budget(**common, others=20).available == 77
    assert connection_budget(**common, limits=(-1, None, 50)).available == 50
    assert connection_budget(**{**common, "reserved": 200}).available == 0


def test_fits_up_to_the_last_connection() -> None:
    common: dict[str, Any] = {"replicas": 1, "workers": 1, "pool": Pool(), "reserved": 3, "jobs": False}
    assert connection_budget(**common, max_connections=36).fits
    assert not connection_budget(**common, max_connections=35).fits


def test_most_replicas() -> None:
    budget = connection_budget(replicas=2, workers=1, pool=Pool(), max_connections=103, reserved=3, jobs=False)
    assert budget.needed == 66
    assert most_replicas(budget, 2) == 3


def test_read_pool() -> None:
    assert read_pool({}) == Pool(5, 10)
    assert read_pool({f"{POOL}POOL_SIZE": "2", f"{POOL}MAX_OVERFLOW": "3"}) == Pool(2, 3)
    assert read_pool({f"{POOL}POOL_SIZE": "many"}) == Pool(5, 10)
    assert read_pool({f"{POOL}POOL_SIZE": "4", f"{POOL}MAX_OVERFLOW": "0"}) == Pool(4, 10)
    assert read_pool({f"{POOL}MAX_OVERFLOW": "-1"}).most is None
    assert read_pool({f"{POOL}POOLCLASS": "NullPool"}).most is None


@pytest.mark.parametrize(("available", "replicas", "workers"), [(57, 1, 1), (57, 2, 1), (57, 3, 1), (300, 3, 4)])
def test_fitting_pool_is_the_largest_that_fits(available: int, replicas: int, workers: int) -> None:
    pool = fitting_pool(available, replicas, workers, jobs=False)
    assert pool is not None
    assert pool.size >= 1
    assert pool.overflow >= 1
    assert (connections_needed(replicas, workers, pool, jobs=False) or 0) <= available
    larger = Pool(pool.size, pool.overflow + 1)
    assert pool.most == 15 or (connections_needed(replicas, workers, larger, jobs=False) or 0) > available


def test_no_pool_fits_a_database_that_is_too_small() -> None:
    assert fitting_pool(10, 2, 4) is None
