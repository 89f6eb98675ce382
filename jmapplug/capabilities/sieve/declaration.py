"""What the sieve capability declares: methods, Session objects, tables, blobs, push type, its service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jmapplug.capabilities.sieve import sieve_script, sieve_script_set
from jmapplug.capabilities.sieve.scripts import MAX_SCRIPT, URN, find_blob
from jmapplug.capabilities.sieve.service import SieveService
from jmapplug.capabilities.sieve.sieve_script_set import MAX_NAME
from jmapplug.hookspecs import AccountInfo, Capability, Schema
from jmapplug.jmap.methods import Limits, Method

FOLDER = Path(__file__).parent


def server_value(limits: Limits) -> dict[str, Any]:
    """RFC 9661 §1.2.1. The Sieve engine is each account's mail server's own; this is what stands before them."""
    return {"implementation": "jmapplug (ManageSieve)"}


def account_value(info: AccountInfo) -> dict[str, Any] | None:
    """RFC 9661 §1.2.1, with what the worker learnt from the server's capabilities."""
    if "sieve" not in info.offers:
        return None
    facts = info.facts.get(URN, {})
    return {
        "implementation": facts.get("implementation", ""),
        "maxSizeScriptName": MAX_NAME,
        "maxSizeScript": MAX_SCRIPT,
        "maxNumberScripts": None,
        "maxNumberRedirects": facts.get("maxNumberRedirects"),
        "sieveExtensions": facts.get("sieveExtensions", []),
        "notificationMethods": facts.get("notificationMethods"),
        "externalLists": facts.get("externalLists"),
    }


def service(account: Any) -> SieveService | None:
    return SieveService(account) if "sieve" in account.offers() else None


SIEVE = Capability(
    urn=URN,
    methods=(
        Method("SieveScript/get", sieve_script.get, URN),
        Method("SieveScript/set", sieve_script_set.set_, URN, writes=True),
        Method("SieveScript/query", sieve_script.query, URN),
        Method("SieveScript/validate", sieve_script.validate, URN),
    ),
    server_value=server_value,
    account_value=account_value,
    schema=Schema(
        own=((FOLDER / "own_1.sql").read_text(encoding="utf-8"),),
        cache=((FOLDER / "cache_1.sql").read_text(encoding="utf-8"),),
    ),
    types=("SieveScript",),
    blobs={"s": find_blob},
    service=service,
)
