"""Behaviour logs in the manner of MovieLens: who took which item when, turned into impressions with a history.

Three layouts, told apart by their first lines unless `source.layout` says which:

    ratings     user::item::rating::timestamp (also tab or comma, with or without a header), timestamps in epoch seconds
    pairs       user item                     one event per line, in time order per user
    sequences   user item item item ...       one user per line, items in time order

All give the columns user_id, item_id, history (items taken before, the latest last), label, event_time, and `rating`
where there is one. `ratings`: one row per event, a click when the rating is at least `source.positive_rating`; the
history holds the well-rated among the events right before. The others know clicks only, so that `source.sampled_negatives`
items the user never took are drawn for each event but the user's first (as for DIN, Zhou et al., KDD 2018).

The layouts without a clock get one that leaves the last events out: day d is the d-th step before each user's end,
counted from the other side, so that a split by time trains on the earlier events of every user.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from clickmill.contract import FeatureContract, ListOf
from clickmill.data.engine import quoted
from clickmill.data.formats.scanned import MALFORMED, ROW, Scanned, csv_scan, line_scan, numbered, relation
from clickmill.errors import UnreadableData

_DRAWS_PER_NEGATIVE = 4
"""Items drawn per wanted negative; those that the user took are passed over. With all four taken, one is missing."""


def scan(con: Any, files: Sequence[Path], contract: FeatureContract, first_row: int = 0) -> Scanned:
    head = _first_lines(files[0])
    layout = contract.source.layout or layout_of(head)
    if layout == "ratings":
        query = _ratings(files, contract, head, first_row)
    else:
        query = _positives(files, contract, layout, first_row)
    return Scanned(relation(con, files, query), text=True)


def layout_of(head: Sequence[str]) -> str:
    """`ratings`, `pairs` or `sequences` by the first lines of a file."""
    if any(mark in head[0] for mark in ("::", "\t", ",")):
        return "ratings"
    return "pairs" if all(len(line.split()) == 2 for line in head) else "sequences"


def _first_lines(file: Path, count: int = 200) -> list[str]:
    opener = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rt", encoding="utf-8") as stream:
            lines = [line.rstrip("\n") for line in islice(stream, count) if line.strip()]
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UnreadableData(f"{file}: cannot be read as text ({error}); copy it again") from error
    if not lines:
        raise UnreadableData(f"{file}: holds no line with an event")
    return lines


def _history_length(contract: FeatureContract) -> int:
    lengths = [f.encoding.max_length for f in contract.fields.values() if isinstance(f.encoding, ListOf)]
    return max(lengths, default=20)


def _ratings(files: Sequence[Path], contract: FeatureContract, head: Sequence[str], first_row: int) -> str:
    delimiter = next(mark for mark in ("::", "\t", ",") if mark in head[0])
    header = not head[0].split(delimiter)[-1].strip().replace(".", "", 1).isdigit()
    names = ("user_id", "item_id", "rating", "timestamp")
    events = csv_scan(files, delimiter=delimiter, header=header, names=names, quote="")
    return f"""
        WITH lines AS ({numbered(events, first_row)}),
        events AS (
            SELECT user_id, item_id, try_cast(rating AS DOUBLE) AS rating, try_cast(timestamp AS DOUBLE) AS seconds,
                CASE WHEN user_id IS NULL OR item_id IS NULL OR seconds IS NULL OR try_cast(rating AS DOUBLE) IS NULL
                     THEN concat_ws({quoted(delimiter)}, user_id, item_id, rating, timestamp) END AS {MALFORMED},
                {ROW}
            FROM lines)
        SELECT user_id, item_id, rating,
            coalesce(list(item_id) FILTER (WHERE rating >= {contract.source.positive_rating}) OVER (
                PARTITION BY user_id ORDER BY seconds, {ROW}
                ROWS BETWEEN {_history_length(contract)} PRECEDING AND 1 PRECEDING), []) AS history,
            (rating >= {contract.source.positive_rating})::BIGINT AS label,
            to_timestamp(seconds) AS event_time, {MALFORMED}, {ROW}
        FROM events"""


def _positives(files: Sequence[Path], contract: FeatureContract, layout: str, first_row: int) -> str:
    negatives = contract.source.sampled_negatives
    return f"""
        WITH lines AS (
            SELECT string_split_regex(trim(line), '\\s+') AS parts, row_number() OVER () AS line_number
            FROM {line_scan(files)}),
        taken AS ({_taken_pairs() if layout == "pairs" else _taken_sequences()}),
        events AS (
            SELECT *, count(*) OVER (PARTITION BY user_id) AS length,
                row_number() OVER (ORDER BY line_number, step) - 1 AS event,
                list(item_id) OVER (PARTITION BY user_id ORDER BY step
                    ROWS BETWEEN {_history_length(contract)} PRECEDING AND 1 PRECEDING) AS history
            FROM taken),
        positives AS (
            SELECT user_id, item_id, history, event,
                (SELECT max(length) FROM events) - (length - step) AS day
            FROM events WHERE step > 1 AND item_id IS NOT NULL),
        items AS (
            SELECT item_id, row_number() OVER (ORDER BY item_id) - 1 AS number
            FROM (SELECT DISTINCT item_id FROM taken WHERE item_id IS NOT NULL)),
        draws AS (
            SELECT user_id, history, event, day, draw, md5_number_lower(concat_ws(':', user_id, event, draw))
                % (SELECT count(*) FROM items)::UBIGINT AS number
            FROM positives, range({negatives * _DRAWS_PER_NEGATIVE}) AS d(draw)),
        negatives AS (
            SELECT user_id, items.item_id, history, event, day,
                row_number() OVER (PARTITION BY event ORDER BY draw) AS nth
            FROM draws JOIN items USING (number)
            ANTI JOIN taken ON taken.user_id = draws.user_id AND taken.item_id = items.item_id
            QUALIFY nth <= {negatives}),
        impressions AS (
            SELECT user_id, item_id, history, 1 AS label, event, day, 0 AS nth FROM positives
            UNION ALL SELECT user_id, item_id, history, 0 AS label, event, day, nth FROM negatives)
        SELECT user_id, item_id, history, label::BIGINT AS label, to_timestamp(day * 86400) AS event_time,
            event * {negatives + 1} + nth + {first_row} AS {ROW}
        FROM impressions"""


def _taken_pairs() -> str:
    return """
        SELECT parts[1] AS user_id, parts[2] AS item_id, line_number,
            row_number() OVER (PARTITION BY parts[1] ORDER BY line_number) AS step FROM lines"""


def _taken_sequences() -> str:
    return """
        SELECT parts[1] AS user_id, unnest(parts[2:]) AS item_id, line_number,
            generate_subscripts(parts[2:], 1) AS step FROM lines"""
