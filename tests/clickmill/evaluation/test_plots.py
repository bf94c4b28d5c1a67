"""Plots: valid, repeatable bytes whose marks stand where the numbers are, on usual and on odd evaluations."""

import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from clickmill.errors import UsageError
from clickmill.evaluation import evaluate, plots
from clickmill.evaluation.plots import reliability, roc, slices

SVG = "{http://www.w3.org/2000/svg}svg"


@pytest.fixture(scope="module")
def usual():
    rng = np.random.default_rng(0)
    z = rng.normal(-3, 1, 8_000)
    y = (rng.random(8_000) < 1 / (1 + np.exp(-z))).astype(int)
    device = np.array(["phone", "tv"])[(rng.random(8_000) < 0.01).astype(int)]
    return evaluate(
        y, 1 / (1 + np.exp(-z - 0.2)), slices={"device": device}, truth=1 / (1 + np.exp(-z)), resamples=40
    )


PLOTS = [plots.reliability_diagram, plots.lift_curve, plots.roc_plot, plots.slice_forest]


@pytest.mark.parametrize("plot", PLOTS)
def test_plots_are_images_and_the_same_every_time(plot, usual):
    svg, png = plot(usual), plot(usual, fmt="png")
    assert ElementTree.fromstring(svg).tag == SVG
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert plot(usual) == svg
    assert plot(usual, fmt="png") == png
    assert plot(usual, title="another title") != svg


@pytest.mark.parametrize("plot", PLOTS)
@pytest.mark.parametrize("p", [np.full(300, 0.2), np.zeros(300), np.ones(300), np.linspace(0, 1, 300)])
def test_plots_bear_constant_and_extreme_predictions(plot, p):
    y = np.r_[np.zeros(297), 1, 1, 1]
    evaluation = evaluate(y, p, slices={"all": ["one"] * 300}, resamples=20)
    assert ElementTree.fromstring(plot(evaluation)).tag == SVG


def test_the_points_of_the_reliability_diagram_are_the_bins(usual):
    figure = Figure()
    reliability._paint(figure, usual)
    points = figure.axes[0].containers[0].lines[0].get_xydata()
    assert points.tolist() == [[b.mean_pctr, b.click_rate] for b in usual.reliability if b.click_rate > 0]
    assert figure.axes[0].get_xlim() == figure.axes[0].get_ylim()
    assert figure.axes[0].get_ylabel() == "observed click rate"


def test_the_roc_plot_draws_the_roc_curve(usual):
    figure = Figure()
    roc._paint(figure, usual)
    (curve, _) = figure.axes[0].lines
    assert curve.get_xdata().tolist() == list(usual.roc.false_positive_rate)
    assert curve.get_ydata().tolist() == list(usual.roc.true_positive_rate)


def test_the_forest_shows_intervals_and_says_where_clicks_are_too_few(usual):
    figure = Figure()
    slices._paint(figure, list(usual.slices), "auc", usual.auc, usual.auc.value, 95)
    phone, tv = usual.slices
    drawn = [line.get_xdata() for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert [phone.metrics["auc"].low, phone.metrics["auc"].high] in [list(x) for x in drawn]
    words = [text.get_text() for text in figure.axes[0].texts]
    assert tv.reason in words
    assert "clicks, 100 needed" in tv.reason


def test_long_slice_values_keep_both_ends():
    assert slices._short("short") == "short"
    assert slices._short("campaign-2026-summer-sale-0017") == "campaign-202…mer-sale-0017"


def test_the_history_draws_epochs_and_refuses_what_has_none():
    epochs = [0.5, 1.0, 1.5]
    svg = plots.entropy_history(epochs, [0.95, 0.9, 0.91], [0.97, 0.89, 0.85], best_epoch=1.0)
    assert ElementTree.fromstring(svg).tag == SVG
    assert (
        plots.entropy_history(epochs, [0.95, 0.9, 0.91], [0.97, 0.89, 0.85]) == svg
    )  # the lowest is the best
    assert plots.entropy_history([1], [0.9], fmt="png").startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="at least one evaluation, got none"):
        plots.entropy_history([], [])
    with pytest.raises(UsageError, match=r"train must be as long as validation \(2 evaluations\), got 1"):
        plots.entropy_history([1, 2], [0.9, 0.8], [0.9])
    with pytest.raises(UsageError, match=r"epochs must be as long as validation \(2 evaluations\), got 1"):
        plots.entropy_history([1], [0.9, 0.8])
    with pytest.raises(UsageError, match=r"best_epoch must be one of 0\.5, 1, got 2"):
        plots.entropy_history([0.5, 1], [0.9, 0.8], best_epoch=2)


def test_wrong_requests_are_refused_in_words(usual):
    with pytest.raises(UsageError, match="fmt must be svg or png, got 'pdf'"):
        plots.roc_plot(usual, fmt="pdf")
    with pytest.raises(UsageError, match=r"metric must be one of auc, .* for these slices, got 'log_loss'"):
        plots.slice_forest(usual, metric="log_loss")
    with pytest.raises(UsageError, match="needs slices"):
        plots.slice_forest(usual.model_copy(update={"slices": ()}))


def test_evaluation_calibration_and_gate_import_nothing_heavy():
    code = (
        "import sys, clickmill.evaluation, clickmill.evaluation.plots, clickmill.calibration, clickmill.release\n"
        "print([m for m in ('matplotlib', 'sklearn', 'tensorflow', 'pandas', 'keras') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )
