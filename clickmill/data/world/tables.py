"""The logs as Arrow tables: column names, types, and how simulated numbers become words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickmill.data.world import vocabulary as words
from clickmill.data.world.clicks import ClickEvents
from clickmill.data.world.config import WorldConfig
from clickmill.data.world.journey import Journey, UserView
from clickmill.data.world.population import Floats, Ints, Population
from clickmill.data.world.preference import Requests

_TIME = pa.timestamp("us", tz="UTC")

IMPRESSION_SCHEMA = pa.schema(
    {
        "impression_id": pa.int64(),
        "request_id": pa.int64(),
        "event_time": _TIME,
        "user_id": pa.string(),
        "segment": pa.string(),
        "age_bucket": pa.string(),
        "gender": pa.string(),
        "region": pa.string(),
        "device_os": pa.string(),
        "user_price_affinity": pa.float32(),
        "user_activity": pa.int64(),
        "history_categories": pa.list_(pa.string()),
        "history_ads": pa.list_(pa.string()),
        "ad_id": pa.string(),
        "advertiser_id": pa.string(),
        "campaign_id": pa.string(),
        "category": pa.string(),
        "creative_format": pa.string(),
        "price": pa.float32(),
        "ad_age_days": pa.float32(),
        "bid": pa.float32(),
        "user_advertiser_exposures": pa.float32(),
        "site_id": pa.string(),
        "page_category": pa.string(),
        "connection": pa.string(),
        "position": pa.int64(),
        "slot_chances": pa.list_(pa.float32()),
    }
)
"""Impression log. Prices and bids in currency units, exposures halved daily, histories with the latest click last.
`slot_chances` are those of
the logging policy to put the ad into slot 1, 2, ... of this request, 0 for slots it does not have; null for one that does not know them."""

CLICK_SCHEMA = pa.schema({"impression_id": pa.int64(), "click_time": _TIME})
"""Click log."""

TRUTH_SCHEMA = pa.schema(
    {
        "impression_id": pa.int64(),
        "true_pctr": pa.float64(),
        "relevance": pa.float64(),
        "examination": pa.float64(),
    }
)
"""Evaluation only: P(click), P(click | examined), P(examined); the first is the product of the other two."""


@dataclass(frozen=True)
class Shown:
    """The impressions of a part of an hour; all arrays (n,) except `requests`, `view` (per request)."""

    requests: Requests
    view: UserView
    request: Ints
    """Index into `requests`."""
    ad: Ints
    position: Ints
    slot_chances: Floats | None
    """(n, slots): P(the ad stands in slot 1, 2, ...) before the policy drew its noise; None where it does not know."""
    relevance: Floats
    examination: Floats
    missing: NDArray[np.bool_]
    """(n, 2): gender, connection were not logged."""

    @property
    def user(self) -> Ints:
        return self.requests.user[self.request]


class Typesetter:
    """Turns simulated impressions into log rows; holds the words of one world."""

    def __init__(self, config: WorldConfig, population: Population) -> None:
        self._config, self._population = config, population
        ads, n_campaigns = population.ads, int(population.ads.campaign.max()) + 1
        self._user_id = _names("u", config.n_users)
        self._ad_id = _names("a", config.n_ads)
        self._site_id = pa.array(
            [f"{'app' if app else 'site'}{i:03d}" for i, app in enumerate(population.sites.is_app)]
        )
        self._advertiser_id = _names("adv", config.n_advertisers).take(pa.array(ads.advertiser))
        self._campaign_id = _names("c", n_campaigns).take(pa.array(ads.campaign))
        self._category = pa.array(words.CATEGORIES).take(pa.array(ads.category))
        self._format = pa.array(words.FORMATS).take(pa.array(ads.creative_format))

    def impressions(
        self, shown: Shown, journey: Journey, hour: int, first_id: int, first_request: int
    ) -> pa.Table:
        """Rows of IMPRESSION_SCHEMA; ids run on from `first_id` and `first_request`."""
        requests, users, ads = shown.requests, self._population.users, self._population.ads
        user, n = shown.user, len(shown.ad)
        by_ad = pa.array(shown.ad)
        categories, history_ads = self._histories(shown)
        columns = {
            "impression_id": first_id + np.arange(n),
            "request_id": first_request + shown.request,
            "event_time": pa.array(requests.time_us[shown.request], _TIME),
            "user_id": self._user_id.take(pa.array(user)),
            "segment": _words(words.SEGMENTS, users.segment[user]),
            "age_bucket": _words(words.AGE_BUCKETS, users.age[user]),
            "gender": _words(words.GENDERS, users.gender[user], shown.missing[:, 0]),
            "region": _words(words.REGIONS, users.region[user]),
            "device_os": _words(words.DEVICE_OS, users.os[user]),
            "user_price_affinity": users.price_affinity[user].astype(np.float32),
            "user_activity": journey.activity[user].astype(np.int64),
            "history_categories": categories,
            "history_ads": history_ads,
            "ad_id": self._ad_id.take(by_ad),
            "advertiser_id": self._advertiser_id.take(by_ad),
            "campaign_id": self._campaign_id.take(by_ad),
            "category": self._category.take(by_ad),
            "creative_format": self._format.take(by_ad),
            "price": ads.price[shown.ad].astype(np.float32),
            "ad_age_days": ((hour - ads.starts_h[shown.ad]) / 24).astype(np.float32),
            "bid": ads.bid[shown.ad].astype(np.float32),
            "user_advertiser_exposures": journey.exposures[user, ads.advertiser[shown.ad]],
            "site_id": self._site_id.take(pa.array(requests.site[shown.request])),
            "page_category": _words(words.PAGE_CATEGORIES, requests.page[shown.request]),
            "connection": _words(words.CONNECTIONS, requests.connection[shown.request], shown.missing[:, 1]),
            "position": shown.position,
            "slot_chances": _lists(shown.slot_chances, n),
        }
        return pa.table(columns, schema=IMPRESSION_SCHEMA)

    def _histories(self, shown: Shown) -> tuple[pa.ListArray, pa.ListArray]:
        history = shown.view.ads[shown.request]
        there = history >= 0
        offsets = np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int32)
        clicked = pa.array(history[there])
        return (
            pa.ListArray.from_arrays(offsets, self._category.take(clicked)),
            pa.ListArray.from_arrays(offsets, self._ad_id.take(clicked)),
        )


def truth(shown: Shown, first_id: int) -> pa.Table:
    """Rows of TRUTH_SCHEMA, in the order of the impressions."""
    columns = {
        "impression_id": first_id + np.arange(len(shown.ad)),
        "true_pctr": shown.relevance * shown.examination,
        "relevance": shown.relevance,
        "examination": shown.examination,
    }
    return pa.table(columns, schema=TRUTH_SCHEMA)


def click_log(events: ClickEvents) -> pa.Table:
    """Rows of CLICK_SCHEMA, in the order of `events`."""
    columns = {"impression_id": events.impression_id, "click_time": pa.array(events.time_us, _TIME)}
    return pa.table(columns, schema=CLICK_SCHEMA)


def _names(prefix: str, n: int) -> pa.Array:
    width = max(len(str(n - 1)), 6 if prefix == "u" else 4)
    return pa.array([f"{prefix}{number:0{width}d}" for number in range(n)])


def _lists(chances: Floats | None, rows: int) -> pa.Array:
    if chances is None:
        return pa.nulls(rows, pa.list_(pa.float32()))
    offsets = np.arange(rows + 1, dtype=np.int32) * chances.shape[1]
    return pa.ListArray.from_arrays(offsets, pa.array(chances.ravel().astype(np.float32)))


def _words(names: Sequence[str], level: Ints, missing: NDArray[np.bool_] | None = None) -> pa.Array:
    return pa.array(names).take(pa.array(level, mask=missing))
