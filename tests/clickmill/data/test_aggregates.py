"""What was known of an id before an instant, against a few lines of plain Python over all events."""

from datetime import UTC, datetime, timedelta

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clickmill.contract import loads
from clickmill.data import PrepareOptions, check_logs, connect, prepare, prepare_checked
from clickmill.data.aggregates import CLICKED_AT, aggregates_at, aggregates_of, events_of, with_aggregates
from clickmill.data.online import value_column

START = datetime(2026, 1, 5, tzinfo=UTC)
TIME = pa.timestamp("us", "UTC")
CON = connect(threads=1)
ATTRIBUTION = timedelta(seconds=9)
CONTRACT = loads(
    """
name: t
fields:
  key: {role: impression_id, dtype: int64}
  event_time: {role: event_time, dtype: timestamp}
  label: {role: label, dtype: int64}
  user_id: {role: user, dtype: string, encoding: {kind: vocabulary}}
  ad_id: {role: ad, dtype: int64, encoding: {kind: vocabulary}}
  price: {role: ad, dtype: float32, encoding: {kind: log1p}, lookup_by: ad_id}
  ad_ctr_5s: {role: ad, dtype: float32, encoding: {kind: log1p}, default: 0.1,
              aggregate: {of: ctr, by: ad_id, window: 5s, smoothing: 2}}
  ad_clicks_5s: {role: ad, dtype: int64, encoding: {kind: log1p}, aggregate: {of: clicks, by: ad_id, window: 5s}}
  ad_shown_9s: {role: ad, dtype: int64, encoding: {kind: log1p}, aggregate: {of: impressions, by: ad_id, window: 9s}}
  user_ctr_9s: {role: user, dtype: float32, encoding: {kind: log1p}, default: 0.25,
                aggregate: {of: ctr, by: user_id, window: 9s}}
"""
)
AGGREGATES = {name: f for fields in aggregates_of(CONTRACT).values() for name, f in fields.items()}


def reference(events, field, ident, t):
    """The definition of `Aggregate`, word by word; `events`: (shown, clicked or None, {id field: value}) in seconds."""
    spec = field.aggregate
    own = [
        (shown, clicked)
        for shown, clicked, ids in events
        if ids[spec.by] == ident and t - spec.window.total_seconds() <= shown < t
    ]
    n, c = len(own), sum(clicked is not None and clicked < t for _, clicked in own)
    if spec.of == "impressions":
        return n
    if spec.of == "clicks":
        return c
    s = spec.smoothing or 20
    return np.float32((c + s * field.default) / (n + s))


def table_of(events):
    def at(values):
        return pa.array([None if v is None else START + timedelta(seconds=v) for v in values], TIME)

    table = pa.table(
        {
            "__row__": pa.array(range(len(events)), pa.int64()),
            "event_time": at([shown for shown, _, _ in events]),
            "label": pa.array([int(clicked is not None) for _, clicked, _ in events], pa.int64()),
            CLICKED_AT: at([clicked for _, clicked, _ in events]),
            "user_id": pa.array([ids["user_id"] for *_, ids in events], pa.string()),
            "ad_id": pa.array([ids["ad_id"] for *_, ids in events], pa.int64()),
        }
    )
    return CON.create_table(ibis.util.gen_name("shown"), ibis.memtable(table), temp=True)


# Few instants, few ids and half seconds: ties in time, windows that end on an event, clicks at and after later impressions.
instants = st.integers(0, 24).map(lambda half: half / 2)
event = st.builds(
    lambda shown, delay, user, ad: (
        shown,
        None if delay is None else shown + delay / 2,
        {"user_id": user, "ad_id": ad},
    ),
    instants,
    st.none() | st.integers(0, 30),
    st.none() | st.sampled_from("ab"),
    st.none() | st.sampled_from([1, 2]),
)


@st.composite
def several_pasts(draw):
    """Many small logs of ids of their own in one table: building the query takes longer than answering it."""
    events = []
    for world in range(draw(st.integers(1, 12))):
        for shown, clicked, ids in draw(st.lists(event, min_size=1, max_size=14)):
            user, ad = ids["user_id"], ids["ad_id"]
            own = {"user_id": user and f"{user}{world}", "ad_id": ad and 10 * world + ad}
            events.append((shown, clicked, own))
    return events


@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(several_pasts())
def test_an_impression_knows_what_happened_strictly_before_it_and_nothing_else(events):
    impressions = table_of(events)
    found = with_aggregates(impressions, events_of(impressions, CONTRACT, ATTRIBUTION), CONTRACT)
    rows = found.order_by("__row__").to_pyarrow().to_pylist()
    assert len(rows) == len(events)
    for row, (t, _, ids) in zip(rows, events, strict=True):
        for name, field in AGGREGATES.items():
            ident = ids[field.aggregate.by]
            expected = None if ident is None else reference(events, field, ident, t)
            assert row[name] == expected, (name, t, [e for e in events if e[2] == ids])


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(several_pasts(), instants)
def test_an_id_has_at_an_instant_what_an_impression_at_that_instant_would_have(events, t):
    """The online store's values and the training rows' are one function of time, also in between impressions."""
    log = events_of(table_of(events), CONTRACT, ATTRIBUTION)
    for by, fields in aggregates_of(CONTRACT).items():
        table = aggregates_at(log, by, fields, START + timedelta(seconds=t)).to_pyarrow()
        found = {row["id"]: row for row in table.to_pylist()}
        for ident in {ids[by] for *_, ids in events} - {None}:
            for name, field in fields.items():
                expected = reference(events, field, ident, t)
                nothing = np.float32(field.fill) if field.aggregate.of == "ctr" else 0
                assert found[ident][name] == expected if ident in found else expected == nothing


def test_a_click_counts_from_the_instant_after_it_came():
    events = [
        (0.0, 3.0, {"user_id": "a", "ad_id": 7}),
        *((t, None, {"user_id": "a", "ad_id": 7}) for t in (2.0, 3.0, 3.5, 5.0, 5.5)),
    ]
    impressions = table_of(events)
    found = (
        with_aggregates(impressions, events_of(impressions, CONTRACT, ATTRIBUTION), CONTRACT)
        .order_by("event_time")
        .to_pandas()
    )
    # at 5.5 the clicked impression has left the window of 5 s, and its click with it
    assert found["ad_clicks_5s"].tolist() == [0, 0, 0, 1, 1, 0]
    assert found["ad_ctr_5s"].tolist() == pytest.approx([0.1, 0.2 / 3, 0.2 / 4, 1.2 / 5, 1.2 / 6, 0.2 / 6])


def test_a_click_without_a_time_is_known_when_its_window_has_closed():
    events = [(t, None, {"user_id": "a", "ad_id": 7}) for t in (0.0, 2.0, 3.0, 3.5)]
    impressions = table_of(events).mutate(label=ibis.ifelse(ibis._["__row__"] == 0, 1, 0).cast("int64"))
    log = events_of(impressions.drop(CLICKED_AT), CONTRACT, timedelta(seconds=3))
    found = with_aggregates(impressions, log, CONTRACT).order_by("event_time").to_pandas()
    assert found["ad_clicks_5s"].tolist() == [0, 0, 0, 1]


# --- through prepare ---


def logs(folder, n=600, seed=0):
    rng = np.random.default_rng(seed)
    impressions = pd.DataFrame(
        {
            "key": np.arange(n),
            "event_time": [START + timedelta(seconds=int(s)) for s in np.sort(rng.integers(0, n // 2, n))],
            "user_id": [f"u{k}" for k in rng.integers(0, 9, n)],
            "ad_id": rng.integers(0, 5, n),
            "price": rng.random(n).astype("float32"),
        }
    )
    clicked = impressions[rng.random(n) < 0.3]
    delay = pd.to_timedelta(rng.integers(0, 12, len(clicked)), unit="s")
    clicks = pd.DataFrame({"key": clicked["key"], "click_time": clicked["event_time"] + delay})
    for name, frame in {"impressions": impressions, "clicks": clicks}.items():
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), folder / f"{name}.parquet")
    return impressions.merge(clicks, how="left", on="key")


def prepared(folder, **options):
    chosen = PrepareOptions(**{"window": ATTRIBUTION, "latest": datetime(2027, 1, 1, tzinfo=UTC)} | options)
    return prepare(
        folder / "impressions.parquet",
        CONTRACT,
        folder / "out",
        clicks=folder / "clicks.parquet",
        options=chosen,
    )


def seconds(times):
    return ((times - START) / timedelta(seconds=1)).tolist()


def past_of(frame):
    """Events of the joined log: a click later than the attribution window is none."""
    shown = seconds(frame["event_time"])
    clicked = [
        c if c == c and c - t <= ATTRIBUTION.total_seconds() else None
        for t, c in zip(shown, seconds(frame["click_time"]), strict=True)
    ]
    ids = frame[["user_id", "ad_id"]].to_dict("records")
    return list(zip(shown, clicked, ids, strict=True))


def test_prepare_gives_every_split_the_past_of_the_whole_log_also_what_sampling_drops(tmp_path):
    events = past_of(logs(tmp_path))
    dataset = prepared(tmp_path, negatives_kept=0.3)
    assert dataset.meta.splits["train"].rows < 300
    for split in dataset.splits:
        table = dataset.columns(split, list(AGGREGATES))
        assert [field.type for field in table.schema] == [pa.float32(), pa.int64(), pa.int64(), pa.float32()]
        rows = pa.concat_tables(dataset.scan(split)).to_pylist()
        for row in rows[:: len(rows) // 20]:
            t = (row["event_time"] - START).total_seconds()
            for name, field in AGGREGATES.items():
                assert row[name] == reference(events, field, row[field.aggregate.by], t)


def test_the_two_halves_of_prepare_give_the_same_past_as_the_whole(tmp_path):
    logs(tmp_path)
    whole = prepared(tmp_path)
    options = PrepareOptions(window=ATTRIBUTION, latest=datetime(2027, 1, 1, tzinfo=UTC))
    checked = check_logs(
        tmp_path / "impressions.parquet",
        CONTRACT,
        tmp_path / "checked",
        quarantine=tmp_path / "bad",
        clicks=tmp_path / "clicks.parquet",
        options=options,
    )
    halves = prepare_checked(checked, tmp_path / "halves", options=options)
    for split in whole.splits:
        assert whole.columns(split, list(AGGREGATES)).equals(halves.columns(split, list(AGGREGATES)))


def test_the_dataset_holds_each_ids_values_right_after_the_last_impression(tmp_path):
    frame = logs(tmp_path)
    events = past_of(frame)
    online = prepared(tmp_path).online
    end = frame["event_time"].max().to_pydatetime() + timedelta(microseconds=1)
    assert online.meta.as_of == end
    t = (end - START).total_seconds()
    for by, fields in aggregates_of(CONTRACT).items():
        table = pa.concat_tables(online.batches(by))
        types = {pa.float32() if f.dtype == "float32" else pa.int64() for f in fields.values()}
        assert {table.schema.field(value_column(name)).type for name in fields} == types
        rows = table.to_pylist()
        assert len(rows) == online.meta.entities[by].ids
        assert [r["id"] for r in rows] == sorted(r["id"] for r in rows)
        found = {r["id"]: r for r in rows}
        for ident in frame[by].unique():
            for name, field in fields.items():
                expected = reference(events, field, ident, t)
                row = found.get(str(ident))
                value = None if row is None else row[value_column(name)]
                nothing = np.float32(field.fill) if field.aggregate.of == "ctr" else 0
                assert value == expected if value is not None else expected == nothing


def test_what_the_waiting_window_leaves_out_of_the_splits_is_no_less_the_past(tmp_path):
    frame = logs(tmp_path)
    dataset = prepared(tmp_path, wait=timedelta(seconds=60), window=timedelta(seconds=60))
    assert sum(split.rows for split in dataset.meta.splits.values()) < len(frame)
    assert dataset.online.meta.as_of > frame["event_time"].max()


def test_a_looked_up_field_has_its_last_logged_value_with_its_time(tmp_path):
    frame = logs(tmp_path)
    frame.loc[frame.index[-40:], "price"] = np.nan
    held = frame.drop(columns="click_time")
    table = pa.Table.from_pandas(held, preserve_index=False)
    pq.write_table(table, tmp_path / "impressions.parquet")
    rows = pa.concat_tables(prepared(tmp_path).online.batches("ad_id")).to_pylist()
    known = frame[frame["price"].notna()]
    assert len(rows) == 5
    for row in rows:
        last = known[known["ad_id"] == int(row["id"])].iloc[-1]  # in order of time, ties in order of the file
        assert row["value:price"] == last["price"]
        assert row["time:price"] == last["event_time"]


def test_the_same_logs_give_the_same_bytes(tmp_path):
    logs(tmp_path)
    first = {p.name: p.read_bytes() for p in prepared(tmp_path).online.root.iterdir()}
    assert {p.name: p.read_bytes() for p in prepared(tmp_path).online.root.iterdir()} == first
