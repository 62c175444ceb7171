"""A small Hugging Face hub on loopback, for tests: the real client works against it, and it can misbehave.

    with FakeHub() as hub:
        hub.add_repo("org/name", folder)
        hub.inject(lambda request: request.origin == "cdn", Fault(status=503, times=1))
        ...  # anything that takes an endpoint, or HF_ENDPOINT=hub.endpoint in a subprocess
        hub.requests  # what was asked, with which token, and how many body bytes were sent

As a process of its own: ``python -m tests.fakehub org/name=folder …`` prints the endpoint.
"""

from tests.fakehub.faults import Fault, Request
from tests.fakehub.repos import Repo
from tests.fakehub.server import FakeHub

__all__ = ["FakeHub", "Fault", "Repo", "Request"]
