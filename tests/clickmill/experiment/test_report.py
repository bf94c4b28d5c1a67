"""The page says the answer in words, shows its plots, and loads nothing from elsewhere."""

import re

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from clickmill.errors import UsageError
from clickmill.experiment import design, plots
from clickmill.experiment.analysis import analyse
from clickmill.experiment.design import Plan, click_rate
from clickmill.experiment.report import page
from tests.clickmill.experiment import drawn


def analysed(tmp_path, table, **changed):
    return analyse(drawn.summed(tmp_path / "log.parquet", table, drawn.spec(**changed)))


@pytest.fixture(scope="module")
def tables():
    better = drawn.impressions(2, 4_000, lift=0.3, pre_days=3)
    odd = pc.is_in(pc.utf8_slice_codeunits(better["user_id"], -1), value_set=pa.array(list("13579")))
    phones = pc.fill_null(pc.and_(pc.equal(better["arm"], "b"), pc.equal(better["device"], "phone")), False)
    return {
        "yes": better,
        "unknown": drawn.impressions(3, 1_500),
        "broken": better.filter(pc.invert(pc.and_(phones, odd))),
        "few": drawn.impressions(4, 60, ctr=0.02),
    }


WORDS = {
    "yes": ("Yes: b is better than a.", "Yes. Each arm has the users it should have", 5),
    "unknown": ("Not known yet: these data cannot tell b from a.", "more impressions would settle it", 5),
    "broken": ("No answer: the experiment itself is broken.", "Where users are missing, worst first", 5),
    "few": (
        "Not known yet: too few clicks to say anything.",
        "are the least from which anything can be said",
        0,
    ),
}


@pytest.mark.parametrize("kind", WORDS)
def test_the_page_says_what_why_and_what_next(tmp_path, tables, kind):
    headline, more, pictures = WORDS[kind]
    text = page(
        analysed(tmp_path, tables[kind], slices=("device",), pre_days=3 if kind == "yes" else 0),
        note="A note.",
    )
    assert headline in text
    assert more in re.sub(r"\s+", " ", text)
    assert "What next" in text
    assert "A note." in text
    assert text.count("<img") >= pictures
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)
    assert "color-scheme" in text
    assert "viewport" in text


def test_a_broken_split_shows_no_lift_where_everybody_looks_first(tmp_path, tables):
    text = page(analysed(tmp_path, tables["broken"], slices=("device",)))
    assert '<span class="badge missed">Broken</span>' in text
    assert "Not to be used" in text
    first = text[text.index('<div class="tile">') :]
    assert first.startswith(
        '<div class="tile"><div class="name">Click rate, b beside a</div><div class="value">–</div>'
    )
    sound = page(analysed(tmp_path, tables["unknown"]))
    assert "Not to be used" not in sound
    assert "no gain at all and one worth having (1 % and more) are both still possible" in sound


def test_names_from_a_log_do_not_become_html(tmp_path):
    table = drawn.impressions(5, 1_500, devices=("<script>alert(1)</script>", "desk"))
    text = page(analysed(tmp_path, table, slices=("device",), question="Is <b> better?"))
    assert "<script>alert" not in text
    assert "Is &lt;b&gt; better?" in text


def test_plots_have_the_same_bytes_for_the_same_figures_and_refuse_what_is_not_there(tmp_path, tables):
    analysis = analysed(tmp_path, tables["yes"], slices=("device",))
    assert plots.timeline(analysis) == plots.timeline(analysis)
    assert plots.metrics(analysis, fmt="png").startswith(b"\x89PNG")
    few = analysed(tmp_path, tables["few"])
    for draw in (
        plots.timeline,
        plots.metrics,
        lambda a: plots.slices(a, 0.1),
        lambda a: plots.days((), "", ""),
    ):
        with pytest.raises(UsageError, match="needs"):
            draw(few)


def test_the_plot_of_a_design_is_drawn():
    baseline = click_rate(0.03, impressions_per_user=10.0, rate_cv=0.5)
    assert b"<svg" in plots.detectable(baseline, Plan(comparisons=2), 1e6, 28)
    assert design.minimal_effect(baseline, Plan(any_time=True), 10**7) > design.minimal_effect(
        baseline, Plan(), 10**7
    )
