"""urn:ietf:params:jmap:blob (RFC 9404): blobs made and read inside a Request, and who refers to them."""

from __future__ import annotations

from typing import Any

from jmapplug.capabilities.blob import blob_get, blob_lookup, blob_upload
from jmapplug.hookspecs import AccountInfo, Capability, hookimpl
from jmapplug.jmap.methods import Limits, Method

URN = "urn:ietf:params:jmap:blob"


def account_value(info: AccountInfo) -> dict[str, Any]:
    """RFC 9404 §3.1."""
    return {
        "maxSizeBlobSet": Limits().max_size_upload,
        "maxDataSources": blob_upload.MAX_SOURCES,
        "supportedTypeNames": list(blob_lookup.TYPES),
        "supportedDigestAlgorithms": list(blob_get.DIGESTS),
    }


BLOB = Capability(
    urn=URN,
    methods=(
        # An upload changes nothing upstream, and a second run makes one more file that nobody refers to.
        Method("Blob/upload", blob_upload.upload, URN),
        Method("Blob/get", blob_get.get, URN),
        Method("Blob/lookup", blob_lookup.lookup, URN),
    ),
    account_value=account_value,
)


@hookimpl
def register_capabilities() -> list[Capability]:
    return [BLOB]
