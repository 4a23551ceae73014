"""Calling the webhooks of the configuration (`[[webhook]]`), one request an event.

Promises: a request is signed as the Standard Webhooks specification says (https://www.standardwebhooks.com,
version 1.0.0): HMAC-SHA-256 over `id.timestamp.body` under the shared secret, in `webhook-signature`, beside
`webhook-id` (the same at every attempt) and `webhook-timestamp` (of this attempt). It counts as taken with a
status of 2xx, and with no other; no redirection is followed, and of the answer only the status is looked at.

Leaves out: what is told (the core), and trying again (the core's outbox).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gateway.config import WebhookSection
from gateway.courier.relay import tls_context
from gateway.process.secret import read_secret
from vault.errors import PlaceError

TIMEOUT: Final = 30.0  # seconds
SECRET_PREFIX: Final = "whsec_"  # noqa: S105  what stands before one
SECRET_SIZES: Final = range(24, 65)  # bytes (the specification's)


def call(
    webhook: WebhookSection, resolve: Callable[[str], Path], event_id: str, body: bytes
) -> None:
    """Send an event; it was taken on return (raises PlaceError)."""
    subject = f"webhook {webhook.name}"
    key = _secret(read_secret(resolve(webhook.secret)), subject)
    timestamp = str(int(time.time()))
    headers = {
        "content-type": "application/json",
        "user-agent": "strongroom",
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{signature(key, event_id, timestamp, body)}",
    }
    url = urlsplit(webhook.url)
    host = url.hostname or ""
    connection: http.client.HTTPConnection
    if url.scheme == "https":
        context = tls_context(webhook.tls_ca and str(resolve(webhook.tls_ca)), subject)
        connection = http.client.HTTPSConnection(host, url.port, timeout=TIMEOUT, context=context)
    else:
        connection = http.client.HTTPConnection(host, url.port, timeout=TIMEOUT)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    try:
        connection.request("POST", path, body, headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise PlaceError(f"{subject}: expected it to answer, found {why}") from error
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise PlaceError(f"{subject}: expected a status of 2xx, found {status}")


def signature(key: bytes, event_id: str, timestamp: str, body: bytes) -> str:
    """The signature of a request, base64."""
    signed = f"{event_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode("ascii")


def _secret(text: str, subject: str) -> bytes:
    try:
        key = base64.b64decode(text.strip().removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) not in SECRET_SIZES:
        raise PlaceError(
            f"{subject}: expected a secret of {SECRET_SIZES[0]} to {SECRET_SIZES[-1]} bytes in base64"
            " (`openssl rand -base64 32`), found another"
        )
    return key
