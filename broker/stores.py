"""Opening the blob store that settings name, and making it known."""

from __future__ import annotations

import secrets

from anyio import to_thread

from broker.blobs import DirectoryStore
from broker.connection import Connection
from broker.keys import IDENTITY, STORES
from broker.settings import Settings
from broker.store import BlobStore


def open_store(settings: Settings) -> BlobStore:
    """Open the store, or found one there. Blocks: call it in a thread.

    Raises:
        ConfigError: ``BGFETCH_STORE`` is a URL that cannot be used.
        StorageError: it cannot be written to; the message says why.
    """
    url = settings.store_url
    if url is None:
        return DirectoryStore.open(settings.store_directory, settings.durability)
    from broker.objects import ObjectStore  # an extra, and slow to import

    return ObjectStore.open(url)


async def introduce(connection: Connection, store: BlobStore) -> None:
    """Make a store and a Redis known to each other (R4, R16).

    Raises:
        Unreachable: Redis does not answer.
        StorageError: the store cannot be written to.
    """
    await connection.ask("HSET", STORES, store.id, store.place)
    await connection.ask("SETNX", IDENTITY, secrets.token_hex(16))
    tenant: bytes = await connection.ask("GET", IDENTITY)
    await to_thread.run_sync(store.enrol, tenant.decode())
