"""What protects a connection, as Received fields, logs and reasons name it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TlsInfo:
    """Version and cipher suite in OpenSSL's and IANA's words: ``TLSv1.3``, ``TLS_AES_256_GCM_SHA384``; key bits."""

    version: str
    cipher: str
    bits: int

    def __str__(self) -> str:
        return f"{self.version} {self.cipher}"
