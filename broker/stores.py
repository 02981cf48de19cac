"""Opening the blob store that settings name."""

from __future__ import annotations

from broker.blobs import DirectoryStore
from broker.settings import Settings
from broker.store import BlobStore


def open_store(settings: Settings) -> BlobStore:
    """Open the store, or found one there. Blocks: call it in a thread.

    Raises:
        StorageError: it cannot be written to; the message says why.
    """
    return DirectoryStore.open(settings.store_directory, settings.durability)
