"""What a hub's refusal means for the person who asked: one error per next step."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx2
import urllib3

from rlviz.errors import Gated, InvalidInput, NotFound, Offline, RlvizError, Unavailable, UnsupportedCheckpoint
from rlviz.mode import hosted
from rlviz.sources.refs import ModelRef
from rlviz.sources.transport import Setback

ADAPTER_FILES = frozenset({"adapter_config.json", "adapter_model.safetensors"})
_OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx")
TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class HubModel:
    """Which model is asked for, where and as whom."""

    ref: str
    repo_id: str
    revision: str | None
    endpoint: str
    token: str | None = field(default=None, repr=False)

    @property
    def page(self) -> str:
        """The model's page, where a licence is accepted and revisions are listed."""
        return f"{self.endpoint}/{self.repo_id}"

    @property
    def authorization(self) -> dict[str, str]:
        """The header for requests to the endpoint's own origin, and to no other."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


def unreachable(model: HubModel, url: str, error: Exception) -> Setback:
    """The network failed on the way to `url`, of which only the host is told: the rest may be a signed link."""
    problem = f"{urlsplit(url).hostname} cannot be reached ({type(error).__name__})"
    return Setback(
        Offline(model.ref, problem, "Check the connection and try again, or give a local folder."), outage=True
    )


def busy(model: HubModel, status: int, headers: Mapping[str, str]) -> Setback:
    """A transient status: try again, after the wait that the server asks for."""
    wait_s = _asked_wait_s(headers)
    if status == 429:
        when = f"in {wait_s:.0f} s" if wait_s else "in a few minutes"
        step = f"Try again {when}" + (
            "." if model.token else f", or {_token_step()}: with a token the limit is higher."
        )
        return Setback(Unavailable(model.ref, "the hub limits the rate of requests (429)", step), wait_s, outage=True)
    problem = f"the hub keeps answering {status}"
    return Setback(Unavailable(model.ref, problem, "Try again in a few minutes."), wait_s, outage=True)


def offline_mode(ref: str) -> Offline:
    """The error while HF_HUB_OFFLINE is set."""
    return Offline(ref, "the hub is not asked while HF_HUB_OFFLINE is set", "Unset it, or give a local folder.")


def raise_for_hub(model: HubModel, url: str, response: urllib3.BaseHTTPResponse) -> None:
    """Return for an answer or a redirect of the hub; else raise a `Setback` or the error with the next step."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import hf_raise_for_status

    # its status and headers in the type that the hub's client tells refusals apart by
    told = httpx2.Response(response.status, headers=dict(response.headers), request=httpx2.Request("GET", url))
    try:
        hf_raise_for_status(told)
        return
    except HfHubHTTPError as refusal:
        error = explain(model, refusal)
    raise error


def explain(model: HubModel, error: Exception) -> RlvizError | Setback:
    """An exception of the hub's client as ours."""
    from huggingface_hub import errors

    if isinstance(error, httpx2.TransportError):
        return unreachable(model, model.endpoint, error)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return offline_mode(model.ref)
    if isinstance(error, errors.HFValidationError):
        return InvalidInput(model.ref, "this is not a model id of the form org/name", "Check the spelling.")
    if isinstance(error, errors.HfHubHTTPError):
        return _by_code(model, error) or _by_status(model, error.response)
    problem = f"{model.endpoint} does not answer like a Hugging Face hub ({type(error).__name__})"
    return Unavailable(model.ref, problem, "Check the connection and HF_ENDPOINT.")


def _by_code(model: HubModel, error: Exception) -> RlvizError | None:
    """The refusals the hub tells apart by X-Error-Code; gated first, because the client derives it from not found."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        step = f"Accept the licence at {model.page} and {_token_step()}, both with the same account."
        return Gated(model.ref, "the model is gated: its licence must be accepted first", step)
    if isinstance(error, errors.RepositoryNotFoundError):
        may_read = "check that the token may read it" if model.token else f"for a private model {_token_step()}"
        problem = "this model does not exist on the hub, or is private, or needs a token"
        return NotFound(model.ref, problem, f"Check the spelling; {may_read}.")
    if isinstance(error, errors.RevisionNotFoundError):
        problem = f"the model has no revision {model.revision or 'main'!r}"
        return NotFound(model.ref, problem, f"Use a branch, tag or commit listed at {model.page}.")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return NotFound(model.ref, "a file that the hub lists is missing", f"Look at the files at {model.page}.")
    if isinstance(error, errors.DisabledRepoError):
        return Unavailable(model.ref, "the hub has disabled access to this model", f"See {model.page}.")
    return None


def _by_status(model: HubModel, response: httpx2.Response) -> RlvizError | Setback:
    status = response.status_code
    if status in TRANSIENT_STATUS:
        return busy(model, status, response.headers)
    if status in {401, 403}:
        if not model.token:
            step = f"For a private or gated model {_token_step()}."
        elif hosted():
            step = "Sign out, or sign in with another account."
        else:
            step = "Check HF_TOKEN, or unset it to read public models."
        return Unavailable(model.ref, f"the hub refuses access ({status})", step)
    return Unavailable(model.ref, f"the hub answers {status}", "Try again later, or give a local folder.")


def _token_step() -> str:
    """How whoever reads the sentence gives a token: on a host, that is not whoever runs it."""
    return "sign in or paste a token" if hosted() else "set HF_TOKEN"


def _asked_wait_s(headers: Mapping[str, str]) -> float | None:
    """Seconds from RateLimit (where nothing remains) or Retry-After; None where neither tells."""
    from huggingface_hub.utils import parse_ratelimit_headers

    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    retry_after = headers.get("Retry-After")
    if retry_after is None:
        return None
    if retry_after.isdigit():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None


def no_weights(ref: ModelRef, page: str, files: Sequence[str], bases: Sequence[str]) -> UnsupportedCheckpoint:
    """Where the folder holds no safetensors weights: what there is instead, and what to do about it."""
    prefix = f"{ref.subfolder}/" if ref.subfolder else ""
    names = sorted(p.removeprefix(prefix) for p in files if p.startswith(prefix) and "/" not in p.removeprefix(prefix))
    if ADAPTER_FILES & set(names):
        base = f" {bases[0]}" if bases else ""
        step = f"Merge it into its base{base} (merge_and_unload), save that and give the folder."
        return UnsupportedCheckpoint(str(ref), "this is an adapter, not a whole checkpoint", step)
    folders = sorted({path.rpartition("/")[0] for path in files if path.endswith(".safetensors")})
    if folders:
        problem = f"there are no safetensors weights here, but in {_shown(folders)}"
        return UnsupportedCheckpoint(str(ref), problem, f"Write {replace(ref, subfolder=folders[0])}.")
    others = [name for name in names if name.endswith(_OTHER_WEIGHTS)]
    problem = f"there are no safetensors weights, only {_shown(others or names)}"
    step = "Load it with transformers, save it with save_pretrained (which writes safetensors) and give the folder."
    if not others:
        step = f"See {page}."
    elif all(name.endswith(".gguf") for name in others):
        step = "Give the model that the GGUF files were made from."
    return UnsupportedCheckpoint(str(ref), problem, step)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
