"""How fast the simulated market is written, in how much memory, and how learnable it is.

    python tests/bench/world.py --impressions 1000000                   rows/s and peak memory
    python tests/bench/world.py --impressions 1000000 --learnability    also the ladder from a linear model to the ceiling

The ladder is a logistic regression on the first 70 % judged on the last 20 %, given more and more of what is there to see.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from clickmill.data.world import WorldConfig, WorldReport, write


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--impressions", type=int, default=1_000_000, help="rows of the impression log")
    arguments.add_argument("--seed", type=int, default=7, help="seed of the market")
    arguments.add_argument(
        "--learnability", action="store_true", help="train the ladder of cheap models (minutes)"
    )
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "world"
        begin = time.perf_counter()
        report = write(WorldConfig(impressions=options.impressions, seed=options.seed), out)
        seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        size = sum(path.stat().st_size for path in out.rglob("*.parquet"))
        print(f"{report.impressions:,} impressions in {seconds:.1f} s: {report.impressions / seconds:,.0f} rows/s, "
              f"peak memory {peak:.2f} GiB, {size / 2**20:.0f} MiB of Parquet")  # fmt: skip
        print(
            f"CTR {report.ctr:.2%}, ceiling AUC {report.ceiling.auc:.4f}, ceiling NE {report.ceiling.ne:.4f}"
        )
        if options.learnability:
            ladder(out, report)


def ladder(root: Path, report: WorldReport) -> None:
    """Print AUC and NE of each rung beside the ceiling, on the last fifth of the log."""
    import duckdb
    import numpy as np
    import pandas as pd
    import scipy.sparse as sp
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss, roc_auc_score
    from sklearn.preprocessing import OneHotEncoder

    decay = report.config.effects.history_decay
    # The sums over a history are written for one list column; list_position is 1-based and the latest is last.
    rows = duckdb.sql(
        f"""
        select i.* exclude (history_categories, history_ads), true_pctr, c.impression_id is not null as clicked,
               hour(event_time at time zone 'UTC') as hour, len(history_categories) as clicks_before,
               list_sum(list_transform(history_categories, lambda x, place: case when x = category
                        then {1 - decay} * {decay} ** (len(history_categories) - place) else 0 end)) as recent_match,
               len(list_filter(history_categories, lambda x: x = category))
                   / greatest(len(history_categories), 1) as bag_match,
               coalesce(history_categories[-1], 'none') as last_category,
               list_contains(history_ads, ad_id) as clicked_before
        from '{root}/impressions/**/*.parquet' i join '{root}/truth/**/*.parquet' using (impression_id)
        left join (select distinct impression_id from '{root}/clicks/**/*.parquet') c using (impression_id)
        order by event_time, impression_id"""
    ).df()
    n, y = len(rows), rows["clicked"].to_numpy()
    cut, test = int(0.7 * n), int(0.8 * n)

    def judge(name: str, pctr: np.ndarray) -> None:
        clicked, ctr = y[test:], y[test:].mean()
        ne = log_loss(clicked, pctr) / -(ctr * np.log(ctr) + (1 - ctr) * np.log(1 - ctr))
        print(f"{name:44s} AUC {roc_auc_score(clicked, pctr):.4f}   NE {ne:.4f}", flush=True)

    def codes(names: str) -> np.ndarray:
        code = np.zeros(n, dtype=np.int64)
        for name in names.split("*"):
            level, values = pd.factorize(rows[name])
            code = code * len(values) + level
        return code

    def onehot(*crosses: str) -> sp.csr_matrix:
        columns = np.column_stack([codes(names) for names in crosses])
        encoder = OneHotEncoder(handle_unknown="ignore", min_frequency=5, dtype=np.float32)
        return encoder.fit(columns[:cut]).transform(columns)

    def numbers(*columns: np.ndarray) -> sp.csr_matrix:
        table = np.column_stack(columns).astype(np.float32)
        return sp.csr_matrix((table - table[:cut].mean(axis=0)) / table[:cut].std(axis=0))

    main_effects = [
        onehot("segment", "age_bucket", "gender", "region", "device_os", "advertiser_id", "campaign_id", "ad_id", "user_id",
               "category", "creative_format", "site_id", "page_category", "connection", "position", "hour"),
        numbers(*(np.log1p(rows[c]) for c in ("user_activity", "user_price_affinity", "price",
                                              "user_advertiser_exposures", "ad_age_days"))),
    ]  # fmt: skip
    crosses = [
        onehot("segment*category", "age_bucket*gender*category", "page_category*category", "site_id*creative_format",
               "device_os*creative_format", "connection*creative_format", "segment*hour"),
        numbers(np.abs(np.log(rows["price"] / rows["user_price_affinity"]))),
    ]  # fmt: skip
    bag = [numbers(rows["bag_match"], rows["clicked_before"])]
    sequence = [
        numbers(rows["recent_match"].fillna(0), rows["clicked_before"]),
        onehot("last_category*category"),
    ]
    for name, blocks in (
        ("main effects, linear", main_effects),
        ("+ crosses", main_effects + crosses),
        ("+ crosses + history as a bag", main_effects + crosses + bag),
        ("+ crosses + history in its order", main_effects + crosses + sequence),
    ):
        matrix = sp.hstack(blocks).tocsr()
        model = LogisticRegression(C=0.1, max_iter=150).fit(matrix[:cut], y[:cut])
        judge(name, model.predict_proba(matrix[test:])[:, 1])
    judge("ceiling: the true probability", rows["true_pctr"].to_numpy()[test:])


if __name__ == "__main__":
    main()
