"""The model card: says what the numbers say, in both forms, and loads nothing from elsewhere."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest

from clickmill.bundle import ExportFacts, card_tables, card_words
from clickmill.contract import loads
from clickmill.evaluation import Estimate, SliceScore, SliceStatus


class Page(HTMLParser):
    """Text, links and balance of an HTML page."""

    VOID = frozenset({"meta", "img", "br", "link", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.references: list[str] = []
        self.open: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [v for k, v in attrs if k in ("src", "href", "action", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def page(bundle):
    return Page((bundle.path / "card.html").read_text())


@pytest.fixture(scope="module")
def markdown(bundle):
    return (bundle.path / "card.md").read_text()


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(page, bundle):
    assert page.open == [], "every tag is closed"
    assert page.references
    assert all(ref.startswith("data:image/svg+xml;base64,") for ref in page.references)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "url(" not in (bundle.path / "card.html").read_text()


def test_the_pictures_on_the_page_are_the_files_beside_it(page, bundle):
    shown = {base64.b64decode(ref.split(",", 1)[1]) for ref in page.references}
    assert shown == {path.read_bytes() for path in (bundle.path / "plots").iterdir()}
    assert len(shown) == 5


def test_the_markdown_links_only_files_of_the_bundle(markdown, bundle):
    links = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", markdown)
    assert len(links) == 5
    assert all((bundle.path / link).is_file() for link in links)


def test_words_of_the_contract_never_become_markup(page, markdown, bundle):
    assert "<b>Site</b> | page" in page.words
    assert "<b>Site</b>" not in (bundle.path / "card.html").read_text()
    assert "&lt;b>Site&lt;/b> \\| page" in markdown


def test_both_forms_carry_the_numbers_with_targets_and_ceiling(page, markdown, bundle):
    text = " ".join(page.words)
    e = bundle.evaluation
    for estimate in (e.auc, e.normalized_entropy, e.ece_equal_mass, e.calibration_ratio):
        assert f"{estimate.value:.4f}" in text
        assert f"{estimate.low:.4f} to {estimate.high:.4f}" in text
        assert f"{estimate.value:.4f}" in markdown
    for target in ("> 0.78", "< 0.85", "< 0.02"):
        assert target in text
        assert target in markdown
    assert f"{e.ceiling.auc.value:.4f}" in text
    assert "The data are simulated" in text


def test_both_forms_tell_lineage_data_and_limits(page, markdown, bundle):
    lineage = bundle.manifest.lineage
    for text in (" ".join(page.words), markdown):
        assert lineage.data_digest in text
        assert lineage.contract_digest in text
        assert "a" * 64 in text
        assert f"{lineage.splits['test'].rows:,}" in text
        assert "50.0% of the non-clicks were kept" in text
        assert "a click weighed 3 times in the loss" in text
        assert "personal data (user_id)" in text
        assert "clickmill bundle verify" in text
        for field in bundle.contract.inputs:
            assert field in text


@pytest.mark.parametrize(
    ("metric", "value", "met"),
    [
        ("auc", 0.781, True),
        ("auc", 0.78, False),
        ("normalized_entropy", 0.849, True),
        ("ece_equal_mass", 0.021, False),
    ],
)
def test_a_target_is_met_beyond_its_bound_only(bundle, metric, value, met):
    estimate = Estimate(value=value, low=value - 0.0005, high=value + 0.0005)
    row = card_tables.metric_row(metric, bundle.evaluation.model_copy(update={metric: estimate}))
    assert row["met"] is met
    assert ("met" if met else "missed") in row["verdict"]


def test_a_bound_inside_the_interval_is_within_noise(bundle):
    wide = Estimate(value=0.79, low=0.77, high=0.80)
    row = card_tables.metric_row("auc", bundle.evaluation.model_copy(update={"auc": wide}))
    assert row["verdict"] == "target > 0.78 met, within noise"


def scored(value: str, n: int, ratio: tuple[float, float, float] | None, ne: float = 0.9) -> SliceScore:
    known = {}
    if ratio:
        low, middle, high = ratio
        known = {
            "calibration_ratio": Estimate(value=middle, low=low, high=high),
            "normalized_entropy": Estimate(value=ne, low=ne, high=ne),
        }
    status = SliceStatus.KNOWN if ratio else SliceStatus.UNKNOWN
    return SliceScore(column="c", value=value, n=n, clicks=1, share=0.1, status=status, metrics=known)


def test_slices_that_are_off_beyond_chance_lead_and_the_unknown_come_last():
    slices = (
        scored("unknown small", 10, None),
        scored("fine", 900, (0.9, 1.0, 1.1), ne=0.8),
        scored("poor entropy", 900, (0.9, 1.0, 1.1), ne=0.95),
        scored("noisy", 50, (0.5, 2.0, 4.0), ne=0.7),
        scored("under by 5 %", 900, (0.8, 0.9, 0.95)),
        scored("over by 10 %", 900, (1.1, 1.2, 1.3)),
        scored("unknown large", 99, None),
    )
    assert [s.value for s in card_tables.worst_first(slices)] == [
        "over by 10 %",
        "under by 5 %",
        "poor entropy",
        "fine",
        "noisy",
        "unknown large",
        "unknown small",
    ]


def test_fields_are_told_in_words():
    contract = loads("""
name: x
fields:
  ad: {role: ad, dtype: string, required: true, encoding: {kind: vocabulary, min_count: 3}, owner: ads team}
  last: {role: user, dtype: string, encoding: {kind: vocabulary, shares: ad}, description: Last ad clicked}
  seen: {role: user, dtype: int64, range: {min: 0}, encoding: {kind: bucketize, boundaries: [1, 5]}}
  os: {role: context, dtype: string, allowed: [ios, android], default: ios, encoding: {kind: hash, buckets: 1000}}
  pair: {role: cross, encoding: {kind: cross, of: [ad, os], buckets: 5000}}
  label: {role: label, dtype: int64}
""")
    rows = {name: card_tables.field_row(name, field) for name, field in card_tables.shown_fields(contract)}
    assert list(rows) == ["ad", "last", "seen", "os", "pair"]
    assert (rows["ad"]["missing"], rows["ad"]["encoding"], rows["ad"]["meaning"]) == (
        "refused",
        "vocabulary, seen 3x",
        "(ads team)",
    )
    assert rows["last"]["encoding"] == "vocabulary, shares ad"
    assert rows["seen"]["legal"] == "from 0"
    assert rows["os"]["legal"] == "ios, android"
    assert (rows["os"]["missing"], rows["os"]["encoding"]) == ("'ios'", "hash, 1,000 buckets")
    assert (rows["pair"]["dtype"], rows["pair"]["encoding"]) == ("derived", "cross of ad x os, 5,000 buckets")


def test_an_unsampled_run_says_that_no_prior_was_corrected(bundle):
    facts = card_words.CardFacts(
        contract=bundle.contract,
        model=bundle.manifest.model,
        summary="s",
        paper="p",
        export=ExportFacts(
            rows="int8", table_bytes=300, float32_bytes=1000, ne_float32=0.8, relative_ne_loss=0.0021
        ),
        lineage=bundle.manifest.lineage.model_copy(update={"negatives_kept": 1.0, "positive_weight": 1.0}),
        versions={},
        created=bundle.manifest.created,
        evaluation=bundle.evaluation.model_copy(update={"ceiling": None}),
        calibration=bundle.calibration_report,
        parameters=1,
        epochs=1,
        best_epoch=1,
    )
    card = card_words.compose(facts)
    assert card["calibration"][0].endswith("no prior had to be corrected.")
    rows = "embedding rows in int8: 300 B instead of 1000 B; NE +0.2100% by that on the test split, more than 0.1%"
    assert rows in card["what"][0]
    assert card["has_ceiling"] is False
    assert not [line for line in card["limits"] if "simulated" in line]
