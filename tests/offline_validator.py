"""Validates crates in a process that cannot reach any network: `offline_validator.py CACHE CRATE:SEVERITY ...`."""

import io
import json
import socket
import sys
from pathlib import Path
from typing import Any

CONTEXT = "https://w3id.org/ro/crate/1.1/context"


def refuse(*arguments: Any, **settings: Any) -> None:
    raise OSError("there is no network here")


def fill(cache: Path) -> None:
    """Answer what the validator asks the web for: the context of RO-Crate 1.1, which the rocrate library brings."""
    import requests
    import rocrate
    from requests_cache import CachedSession
    from urllib3.response import HTTPResponse

    content = (Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld").read_bytes()
    assert json.loads(content)["@id"] == CONTEXT, "this version of rocrate brings another context"
    response, headers = requests.Response(), {"Content-Type": "application/ld+json"}
    response.request, response.url = requests.Request("GET", CONTEXT).prepare(), CONTEXT
    response.status_code, response._content = 200, content
    response.headers.update(headers)
    response.raw = HTTPResponse(io.BytesIO(content), headers, status=200, preload_content=False)
    with CachedSession(str(cache), backend="sqlite", expire_after=-1) as session:
        session.cache.save_response(response)


def validate(crate: str, severity: str, cache: Path) -> dict[str, Any]:
    """Return how many checks were made, and which found something."""
    from rocrate_validator import services
    from rocrate_validator.models import Severity, ValidationSettings

    profile = {"profile_identifier": "provenance-run-crate", "requirement_severity": Severity[severity]}
    settings = ValidationSettings(rocrate_uri=crate, offline=True, cache_path=cache, **profile)
    result = services.validate(settings)
    issues = {(issue.check.identifier, issue.message) for issue in result.get_issues()}
    return {"passed": result.passed(), "checks": len(result.executed_checks), "issues": sorted(issues)}


def main(cache: Path, *wanted: str) -> None:
    socket.socket.connect = socket.getaddrinfo = refuse  # type: ignore[assignment,method-assign]
    fill(cache)
    print(json.dumps([validate(*each.rsplit(":", 1), cache) for each in wanted]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
