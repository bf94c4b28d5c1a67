"""One reader per published layout, and the registry of them; may import `clickmill.contract`, `clickmill.errors` and `clickmill.data.engine`."""

from collections.abc import Callable

from clickmill.contract import Format
from clickmill.data.formats import (
    avazu,
    criteo,
    csv,
    libffm,
    libsvm,
    movielens,
    open_bandit,
    parquet,
)
from clickmill.data.formats.scanned import MALFORMED, REJECTS, ROW, TEST, Scanned

READERS: dict[Format, Callable[..., Scanned]] = {
    Format.PARQUET: parquet.scan,
    Format.CSV: csv.scan,
    Format.CRITEO: criteo.scan,
    Format.AVAZU: avazu.scan,
    Format.OPEN_BANDIT: open_bandit.scan,
    Format.LIBSVM: libsvm.scan,
    Format.LIBFFM: libffm.scan,
    Format.MOVIELENS: movielens.scan,
}
"""`scan(con, files, contract, first_row)` per format."""

__all__ = ["MALFORMED", "READERS", "REJECTS", "ROW", "TEST", "Scanned"]
