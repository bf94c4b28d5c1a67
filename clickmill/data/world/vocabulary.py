"""The words the logs are written in, and the random streams behind them."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

SEGMENTS = (
    "students", "young_families", "established_families", "singles_urban", "professionals", "executives",
    "gamers", "homeowners", "retirees", "travellers", "bargain_hunters", "outdoor",
)  # fmt: skip
AGE_BUCKETS = ("18-24", "25-34", "35-44", "45-54", "55-64", "65+")
GENDERS = ("f", "m", "x")
REGIONS = (
    "us-east", "us-west", "us-south", "us-midwest", "ca", "mx", "br", "uk",
    "de", "fr", "es", "it", "nl", "pl", "in", "jp",
)  # fmt: skip
DEVICE_OS = ("android", "ios", "windows", "macos")
CATEGORIES = (
    "apparel", "shoes", "beauty", "jewellery", "electronics", "phones", "computers", "games",
    "toys", "baby", "home", "garden", "diy", "grocery", "restaurants", "travel",
    "hotels", "cars", "finance", "insurance", "education", "books", "sport", "health",
)  # fmt: skip
FORMATS = ("banner", "native", "video", "carousel", "text")
PAGE_CATEGORIES = (
    "news", "sports", "weather", "social", "video", "music", "gaming", "shopping",
    "recipes", "forum", "finance", "lifestyle",
)  # fmt: skip
CONNECTIONS = ("wifi", "4g", "5g", "ethernet")

TOPICS = 8
"""Dimensions of the latent taste and topic space."""


class Stream(IntEnum):
    """Separate sources of randomness, so that a change in one leaves the others' draws alone."""

    POPULATION = 0
    PREFERENCE = 1
    WARM_UP = 2
    PILOT = 3
    TRAFFIC = 4
    POLICY = 5
    CLICKS = 6
    DIRT = 7
    SHIFT = 8


def generator(seed: int, stream: Stream, hour: int = 0) -> np.random.Generator:
    """The generator of one stream in one hour: no draw depends on how many were made in the hours before."""
    return np.random.default_rng([seed, int(stream), hour])
