"""Putting a commit record: the moment from which its files exist, and what follows from it."""

from __future__ import annotations

from avpipe.pipeline.cache import durable, twins
from avpipe.pipeline.cache.documents import seal
from avpipe.pipeline.cache.layout import Layout
from avpipe.pipeline.cache.lock import WriterFolder
from avpipe.pipeline.cache.records import Record
from avpipe.pipeline.cache.recover import publish_files, require_temporaries


class RecordPut:
    """One record on its way into the ledger: written when this is made, committed by `link`, then `publish`.

    Args:
        layout: paths of the cache.
        folder: the writer's temporaries; those that the record names lie there, synced.
        record: the record.

    Raises:
        EnvironmentLacking: the record cannot be written, or a temporary is gone or was cut. Nothing is committed then.
    """

    def __init__(self, layout: Layout, folder: WriterFolder, record: Record) -> None:
        self._layout, self._folder, self._record = layout, folder, record
        self._path = layout.record(record.unit, record.sequence)
        self._sealed = seal(record.as_json())
        self._temporary = folder.fresh("record.json")
        sizes = {layout.temporary(file.temporary): file.bytes for file in record.files}
        try:
            durable.write_file(self._temporary, self._sealed)
            require_temporaries({**sizes, self._temporary: len(self._sealed)})  # the last moment: all must be there
        except BaseException:
            durable.remove(self._temporary)
            raise

    def link(self) -> bool:
        """Gives the record its name; False where somebody else's record has it."""
        return durable.link_and_remove(self._temporary, self._path)

    def publish(self) -> None:
        """Moves the record's temporaries to their places and writes its twin."""
        publish_files(self._layout, self._record.files)
        twins.write(self._layout, self._path, self._sealed, self._folder)
