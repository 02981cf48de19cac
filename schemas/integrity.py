"""What finished bytes must be: a request's ``integrity``, an origin's digests.

Two notations for one demand: Subresource Integrity (SRI), in which a caller names the
bytes, and the digest fields of RFC 9530, in which an origin does. Both specifications
have a reader ignore what it does not understand, so nothing here raises.

The fields are parsed by http-sf, the author of the format's own few modules of pure
Python: members of any of the format's types may stand beside the one that is wanted,
and a parser that knew byte sequences alone would then check nothing.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass

import http_sf

INTEGRITY = "integrity"
"""The ``source`` of what the caller demands."""
MAX_SHOWN = 3
"""Acceptable digests that a message names."""

_STRENGTH = {"sha256": 0, "sha384": 1, "sha512": 2}
# The active algorithms of RFC 9530 § 7.2; what it calls deprecated proves nothing.
# sha-256 first: it is at hand, where the other costs reading everything again.
_FIELD_ALGORITHMS = (("sha-256", "sha256"), ("sha-512", "sha512"))
_URL_SAFE = str.maketrans("-_", "+/")
_LONGEST = len(b64encode(bytes(64)))


@dataclass(frozen=True, slots=True)
class Demand:
    """A demand on bytes: their digest under ``algorithm`` is one of ``digests``."""

    source: str
    """``integrity``, or the name of the origin's header."""
    algorithm: str
    """As hashlib calls it."""
    digests: tuple[str, ...]
    """In base64 without padding; text that is no digest is one that no bytes have."""

    def met_by(self, digest: bytes) -> bool:
        """Whether bytes with this digest are among those demanded."""
        return _base64(digest) in self.digests

    def refusal(self, digest: bytes) -> str:
        """Say for people what was expected and what was found."""
        names = [self._show(text) for text in self.digests[:MAX_SHOWN]]
        if len(self.digests) > MAX_SHOWN:
            names.append(f"{len(self.digests) - MAX_SHOWN} others")
        found = self._show(_base64(digest))
        return f"{self.source}: expected {' or '.join(names)}, found {found}"

    def _show(self, text: str) -> str:
        """Write a digest as an ``integrity`` could be; what is none, cut to a size."""
        text = text[:_LONGEST]
        return f"{self.algorithm}-{text}{'=' * (-len(text) % 4)}"


def parse_integrity(metadata: str) -> Demand | None:
    """Read integrity metadata (SRI § parse-metadata, § get-the-strongest-metadata).

    Of several algorithms the strongest counts alone, and of its digests any will do.
    Unknown algorithms and options are ignored; without a known algorithm there is
    nothing to check: None. A known one with a malformed digest is a demand that no
    bytes meet. Base64 may be of the URL-safe kind, as in browsers.
    """
    strongest, digests = "", dict[str, None]()
    for item in metadata.split():
        algorithm, _, digest = item.partition("?")[0].partition("-")
        algorithm = algorithm.lower()
        if algorithm not in _STRENGTH:
            continue
        if not strongest or _STRENGTH[algorithm] > _STRENGTH[strongest]:
            strongest, digests = algorithm, {}
        if algorithm == strongest:
            digests[digest.translate(_URL_SAFE).rstrip("=")] = None
    return Demand(INTEGRITY, strongest, tuple(digests)) if strongest else None


def parse_digest_field(name: str, value: str) -> Demand | None:
    """Read ``Repr-Digest`` or ``Content-Digest``, its lines joined (RFC 9530 § 2, 3).

    One digest is chosen, as the RFC leaves to its reader: sha-256, else sha-512. None
    if there is neither, or if the field is not a Dictionary of RFC 9651, in which keys
    are lower case and byte sequences plain base64.
    """
    try:
        members = http_sf.parse(value.encode("latin-1"), tltype="dictionary")
    except ValueError:
        return None
    assert isinstance(members, dict)
    for key, algorithm in _FIELD_ALGORITHMS:
        member = members.get(key)
        if isinstance(member, tuple) and isinstance(member[0], bytes):
            return Demand(name, algorithm, (_base64(member[0]),))
    return None


def _base64(digest: bytes) -> str:
    return b64encode(digest).decode("ascii").rstrip("=")
