# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many database connections a server may open at most, and whether the database has as many to give.

Field guide section 2.7: every worker process has an engine of its own for tracking, for the registry and, with job
execution on, for jobs (read in MLflow 3.17.2: one engine for each store class and address); each opens at most pool and
overflow. The parent process keeps up to 3 connections; the job runner and its consumers bring what is left of a
server's ends to about 20 (measured on 3.17.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

ENGINES = 2
JOB_ENGINES = 1
PARENT_CONNECTIONS = 3
JOB_RUNNER_CONNECTIONS = 17
DEFAULT_SIZE = 5
DEFAULT_OVERFLOW = 10
"""SQLAlchemy's own defaults (SQLAlchemy documentation, ``QueuePool``)."""
UNLIMITED_POOLS = frozenset({"NullPool", "SingletonThreadPool"})
"""Pool classes without size and overflow: each thread that asks gets a connection (SQLAlchemy documentation)."""


@dataclass(frozen=True)
class Pool:
    """Options of one engine's pool; ``limited`` is false when nothing holds it to size and overflow."""

    size: int = DEFAULT_SIZE
    overflow: int = DEFAULT_OVERFLOW
    limited: bool = True

    @property
    def most(self) -> int | None:
        """Connections that one engine opens at most; ``None`` without a limit (size 0 and overflow -1 mean none)."""
        return self.size + self.overflow if self.limited and self.size > 0 and self.overflow >= 0 else None


@dataclass(frozen=True)
class Budget:
    """What may be opened, and what there is.

    Attributes:
        needed: connections that the server may open; ``None`` when nothing limits it.
        available: connections that the database has for it.
    """

    needed: int | None
    available: int

    @property
    def fits(self) -> bool:
        return self.needed is not None and self.needed <= self.available


def read_pool(environment: Mapping[str, str]) -> Pool:
    """Read the pool out of a server's ``MLFLOW_SQLALCHEMYSTORE_*`` variables.

    MLflow passes only what is not zero on (read in 3.17.2, ``store/db/utils.py``): an overflow of 0 is SQLAlchemy's 10.
    What is not a number, at which MLflow would not start, counts as unset.
    """

    def number(name: str, default: int) -> int:
        try:
            return int(environment.get(f"MLFLOW_SQLALCHEMYSTORE_{name}", "")) or default
        except ValueError:
            return default

    kind = environment.get("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "")
    return Pool(
        number("POOL_SIZE", DEFAULT_SIZE), number("MAX_OVERFLOW", DEFAULT_OVERFLOW), kind not in UNLIMITED_POOLS
    )


def connections_needed(replicas: int, workers: int, pool: Pool, *, jobs: bool = True) -> int | None:
    """Return how many connections a server may open at most; ``None`` when nothing limits it.

    Args:
        replicas: pods that run at the same time, those of a rolling update among them.
        workers: worker processes of each pod.
        pool: options of each engine.
        jobs: whether MLflow's job execution is on (its default since 3.9).
    """
    if pool.most is None:
        return None
    engines = ENGINES + (JOB_ENGINES if jobs else 0)
    return replicas * (workers * engines * pool.most + PARENT_CONNECTIONS + (JOB_RUNNER_CONNECTIONS if jobs else 0))


def connection_budget(
    *,
    replicas: int,
    workers: int,
    pool: Pool,
    max_connections: int,
    reserved: int,
    jobs: bool = True,
    others: int = 0,
    limits: Iterable[int | None] = (),
) -> Budget:
    """Hold what a server may open against what its database has to give.

    Args:
        replicas: pods that run at the same time.
        workers: worker processes of each pod.
        pool: options of each engine.
        max_connections: of the database server.
        reserved: connections that are kept for superusers.
        jobs: whether MLflow's job execution is on.
        others: sessions of everybody else, when they are to be left alone.
        limits: connection limits of the role and of the database; negative or ``None`` for none.
    """
    available = max_connections - reserved - others
    for limit in limits:
        if limit is not None and limit >= 0:
            available = min(available, limit)
    return Budget(connections_needed(replicas, workers, pool, jobs=jobs), max(0, available))


def most_replicas(budget: Budget, replicas: int) -> int:
    """Return how many replicas of the same kind the database can bear.

    Args:
        budget: of ``replicas`` pods.
        replicas: the pods that it was made for, at least one.
    """
    if not budget.needed:
        return 0
    return budget.available // (budget.needed // replicas)


def fitting_pool(available: int, replicas: int, workers: int, *, jobs: bool = True) -> Pool | None:
    """Return the largest pool with which so many replicas fit, with an overflow that MLflow passes on.

    Returns:
        no more than SQLAlchemy's own defaults; ``None`` when even two connections for each engine are too many.
    """
    for most in range(DEFAULT_SIZE + DEFAULT_OVERFLOW, 1, -1):
        size = min(DEFAULT_SIZE, most // 2)
        pool = Pool(size, most - size)
        needed = connections_needed(replicas, workers, pool, jobs=jobs)
        if needed is not None and needed <= available:
            return pool
    return None
