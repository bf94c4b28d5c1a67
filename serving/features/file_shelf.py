"""Loading the embedded store: a SQLite file made beside the old one, then given its name."""

from __future__ import annotations

import sqlite3
import uuid
from pathlib import Path

from pydantic import ValidationError

from clickmill.disk import sync
from clickmill.errors import DataError, UsageError
from clickmill.progress import Progress
from serving.features.file_store import META_TABLE, open_to_read, publication_in, table_of
from serving.features.publication import Publication
from serving.features.store import Rows, refuse_older


class FileShelf:
    """A Shelf."""

    def __init__(self, path: Path, name: str) -> None:
        if path.is_dir():
            raise UsageError(f"{path}: is a folder; give the path of a file, {path / (name + '.features')}")
        self.address = str(path)
        self._path, self._name = path, name

    def current(self) -> Publication | None:
        """What readers see now; raises UsageError when the file is something else, which is never overwritten."""
        if not self._path.exists():
            return None
        try:
            connection = open_to_read(self._path)
            try:
                found = publication_in(connection)
            finally:
                connection.close()
        except (sqlite3.Error, ValidationError) as error:
            raise UsageError(
                f"{self.address}: is no feature store ({error}); name another file, or remove this one"
            ) from error
        if found.contract != self._name:
            raise UsageError(
                f"{self.address}: holds the features of contract `{found.contract}`, not of `{self._name}`; name another file"
            )
        return found

    def put(self, publication: Publication, rows: Rows, *, allow_older: bool, progress: Progress) -> bool:
        """As `Shelf.put` says. Raises DataError when the disk is full; nothing is left behind then."""
        current = self.current()
        refuse_older(current, publication, self.address, allow_older=allow_older)
        if current is not None and current.version == publication.version:
            return False
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._replace(publication, rows, progress)
        except (OSError, sqlite3.OperationalError) as error:
            raise DataError(
                f"{self.address}: could not be written ({error}); free some space or name another place. "
                "Readers have what they had"
            ) from error
        return True

    def _replace(self, publication: Publication, rows: Rows, progress: Progress) -> None:
        draft = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex[:8]}.partial")
        try:
            _write(draft, publication, rows, progress)
            sync(draft)
            draft.replace(self._path)
            sync(self._path.parent)
        finally:
            draft.unlink(missing_ok=True)


def _write(draft: Path, publication: Publication, rows: Rows, progress: Progress) -> None:
    connection = sqlite3.connect(draft, isolation_level=None)
    try:
        # No journal: the file is nobody's until it is whole, and is thrown away if it never is.
        connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN")
        connection.execute(f"CREATE TABLE {META_TABLE} (json TEXT)")
        connection.execute(f"INSERT INTO {META_TABLE} VALUES (?)", (publication.model_dump_json(),))
        progress.start("writing", sum(e.ids for e in publication.entities.values()), "ids")
        for number, entity in enumerate(publication.entities):
            table = table_of(number)
            connection.execute(f"CREATE TABLE {table} (id TEXT PRIMARY KEY, row BLOB) WITHOUT ROWID")
            for portion in rows[entity]:
                pairs = ((key.decode(), row) for key, row in portion.items())
                connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", pairs)
                progress.advance(len(portion))
        progress.finish()
        connection.execute("COMMIT")
    finally:
        connection.close()
