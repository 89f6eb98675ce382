"""Upload and download (RFC 8620 §6). Blobs are files: they never travel in frames."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, request, send_file

from jmapplug.errors import storage_error
from jmapplug.jmap.errors import RequestError
from jmapplug.web import bodies, front
from jmapplug.web.answers import NO_STORE, json_answer
from jmapplug.web.auth import Principal
from jmapplug.web.front import Front
from jmapplug.workers.errors import NotFound

routes = Blueprint("blobs", __name__)

_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}(?:\s*;[\x20-\x7e]{0,200})?")
_BLOB_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
_FOREVER = "private, immutable, max-age=31536000"


def _own(principal: Principal, account_id: str) -> None:
    """Ownership, on every route: a foreign account is as unknown as one that does not exist."""
    if account_id not in principal.accounts:
        raise NotFound("no such account")


@routes.post("/upload/<account_id>")
@routes.post("/upload/<account_id>/")
def upload(account_id: str) -> Response:
    """RFC 8620 §6.1. 200, never 201: real clients refuse that. Expires after 7 days unless used."""
    here = front.current()
    principal = here.auth.principal(request)
    _own(principal, account_id)
    with here.uploads.one(principal.key):
        type_ = media_type(request.headers.get("Content-Type")) or "application/octet-stream"
        blob_id = f"f-{uuid.uuid4()}"
        folder = Path(here.client.call(account_id, "upload_path", retry=True)[0]["path"])
        with _temporary(folder / f"{blob_id}.part") as target:
            size = _store(target, here)
            header = {"id": blob_id, "path": str(target), "type": type_, "size": size}
            here.client.call(account_id, "upload", header)
    return json_answer({"accountId": account_id, "blobId": blob_id, "type": type_, "size": size}, headers=NO_STORE)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A file that is gone afterwards unless the worker has taken it over under its own name."""
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _store(target: Path, here: Front) -> int:
    """Raises RequestError limit, StorageError."""
    limit = here.limits.max_size_upload
    size = 0
    try:
        with open(target, "xb", opener=_private) as file:
            for piece in bodies.pieces(request.environ, limit):
                size += len(piece)
                file.write(piece)
    except bodies.BodyTooLarge:
        raise RequestError("limit", f"an upload may have {limit} octets", status=413, limit="maxSizeUpload") from None
    except OSError as error:
        raise storage_error(error) or error from error
    return size


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@routes.get("/raw/<account_id>/<blob_id>/<path:name>")
def download(account_id: str, blob_id: str, name: str) -> Response:
    """RFC 8620 §6.2: ``type`` sets the Content-Type; never shown inline; ranges, ETag."""
    here = front.current()
    principal = here.auth.principal(request)
    _own(principal, account_id)
    if not _BLOB_ID.fullmatch(blob_id):
        raise NotFound("no such blob")
    type_ = media_type(request.args.get("type"))
    for last in (False, True):
        blob = here.client.call(account_id, "blob", {"blob_id": blob_id}, retry=True)[0]
        try:
            return _send(blob, blob_id, type_ or blob.get("type") or "application/octet-stream", name)
        except FileNotFoundError:
            # Evicted between the answer and here: asking again brings it back.
            if last:
                raise NotFound("no such blob") from None
    raise AssertionError("unreachable")


def _send(blob: dict[str, Any], blob_id: str, type_: str, name: str) -> Response:
    response = send_file(
        blob["path"],
        mimetype=type_,
        as_attachment=True,
        download_name=_file_name(name),
        conditional=True,
        etag=blob_id,
        last_modified=None,
    )
    response.headers["Content-Type"] = type_
    response.headers["Cache-Control"] = _FOREVER
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response.headers.pop("Last-Modified", None)
    return response


def _file_name(name: str) -> str:
    """A name for Content-Disposition: no path, no control characters."""
    return "".join(char for char in name.replace("/", "_") if char.isprintable())[:200] or "blob"


def media_type(value: str | None) -> str | None:
    """A media type as given, if it is one; None for anything that must not reach a header."""
    if value is None or not _TYPE.fullmatch(value.strip()):
        return None
    return value.strip()
