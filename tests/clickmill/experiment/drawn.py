"""Experiments whose truth is known: users with click rates of their own who come back on several days."""

from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clickmill.experiment import ExperimentSpec
from clickmill.experiment.log import log
from clickmill.experiment.user_sums import UserSums

START = datetime(2026, 3, 2, tzinfo=UTC)


def spec(**changed):
    given = {
        "name": "drawn",
        "arms": {"a": {}, "b": {}},
        "control": "a",
        "start": START,
        "planned_impressions": 50_000,
        "secondary": ("rpm",),
    }
    return ExperimentSpec.model_validate(given | changed)


def impressions(
    seed,
    users,
    *,
    days=7,
    per_day=1.5,
    ctr=0.1,
    rate_cv=0.5,
    lift=0.0,
    pre_days=0,
    price=1.0,
    devices=("phone", "desk"),
):
    """A table of impressions; half of the users in b, whose rates are higher by `lift`."""
    rng = np.random.default_rng(seed)
    k = 1 / rate_cv**2
    rate = np.minimum(rng.gamma(k, ctr / k, users), 0.9)
    eager = rng.gamma(2.0, per_day / 2.0, users)
    treated = rng.random(users) < 0.5
    all_days = days + pre_days
    count = rng.poisson(eager[:, None], (users, all_days))
    user, day = (np.repeat(index.ravel(), count.ravel()) for index in np.indices(count.shape))
    before = day < pre_days
    p = np.where(treated[user] & ~before, np.minimum(rate[user] * (1 + lift), 1), rate[user])
    clicked = rng.random(len(user)) < p
    at = (day - pre_days) * 86_400 + rng.integers(0, 86_400, len(user))
    start = round(START.timestamp())
    return pa.table(
        {
            "user_id": pa.array([f"u{i}" for i in range(users)]).take(pa.array(user)),
            "arm": pa.array(np.where(treated[user], "b", "a"), mask=before),
            "time": pa.array((start + at) * 1_000_000, pa.timestamp("us", "UTC")),
            "clicked": pa.array(clicked.astype(np.int8)),
            "revenue": pa.array(clicked * price * rng.gamma(4.0, 0.25, len(user))),
            "device": pa.array(np.array(devices)[rng.integers(0, len(devices), users)][user]),
        }
    )


def summed(path, table, chosen, *, look=timedelta(days=1)):
    """UserSums over a table, through a file as in life."""
    pq.write_table(table, path)
    connection = duckdb.connect()
    return UserSums(connection, log(connection, [path], chosen), chosen, look=look)
