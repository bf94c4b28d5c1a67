"""Names, labels and edges of the endpoint's metrics; nothing else in the project spells them.

Here and not in `serving`, because rules, dashboards and reports speak of the same series and may not import the endpoint.
"""

from __future__ import annotations

MODEL = "model_name"
PROTOCOL = "protocol"
REASON = "reason"
BUNDLE = "bundle"
VERSION = "version"
DIGEST = "digest"
FIELD = "field"
OUTCOME = "outcome"
ENGINE = "engine"
SIZE = "size"
SOURCE = "source"
CACHE = "cache"
STAGE = "stage"

REQUEST_SECONDS = "clickmill_request_seconds"
STAGE_SECONDS = "clickmill_request_stage_seconds"
CANDIDATES = "clickmill_request_candidates"
PCTR = "clickmill_pctr"
PREDICTIONS = "clickmill_predictions"
REJECTED = "clickmill_requests_rejected"
LATE = "clickmill_late_answers"
IN_FLIGHT = "clickmill_requests_in_flight"
NOT_FINITE = "clickmill_not_finite_predictions"
BUNDLE_INFO = "clickmill_bundle_info"
BUNDLE_LOADED = "clickmill_bundle_loaded_timestamp_seconds"
RELOADS = "clickmill_bundle_reloads"
REFUSED = "clickmill_bundle_refused"
ENGINE_INFO = "clickmill_engine_info"
READY = "clickmill_ready"
WAITING = "clickmill_requests_waiting"
WAIT_SECONDS = "clickmill_request_wait_seconds"
CONCURRENCY_LIMIT = "clickmill_concurrency_limit"
BATCH_ROWS = "clickmill_batch_rows"
BATCH_REQUESTS = "clickmill_batch_requests"
CACHE_READS = "clickmill_cache_reads"
FALLBACKS = "clickmill_fallbacks"
FALLBACK_CANDIDATES = "clickmill_fallback_candidates"
EXPLORATION_RANKINGS = "clickmill_exploration_rankings"
EXPLORATION_EARNED = "clickmill_exploration_earned"
EXPLORATION_GIVEN_UP = "clickmill_exploration_given_up"
EXPLORATION_SHARE = "clickmill_exploration_share"
FEATURE_READ_SECONDS = "clickmill_feature_read_seconds"
FEATURE_READS = "clickmill_feature_reads"
FEATURES_DEFAULTED = "clickmill_features_defaulted"
FEATURE_AGE = "clickmill_feature_age_seconds"
FEATURES_AS_OF = "clickmill_features_as_of_timestamp_seconds"
FEATURES_PUBLICATION = "clickmill_features_publication_info"
LOG_ROWS = "clickmill_prediction_log_rows"
LOG_PENDING = "clickmill_prediction_log_pending_rows"
LOG_WRITE_ERRORS = "clickmill_prediction_log_write_errors"
LOG_EVENTS = "clickmill_log_events"
LOG_EVENTS_PENDING = "clickmill_log_events_pending"
LOG_EVENT_RETRIES = "clickmill_log_event_retries"

LATENCY_EDGES = (
    0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.008, 0.010, 0.012, 0.016, 0.025, 0.05, 0.1, 0.25, 1.0,
)  # fmt: skip
"""Seconds, dense around the promise of 10 ms: an alert at 10 ms needs an edge there and neighbours to interpolate."""

STAGE_EDGES = (0.00005, 0.0001, 0.00025, *LATENCY_EDGES)
"""Seconds: a stage is a part of a request, and most take less than its least edge."""

AGE_EDGES = (
    60, 300, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600, 2_592_000,
)  # fmt: skip
"""Seconds, a minute to a month: the freshness that contracts ask for is 15 min, 1 h, 2 h, a day or a week."""

CANDIDATE_EDGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000)

BATCH_EDGES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
"""Requests in one run of the graph."""

PCTR_EDGES = (
    1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 7e-3, 1e-2, 1.5e-2, 2e-2, 3e-2, 5e-2, 7e-2, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0,
)  # fmt: skip
"""Log-spaced: click probabilities live between 0.1 % and 10 %, where equal widths would see one bucket."""

RANKER = "ranker"
"""Value of the label `protocol` for what a ranker asks its predictor, by whatever protocol. The others (v1, v2, grpc, tf, rank) are callers'
own requests: sums over a model leave this one out, since the same request was counted at the ranker."""

WINDOW = "window"
VALUE = "value"
QUANTILE = "quantile"

LIVE_IMPRESSIONS = "clickmill_live_impressions"
LIVE_CLICKS = "clickmill_live_clicks"
LIVE_CLICK_RATE = "clickmill_live_click_rate"
LIVE_PCTR = "clickmill_live_pctr_mean"
LIVE_NE = "clickmill_live_normalized_entropy"
LIVE_CALIBRATION = "clickmill_live_calibration_ratio"
LIVE_CALIBRATION_LOW = "clickmill_live_calibration_ratio_low"
LIVE_CALIBRATION_HIGH = "clickmill_live_calibration_ratio_high"
LIVE_AUC = "clickmill_live_auc"
LIVE_LABEL_DELAY = "clickmill_live_label_delay_seconds"
LIVE_ROWS = "clickmill_live_rows"
LIVE_UNREADABLE = "clickmill_live_unreadable_files"
LIVE_NEWEST = "clickmill_live_newest_timestamp_seconds"
LIVE_LOOKED = "clickmill_live_looked_timestamp_seconds"
LIVE_RIPENING = "clickmill_live_ripening_seconds"

BESIDE = "beside"
JUDGED = (
    ("impressions", "clickmill_live_judged_impressions"),
    ("clicks", "clickmill_live_judged_clicks"),
    ("pctr", "clickmill_live_judged_pctr"),
    ("residual_squares", "clickmill_live_judged_residual_squares"),
    ("log_loss", "clickmill_live_judged_log_loss_nats"),
    ("log_loss_squares", "clickmill_live_judged_log_loss_squares"),
)
"""Field of `clickmill.release.Labelled` and the counter of its sum, by bundle: a release on a cluster is judged by their increases."""
PAIRED = (
    ("worse", "clickmill_live_paired_worse_nats"),
    ("better", "clickmill_live_paired_better_nats"),
    ("squares", "clickmill_live_paired_squares"),
)
"""Of impressions that two bundles predicted: by how much the log loss of `bundle` was above that of `beside`, below it, and squared."""

OPERATOR_LEADS = "clickmill_operator_leads"
OPERATOR_WRITES = "clickmill_operator_writes"
OPERATOR_FAILURES = "clickmill_operator_failures"

SERVICE = "service"
"""Name of a Kubernetes Service."""
ROUTER_REQUESTS = "clickmill_router_requests"
ROUTER_PERCENT = "clickmill_router_traffic_percent"
ROUTER_HEARD = "clickmill_router_heard_timestamp_seconds"
ROUTER_REFUSED = "clickmill_router_shares_refused"

PHASE = "phase"
ENDPOINT = "endpoint"
ROLE = "role"

RELEASE_PHASE = "clickmill_release_phase"
RELEASE_FROZEN = "clickmill_release_frozen"
RELEASE_PERCENT = "clickmill_release_traffic_percent"
RELEASE_REQUESTS = "clickmill_release_requests"
RELEASE_ERRORS = "clickmill_release_errors"
RELEASE_SLOW = "clickmill_release_slow_requests"
RELEASE_ALERTS = "clickmill_release_alerts_firing"
RELEASE_STEPPED = "clickmill_release_stepped_timestamp_seconds"

BUNDLE_NE = "clickmill_bundle_normalized_entropy"
BUNDLE_PCTR = "clickmill_bundle_pctr_mean"
BUNDLE_CREATED = "clickmill_bundle_created_timestamp_seconds"

MEASURE = "measure"
VERDICT = "verdict"

DRIFT_VERDICT = "clickmill_drift_verdict"
DRIFT_QUALITY = "clickmill_drift_quality"
DRIFT_MEASURE = "clickmill_drift_measure"
DRIFT_ROWS = "clickmill_drift_rows"
DRIFT_WINDOW_END = "clickmill_drift_window_end_timestamp_seconds"
DRIFT_LOOKED = "clickmill_drift_looked_timestamp_seconds"
DRIFT_FAILED_LOOKS = "clickmill_drift_failed_looks"
DRIFT_RETRAININGS = "clickmill_drift_retrainings"
DRIFT_RETRAINED = "clickmill_drift_retraining_started_timestamp_seconds"

EXPERIMENT = "experiment"
ARM = "arm"
METRIC = "metric"

EXPERIMENT_USERS = "clickmill_experiment_users"
EXPERIMENT_IMPRESSIONS = "clickmill_experiment_impressions"
EXPERIMENT_CLICKS = "clickmill_experiment_clicks"
EXPERIMENT_VALUE = "clickmill_experiment_value"
EXPERIMENT_LIFT = "clickmill_experiment_lift"
EXPERIMENT_LIFT_LOW = "clickmill_experiment_lift_low"
EXPERIMENT_LIFT_HIGH = "clickmill_experiment_lift_high"
EXPERIMENT_SPLIT_P = "clickmill_experiment_split_p"
EXPERIMENT_SPLIT_SOUND = "clickmill_experiment_split_sound"
EXPERIMENT_GUARDRAIL = "clickmill_experiment_guardrail"
EXPERIMENT_VERDICT = "clickmill_experiment_verdict"
EXPERIMENT_NEEDS = "clickmill_experiment_missing_impressions"
EXPERIMENT_LOOKED = "clickmill_experiment_looked_timestamp_seconds"
EXPERIMENT_FAILED_LOOKS = "clickmill_experiment_failed_looks"
