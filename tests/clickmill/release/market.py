"""Traffic of a bundle, drawn: what the release machine would be told of it."""

import numpy as np

from clickmill.release import Arm, Labelled, Period, Shadowed, Traffic


def labelled(rng, impressions, *, ctr=0.05, times=1.0, clicks=None, spread=0.5):
    """Impressions whose true click rate varies; the bundle predicts `times` of it."""
    truth, y = clicks if clicks is not None else drawn(rng, impressions, ctr, spread)
    p = np.clip(truth * times, 1e-6, 1 - 1e-6)
    return sums(y, p)


def drawn(rng, impressions, ctr=0.05, spread=0.5):
    truth = np.clip(ctr * np.exp(spread * rng.standard_normal(impressions) - spread**2 / 2), 1e-4, 0.9)
    return truth, (rng.random(impressions) < truth).astype(float)


def losses(y, p):
    return -(y * np.log(p) + (1 - y) * np.log1p(-p))


def sums(y, p):
    loss = losses(y, p)
    return Labelled(
        impressions=len(y),
        clicks=int(y.sum()),
        pctr=float(p.sum()),
        residual_squares=float(((p - y) ** 2).sum()),
        log_loss=float(loss.sum()),
        log_loss_squares=float((loss**2).sum()),
    )


def arm(rng, impressions, *, errors=0.0, slow=0.0, not_finite=0, **how):
    traffic = Traffic(
        requests=impressions,
        errors=int(rng.binomial(impressions, errors)),
        slow=int(rng.binomial(impressions, slow)),
        not_finite=not_finite,
    )
    return Arm(traffic=traffic, labelled=labelled(rng, impressions, **how))


def period(rng, percent, impressions, *, candidate=None, stable=None):
    """One period of `impressions` in all."""
    share = impressions * percent // 100
    return Period(
        percent=percent,
        candidate=arm(rng, share, **(candidate or {})),
        stable=arm(rng, impressions - share, **(stable or {})),
    )


def shadowed(rng, impressions, *, times=1.0, errors=0.0, stable=None):
    truth, y = drawn(rng, impressions)
    p = np.clip(truth * times, 1e-6, 1 - 1e-6)
    difference = losses(y, p) - losses(y, truth)
    return Shadowed(
        traffic=Traffic(requests=impressions, errors=int(rng.binomial(impressions, errors))),
        labelled=sums(y, p),
        stable=arm(rng, impressions, **(stable or {})),
        difference=float(difference.sum()),
        difference_squares=float((difference**2).sum()),
    )
