"""The page of a window: what people read of a made-up one."""

import re
from html import unescape

from monitoring.drift import Drift, DriftSettings, FieldDrift, Measure, Quality, WindowDrift
from monitoring.drift.page import page
from monitoring.drift.verdict import Bar
from tests.monitoring.drift.market import NOON

PRICE = FieldDrift(
    field="price", kind="number", drift=Drift.DRIFTED, quality=Quality.SOUND, reasons=("wasserstein 0.25 >= 0.1",), values=900,
    measures={Measure.WASSERSTEIN: 0.25, Measure.PSI: 0.1, Measure.KS_PVALUE: 1e-80, Measure.MISSING: 0.025},
    bars=(Bar(label="<b>1", reference=0.5, window=0.25),),
)  # fmt: skip
DEVICE = FieldDrift(
    field="device", kind="category", drift=Drift.SAME, quality=Quality.BROKEN,
    reasons=("40.0% missing, 0.0% in the reference",), measures={Measure.JENSEN_SHANNON: 0.02},
)  # fmt: skip
FOUND = WindowDrift(
    bundle="a" * 64, model="shop", start=None, end=NOON, rows=900, not_shown=50, requests=300, reference_rows=4_000,
    drift=Drift.DRIFTED, quality=Quality.BROKEN, reasons=("1 of 2 fields moved: price",), fields=(PRICE, DEVICE),
)  # fmt: skip


def text(html):
    body = html[html.index("<body>") :]
    return unescape(" ".join(re.sub(r"<[^>]*>", " ", body).split()))


def test_verdicts_come_first_then_what_is_broken_then_what_moved():
    told = text(page(FOUND, DriftSettings(), sampled=0))
    assert told.index("shop: live rows have drifted") < told.index("1 of 2 fields moved: price")
    assert re.search(r"40.0% missing.*wasserstein 0.25 >= 0.1", told)
    assert "900 rows in 300 requests up to 2026-11-24 12:00 UTC, held against 4,000 rows" in told
    assert "but for 50 without an impression id" in told
    assert "Evidently" not in told


def test_figures_are_of_one_form_and_those_over_their_threshold_are_marked():
    html = page(FOUND, DriftSettings(), sampled=0)
    cells = re.findall(r'<td class="number([^"]*)" data-is="([^"]*)">([^<]*)</td>', html)
    of_price = {name: (marks.strip(), figure) for marks, name, figure in cells[8:]}
    assert of_price["Wasserstein"] == ("over", "0.250")
    assert of_price["PSI"] == ("", "0.100")
    assert of_price["KS p"] == ("", "&lt; 0.001")
    assert of_price["missing"] == ("", "2.5 %")
    assert of_price["new"] == ("none", "–")


def test_it_needs_no_network_fits_a_phone_and_trusts_no_value():
    html = page(FOUND, DriftSettings(), sampled=800)
    assert 'name="viewport"' in html
    assert "prefers-color-scheme: dark" in html
    assert not re.search(r"https?://|@import|<script", html)
    assert '<a href="evidently.html">' in html
    assert "&lt;b&gt;1" in html
    assert "<b>1" not in html


def test_a_window_of_which_only_words_can_be_told_has_no_empty_table():
    found = FOUND.model_copy(update={"model": "", "drift": Drift.UNKNOWN, "fields": (), "reference_rows": 0})
    html = page(found, DriftSettings(), sampled=0)
    assert "<table" not in html
    assert "held against" not in html
    assert "can&#39;t be told" in html
