"""How a field becomes model input: one frozen model per kind, told apart by `kind`.

Two families come out of an encoder. *Slots* are categorical: one row of the fused embedding table per impression.
*Numerics* are float32 values that enter the model as they are. `list` is a bag or sequence of slot rows.

    kind          family      reads                         learns from the train split
    vocabulary    slot        string, int64, bool           values seen at least `min_count` times
    hash          slot        string, int64                 nothing
    compositional two slots   string, int64                 nothing
    bucketize     slot        int64, float32                quantile edges, when `quantiles` is given
    cross         slot        two or more fields            nothing
    hour          slot        a timestamp                   nothing
    weekday       slot        a timestamp                   nothing
    log1p         numeric     int64, float32                mean and deviation after the logarithm
    standardize   numeric     int64, float32                mean and deviation
    list          list        string_list, int64_list       the item vocabulary, or shares another field's
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

SLOT_KINDS = frozenset({"vocabulary", "hash", "compositional", "bucketize", "cross", "hour", "weekday"})
NUMERIC_KINDS = frozenset({"log1p", "standardize"})


class _Encoding(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    pass


class Unseen(_Encoding):
    """Rows for the values of a vocabulary that have none of their own: too rare in training, or not there at all.

    Training teaches these rows with the values below `min_count`.
    """

    buckets: int = Field(ge=2, le=10_000_000)
    """Rows; the hash of the value, or of what it is like, picks one. More rows tell more apart and learn less each."""
    like: tuple[str, ...] = ()
    """Fields whose values together pick the row, instead of the value itself: a new ad then begins with what rare ads of its
    advertiser and category have taught. They must be known whenever the field is: of the same side of a request."""

    @property
    def rows(self) -> int:
        """Rows before those of the known values. With `like` one more, the first: a list's items and fields that share the vocabulary
        bring no attributes along."""
        return self.buckets + bool(self.like)


class Vocabulary(_Encoding):
    """One row per value seen in training; the rest share the row of the unknown, or those of `unseen`."""

    kind: Literal["vocabulary"] = "vocabulary"
    min_count: int = Field(default=2, ge=1)
    """Impressions of the train split a value must have to get a row of its own. At 1 every typo gets one."""
    max_size: int = Field(default=1_000_000, ge=1)
    """Most rows kept, the most frequent first. A row costs 4 bytes times the embedding width."""
    unseen: Unseen | None = None
    """How values without a row are told apart; absent, they all share one."""
    shares: str | None = None
    """Name of a field whose vocabulary and rows this one uses (last clicked ad uses the rows of ad_id)."""

    @property
    def unseen_rows(self) -> int:
        """Rows before those of the known values."""
        return 1 if self.unseen is None else self.unseen.rows


class Hash(_Encoding):
    """A fixed number of rows; values that collide share one."""

    kind: Literal["hash"] = "hash"
    buckets: int = Field(ge=2, le=100_000_000)
    """Rows. With n distinct values about n / buckets of them share their row with another."""


class Compositional(_Encoding):
    """A hashed id space of hundreds of millions in some ten thousand rows: two small tables, of quotients and of remainders.

    With k the hash of the value, 0 <= k < buckets, and m = ceil(sqrt(buckets)): row k // m of the first table and row k % m of the
    second. No two k share both rows. Shi et al., "Compositional Embeddings Using Complementary Partitions for Memory-Efficient
    Recommendation Systems", KDD 2020, arXiv:1909.02107, section 2 (quotient-remainder trick). Of the paper's ways to combine the two
    vectors it is concatenation: each table is a slot of its own, which models see as two fields. A linear model therefore adds the two
    weights, and models of crosses learn their products; the paper's own best, the fixed element-wise product, is not offered.
    """

    kind: Literal["compositional"] = "compositional"
    buckets: int = Field(ge=4, le=1_000_000_000)
    """Size of the hashed id space; it costs about 2 sqrt(buckets) rows. Take several times the number of distinct values: with n of
    them about n / buckets of them share both rows with another."""

    @property
    def remainders(self) -> int:
        """Rows of the table of remainders: m = ceil(sqrt(buckets))."""
        return math.isqrt(self.buckets - 1) + 1

    @property
    def quotients(self) -> int:
        """Rows of the table of quotients: ceil(buckets / m), at most m."""
        return -(-self.buckets // self.remainders)


class Bucketize(_Encoding):
    """A number becomes the index of the interval it falls in, so that a model may learn any curve over it."""

    kind: Literal["bucketize"] = "bucketize"
    boundaries: tuple[float, ...] | None = None
    """Inner edges, ascending; k edges make k + 1 buckets, each closed on the left."""
    quantiles: int | None = Field(default=None, ge=2, le=1000)
    """Instead of edges: this many buckets of equal mass, their edges learned from the train split."""

    @model_validator(mode="after")
    def _one_of(self) -> Bucketize:
        if (self.boundaries is None) == (self.quantiles is None):
            raise ValueError("give either `boundaries` or `quantiles`, not both and not neither")
        if self.boundaries is not None:
            if not self.boundaries:
                raise ValueError("`boundaries` is empty; give at least one edge")
            if any(b <= a for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)):
                raise ValueError("`boundaries` must ascend strictly")
        return self


class Cross(_Encoding):
    """The combination of several fields as one hashed value: what a linear model can't see by itself."""

    kind: Literal["cross"] = "cross"
    of: tuple[str, ...] = Field(min_length=2)
    """Names of the fields combined, in this order."""
    buckets: int = Field(ge=2, le=100_000_000)
    """Rows of the hashed combination."""


class Hour(_Encoding):
    """Hour of the day of a timestamp: 24 rows."""

    kind: Literal["hour"] = "hour"
    of: str
    """Name of the timestamp field it is derived from."""
    utc_offset_hours: float = Field(default=0.0, ge=-14, le=14)
    """Local time minus UTC; the market's own evening is what matters. Half hours exist (India: 5.5)."""


class Weekday(_Encoding):
    """Day of the week of a timestamp, Monday = 0: 7 rows."""

    kind: Literal["weekday"] = "weekday"
    of: str
    """Name of the timestamp field it is derived from."""
    utc_offset_hours: float = Field(default=0.0, ge=-14, le=14)
    """Local time minus UTC."""


class Log1p(_Encoding):
    """sign(x) ln(1 + |x|), then standardized by the train split: for counts and prices with long tails."""

    kind: Literal["log1p"] = "log1p"


class Standardize(_Encoding):
    """(x - mean) / deviation of the train split."""

    kind: Literal["standardize"] = "standardize"


class ListOf(_Encoding):
    """A bag or a sequence of values of one vocabulary or hash space; the last `max_length` are kept."""

    kind: Literal["list"] = "list"
    items: Annotated[Vocabulary | Hash, Field(discriminator="kind")]
    """How each item is encoded. `{kind: vocabulary, shares: ad_id}` uses the rows of the field `ad_id`."""
    max_length: int = Field(default=20, ge=1, le=1000)
    """Items kept per impression, the latest; shorter lists are padded and the padding is ignored."""


Encoding = Annotated[
    Vocabulary | Hash | Compositional | Bucketize | Cross | Hour | Weekday | Log1p | Standardize | ListOf,
    Field(discriminator="kind"),
]
