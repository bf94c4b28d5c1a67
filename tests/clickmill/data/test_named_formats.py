"""Each published layout against rows worked out by hand or by a few lines of plain Python."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clickmill.contract import Format, load, loads
from clickmill.data import check, read
from clickmill.data.formats import READERS
from clickmill.errors import ContractError, UnreadableData

CONTRACTS = Path(__file__).parents[3] / "contracts"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rows_of(table):
    return table.order_by("__row__").to_pyarrow().to_pylist()


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_every_format_has_a_reader():
    assert set(READERS) == set(Format)


def test_criteo_lines_become_counts_and_categories_with_a_made_up_clock(tmp_path):
    counts = ["1", "", "-2", *["7"] * 10]
    categories = [f"{k:08x}" for k in range(25)] + [""]
    path = write(
        tmp_path / "train.txt", "\t".join(["0", *counts, *categories]), "\t".join(["1", *counts, *categories])
    )
    first, second = rows_of(read(path, load(CONTRACTS / "criteo.yaml")))
    assert (first["label"], first["i01"], first["i02"], first["i03"]) == (0, 1, None, -2)
    assert (first["c01"], first["c25"], first["c26"]) == ("00000000", "00000018", None)
    assert (first["event_time"], second["event_time"]) == (EPOCH, EPOCH + timedelta(seconds=1))


def test_avazu_hours_are_read_as_utc(tmp_path):
    header = (
        "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,app_category,device_id,"
        "device_ip,device_model,device_type,device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21"
    )
    line = "10000169349117863715,1,14102123,1005,0,1fbe,f3845,28905,ecad,7801,07d7,a99f,96809,711ee,1,0,15704,320,50,1722,0,35,100084,79"
    row = rows_of(read(write(tmp_path / "train.csv", header, line), load(CONTRACTS / "avazu.yaml")))[0]
    assert row["event_time"] == datetime(2014, 10, 21, 23, tzinfo=UTC)
    assert (row["impression_id"], row["label"], row["c14"], row["banner_pos"]) == (
        "10000169349117863715",
        1,
        "15704",
        "0",
    )


OBD_HEADER = (
    ",timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1,user_feature_2,user_feature_3,"
    "user-item_affinity_0,user-item_affinity_1,user-item_affinity_2"
)


def obd_line(number, item, click=0):
    return f"{number},2019-11-24 00:01:0{number}.5+00:00,{item},1,{click},0.25,u0,u1,u2,u3,0.0,1.0,2.0"


def test_open_bandit_takes_the_affinity_of_the_item_that_was_shown(tmp_path):
    path = write(tmp_path / "men.csv", OBD_HEADER, obd_line(0, 2), obd_line(1, 0, click=1))
    first, second = rows_of(read(path, load(CONTRACTS / "open_bandit.yaml")))
    assert (first["item_id"], first["affinity"]) == ("2", 2.0)
    assert (second["item_id"], second["affinity"], second["label"]) == ("0", 0.0, 1)
    assert first["event_time"] == datetime(2019, 11, 24, 0, 1, 0, 500_000, tzinfo=UTC)
    assert first["propensity"] == 0.25


def test_open_bandit_items_are_joined_from_the_context_of_their_own_log(tmp_path):
    contract = loads(
        (CONTRACTS / "open_bandit.yaml").read_text()
        + "  item_feature_1: {role: ad, dtype: string, encoding: {kind: vocabulary}}\n"
    )
    for policy in ("random", "bts"):
        write(tmp_path / f"{policy}__men.csv", OBD_HEADER, obd_line(0, 1), obd_line(1, 9))
        write(
            tmp_path / f"{policy}__item_context.csv",
            ",item_id,item_feature_0,item_feature_1",
            f"0,1,-0.5,{policy}",
        )
    table = read([tmp_path / "random__men.csv", tmp_path / "bts__men.csv"], contract)
    found = [(row["__row__"], row["item_id"], row["item_feature_1"]) for row in rows_of(table)]
    assert found == [(0, "1", "random"), (1, "9", None), (2, "1", "bts"), (3, "9", None)]


LIBSVM = """
name: t
source: {format: libsvm, slots: 3}
fields:
  label: {role: label, dtype: int64}
  hour: {role: context, dtype: int64, column: f01, encoding: {kind: vocabulary}}
  f02: {role: context, dtype: int64, encoding: {kind: vocabulary}}
  f03: {role: context, dtype: string, encoding: {kind: vocabulary}}
"""


def test_libsvm_ids_go_into_slots_and_both_spellings_of_labels_are_read(tmp_path):
    path = write(
        tmp_path / "a.txt",
        "-1 4:1 70:1 800:1",
        "+1 5:1 71:1  801:1.0 ",
        "",
        "1 6:1 72:1 802:1",
        "0 6:1 72:1 802:1",
    )
    rows = rows_of(read(path, loads(LIBSVM)))
    assert [row["label"] for row in rows] == [0, 1, 1, 0]
    assert [(row["hour"], row["f02"], row["f03"]) for row in rows[:2]] == [(4, 70, "800"), (5, 71, "801")]
    assert all(row["__malformed__"] is None for row in rows)


@pytest.mark.parametrize(
    "line", ["1 4:1 70:1", "1 4:1 70:1 800:1 900:1", "1 4:1 70:1 800:0.5", "1 4 70 800", "nonsense"]
)
def test_a_libsvm_line_of_another_shape_goes_to_quarantine(tmp_path, line):
    path = write(tmp_path / "a.txt", "1 4:1 70:1 800:1", line)
    contract = loads(LIBSVM)
    report = check(
        read(path, contract),
        contract,
        quarantine=tmp_path / "bad.parquet",
        out=tmp_path / "good.parquet",
        max_quarantine_share=1,
    )
    assert report.quarantined == 1
    breach = report.breaches[0]
    assert (breach.field, breach.rule, breach.first_row, breach.first_value) == (
        "(line)",
        "a line of format libsvm",
        1,
        line,
    )


def test_libsvm_without_slots_asks_for_them(tmp_path):
    contract = loads(LIBSVM.replace(", slots: 3", ""))
    with pytest.raises(ContractError, match=r"source\.slots: is required for format libsvm"):
        read(write(tmp_path / "a.txt", "1 4:1 70:1 800:1"), contract)


def test_libffm_items_go_to_the_field_of_their_number(tmp_path):
    contract = loads(
        """
name: t
source: {format: libffm}
fields:
  label: {role: label, dtype: int64}
  f0: {role: context, dtype: int64, encoding: {kind: vocabulary}}
  f1: {role: context, dtype: float32, encoding: {kind: standardize}}
  f11: {role: context, dtype: string, encoding: {kind: vocabulary}}
  tags: {role: sequence, dtype: int64_list, column: tags_12, encoding: {kind: list, items: {kind: hash, buckets: 9}}}
"""
    )
    path = write(tmp_path / "a.ffm", "-1 0:5:1 1:6:0.25 11:77:1 12:8:1 12:9:1", "1 11:78:1", "1 0:1")
    first, second, third = rows_of(read(path, contract))
    assert (first["label"], first["f0"], first["f1"], first["f11"], first["tags"]) == (
        0,
        5,
        0.25,
        "77",
        [8, 9],
    )
    assert (second["label"], second["f0"], second["f1"], second["f11"], second["tags"]) == (
        1,
        None,
        None,
        "78",
        [],
    )
    assert first["__malformed__"] is None
    assert third["__malformed__"] == "1 0:1"


MOVIELENS = load(CONTRACTS / "movielens.yaml")
RATINGS = [
    ("u1", "i1", 5, 100),
    ("u2", "i1", 1, 50),
    ("u1", "i2", 2, 300),
    ("u1", "i3", 4, 200),
    ("u1", "i4", 3, 400),
]


@pytest.mark.parametrize(
    ("separator", "header"), [("::", None), ("\t", None), (",", "userId,movieId,rating,timestamp")]
)
def test_ratings_become_impressions_with_the_well_rated_items_before(tmp_path, separator, header):
    lines = [separator.join(map(str, event)) for event in RATINGS]
    path = write(tmp_path / "ratings.dat", *([header] if header else []), *lines)
    rows = rows_of(read(path, MOVIELENS))
    seen = {(row["user_id"], row["item_id"]): (row["label"], row["history"]) for row in rows}
    assert seen == {
        ("u1", "i1"): (1, []),
        ("u2", "i1"): (0, []),
        ("u1", "i3"): (1, ["i1"]),
        ("u1", "i2"): (0, ["i1", "i3"]),
        ("u1", "i4"): (0, ["i1", "i3"]),
    }
    assert rows[0]["event_time"] == EPOCH + timedelta(seconds=100)


def test_a_rating_that_is_no_number_is_a_malformed_line(tmp_path):
    path = write(tmp_path / "ratings.dat", "u1::i1::5::100", "u1::i2::great::200")
    rows = rows_of(read(path, MOVIELENS))
    assert [row["__malformed__"] for row in rows] == [None, "u1::i2::great::200"]


SEQUENCES = {"u1": ["a", "b", "c", "d"], "u2": ["b", "e"], "u3": ["f"]}


def sequence_file(path, layout):
    if layout == "sequences":
        return write(path, *(" ".join([user, *items]) for user, items in SEQUENCES.items()))
    return write(path, *(f"{user} {item}" for user, items in SEQUENCES.items() for item in items))


@pytest.mark.parametrize("layout", ["sequences", "pairs"])
def test_sequences_become_clicks_with_histories_and_drawn_non_clicks(tmp_path, layout):
    rows = rows_of(read(sequence_file(tmp_path / "log.txt", layout), MOVIELENS))
    clicks = {(r["user_id"], r["item_id"]): (r["history"], r["event_time"]) for r in rows if r["label"] == 1}
    # The longest history has four steps: its end is day 4, and so is everybody's.
    expected = {
        (user, item): (items[:step], EPOCH + timedelta(days=4 - (len(items) - 1 - step)))
        for user, items in SEQUENCES.items()
        for step, item in enumerate(items)
        if step > 0
    }
    assert clicks == expected
    drawn = [row for row in rows if row["label"] == 0]
    assert 0 < len(drawn) <= len(clicks)
    for row in drawn:
        assert row["item_id"] not in SEQUENCES[row["user_id"]]
        assert (row["history"], row["event_time"]) in [
            (history, at) for (user, _), (history, at) in clicks.items() if user == row["user_id"]
        ]
    assert len({row["__row__"] for row in rows}) == len(rows)


def test_the_same_non_clicks_are_drawn_every_time(tmp_path):
    path = sequence_file(tmp_path / "log.txt", "pairs")
    assert rows_of(read(path, MOVIELENS)) == rows_of(read(path, MOVIELENS))


def test_more_non_clicks_per_event_can_be_asked_for(tmp_path):
    lines = [f"u{k} " + " ".join(f"i{(7 * k + j) % 200}" for j in range(5)) for k in range(100)]
    path = write(tmp_path / "log.txt", *lines)
    source = MOVIELENS.source.model_copy(update={"sampled_negatives": 3})
    rows = rows_of(read(path, MOVIELENS.model_copy(update={"source": source})))
    clicks = sum(row["label"] for row in rows)
    assert clicks == 100 * 4
    # 195 of 200 items are not the user's: all four draws per wanted item fail about never.
    assert len(rows) - clicks == 3 * clicks


def test_histories_are_cut_to_the_length_of_the_contract(tmp_path):
    path = write(tmp_path / "log.txt", " ".join(["u", *map(str, range(30))]), "v 1 2 3")
    rows = [row for row in rows_of(read(path, MOVIELENS)) if row["label"] == 1 and row["user_id"] == "u"]
    assert rows[-1]["history"] == [str(k) for k in range(9, 29)]


def test_a_binary_file_called_movielens_is_unreadable(tmp_path):
    (tmp_path / "log.txt").write_bytes(b"\xff\xfe\x00\x9f\n")
    with pytest.raises(UnreadableData, match="cannot be read as text"):
        read(tmp_path / "log.txt", MOVIELENS)
