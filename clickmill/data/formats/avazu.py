"""Avazu Click-Through Rate Prediction: CSV with a header; `hour` is YYMMDDHH, in UTC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clickmill.contract import FeatureContract
from clickmill.data.formats.scanned import Scanned, csv_scan, numbered, relation


def scan(con: Any, files: Sequence[Path], contract: FeatureContract, first_row: int = 0) -> Scanned:
    text = csv_scan(files, delimiter=",", header=True)
    return Scanned(relation(con, files, numbered(text, first_row)), text=True, timestamp_format="%y%m%d%H")
