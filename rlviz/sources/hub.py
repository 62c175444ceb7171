"""Checkpoints on the Hugging Face hub: one request for what there is, then headers only.

The revision is resolved to a commit once, and everything after asks for the commit.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

from rlviz.errors import NotFound, UnsupportedCheckpoint
from rlviz.sources.card import base_models
from rlviz.sources.checkpoint import Checkpoint
from rlviz.sources.header import HeaderEntry, parse_header, read_header_length, tensor_metas
from rlviz.sources.layout import INDEX, SINGLE, parse_index, tensors_by_shard
from rlviz.sources.listing import HubFile, Listing, list_model
from rlviz.sources.ranges import HubReader
from rlviz.sources.refs import ModelRef
from rlviz.sources.refusals import ADAPTER_FILES, no_weights
from rlviz.sources.transport import Patience, lasting_patience
from rlviz.types import Access, ModelIdentity, TensorMeta

MAX_JSON_BYTES = 256 << 20  # as for local files: an index of a million tensors has about 100 MB
_HEADER_GUESS_BYTES = 64 * 1024  # holds the whole header of a single-file model of about 500 tensors
_BYTES_PER_ENTRY = 120  # of a header, beside the tensor's name
_HEADERS_AT_ONCE = 8
OPENING = Patience()
# someone watches the text field
_TYPING = Patience(attempts=2, first_wait_s=0.2, longest_rate_limit_s=1.0, connect_s=3.0, read_s=6.0)


@dataclass(frozen=True, slots=True)
class HubInfo:
    """What one request tells about a model, for a form that answers while someone types.

    `nbytes` counts the safetensors files and is 0 where there are none; `dtype` is the most frequent element type
    as a safetensors code, where the hub knows; `base_model` is what the card names.
    """

    repo_id: str
    commit: str
    gated: bool
    private: bool
    nbytes: int
    dtype: str | None
    base_model: str | None


def open_hub(
    ref: ModelRef,
    *,
    token: str | Literal[False] | None = None,
    endpoint: str | None = None,
    cancel: threading.Event | None = None,
    patience: Patience | None = None,
) -> Checkpoint:
    """Open a model on the hub: metadata and headers are read (about 100 kB), no weight is.

    Parameters
    ----------
    ref : ModelRef
        Of kind "hub".
    token : str or False, optional
        None takes the token of the environment (HF_TOKEN or the stored login); False asks as nobody.
    endpoint : str, optional
        None takes HF_ENDPOINT, or huggingface.co.
    cancel : threading.Event, optional
        Once set, reads under way end in `Cancelled`.
    patience : Patience, optional
        How long to try; by default five times to open the model, and then as `lasting_patience` says.

    Raises
    ------
    NotFound, Gated, Offline, Unavailable
        With the reason and the next step.
    UnsupportedCheckpoint
        Where there are no safetensors weights, or they are broken.
    """
    opening, reading = patience or OPENING, patience or lasting_patience()
    listing = list_model(ref, token, endpoint, opening, cancel)
    sizes = {path: file.size for path, file in listing.files.items()}
    reader = HubReader(listing.model, listing.commit, sizes, cancel=cancel, patience=opening)
    shards, weight_map = _shards(listing, ref, reader)
    config, entries = _config_and_headers(listing, ref, reader, shards, weight_map)
    tensors = _tensors(ref, entries, weight_map)
    pinned = replace(ref, location=listing.model.repo_id, revision=listing.commit)
    nbytes = sum(listing.files[shard].size for shard in shards)
    access: Access = "private" if listing.info.private else "gated" if listing.info.gated else "public"
    identity = ModelIdentity(str(ref), str(pinned), listing.commit, nbytes, shareable=True, access=access)
    reader.patience = reading
    shard_ids = {shard: listing.files[shard].content_id for shard in shards}
    return Checkpoint(identity, tensors, shard_ids, reader, config, listing.card)


def peek(
    ref: ModelRef,
    *,
    token: str | Literal[False] | None = None,
    endpoint: str | None = None,
    patience: Patience = _TYPING,
) -> HubInfo:
    """What the hub says about a model, in one request and by default a few seconds; raises as `open_hub` does.

    A gated model is seen here without its licence: `gated` says that reading it may be refused.
    """
    listing = list_model(ref, token, endpoint, patience)
    names = _names_in(listing.files, ref.subfolder)
    weights = [names[name] for name in names if name.endswith(".safetensors") and name not in ADAPTER_FILES]
    if SINGLE in names:
        weights = [names[SINGLE]]
    elif INDEX in names:  # which files it lists would cost a request; those of the same series are them
        weights = [path for path in weights if re.search(r"(^|/)model-\d+-of-\d+\.safetensors$", path)] or weights
    info = listing.info
    parameters: Mapping[str, int] = info.safetensors.parameters if info.safetensors else {}
    return HubInfo(
        repo_id=listing.model.repo_id,
        commit=listing.commit,
        gated=bool(info.gated),
        private=bool(info.private),
        nbytes=sum(listing.files[path].size for path in weights),
        dtype=max(parameters, key=lambda code: parameters[code]) if parameters else None,
        base_model=next((name for name in base_models(listing.card) if name != listing.model.repo_id), None),
    )


# --- files ------------------------------------------------------------------------------------------------------


def _names_in(files: Mapping[str, HubFile], subfolder: str) -> dict[str, str]:
    """File name to path, of the files right inside the folder ("" is the root)."""
    prefix = f"{subfolder}/" if subfolder else ""
    return {p[len(prefix) :]: p for p in files if p.startswith(prefix) and "/" not in p[len(prefix) :]}


def _shards(listing: Listing, ref: ModelRef, reader: HubReader) -> tuple[tuple[str, ...], dict[str, str] | None]:
    """Paths of the weight files, and the index (tensor to path) where there is one; the choice of `layout`."""
    names = _names_in(listing.files, ref.subfolder)
    if not names:
        raise NotFound(str(ref), f"the model has no folder {ref.subfolder!r}", f"See {listing.model.page}.")
    if SINGLE in names:
        return (names[SINGLE],), None
    if INDEX in names:
        weight_map = parse_index(_read_small(listing, reader, names[INDEX]), f"{ref} {INDEX}")
        missing = sorted(set(weight_map.values()) - set(names))
        if missing:
            problem = f"{INDEX} names {missing[0]}, which is not there"
            raise UnsupportedCheckpoint(str(ref), problem, "The upload is incomplete; try another revision.")
        paths = {tensor: names[shard] for tensor, shard in weight_map.items()}
        return tuple(sorted(set(paths.values()))), paths
    others = sorted(path for name, path in names.items() if name.endswith(".safetensors") and name not in ADAPTER_FILES)
    if not others:
        raise no_weights(ref, listing.model.page, tuple(listing.files), base_models(listing.card))
    return tuple(others), None


def _read_small(listing: Listing, reader: HubReader, path: str) -> bytes:
    if listing.files[path].size > MAX_JSON_BYTES:
        raise UnsupportedCheckpoint(
            f"{listing.model.ref} {path}", "is far too large for a JSON file", "Ask its author."
        )
    return reader.read_file(path)


def _read_config(listing: Listing, ref: ModelRef, reader: HubReader) -> dict[str, Any]:
    """config.json beside the weights; empty where there is none."""
    path = _names_in(listing.files, ref.subfolder).get("config.json")
    if path is None:
        return {}
    broken = UnsupportedCheckpoint(f"{ref} {path}", "is not a JSON table", "Try another revision.")
    try:
        config: Any = json.loads(_read_small(listing, reader, path))
    except (ValueError, RecursionError) as error:
        raise broken from error
    if not isinstance(config, dict):
        raise broken
    return config


# --- headers ----------------------------------------------------------------------------------------------------


def _config_and_headers(
    listing: Listing, ref: ModelRef, reader: HubReader, shards: tuple[str, ...], weight_map: dict[str, str] | None
) -> tuple[dict[str, Any], dict[str, dict[str, HeaderEntry]]]:
    """Read side by side; the first error ends the others."""
    guesses = dict.fromkeys(shards, _HEADER_GUESS_BYTES if weight_map is None else 4096)
    for tensor, path in (weight_map or {}).items():
        guesses[path] += len(tensor) + _BYTES_PER_ENTRY

    def header(path: str) -> dict[str, HeaderEntry]:
        return _read_header(reader, path, listing.files[path].size, guesses[path], f"{ref} {path}")

    with ThreadPoolExecutor(_HEADERS_AT_ONCE, thread_name_prefix="rlviz-headers") as threads:
        config = threads.submit(_read_config, listing, ref, reader)
        headers = {path: threads.submit(header, path) for path in shards}
        try:
            return config.result(), {path: future.result() for path, future in headers.items()}
        except BaseException:
            reader.close()
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def _read_header(reader: HubReader, path: str, size: int, guess: int, label: str) -> dict[str, HeaderEntry]:
    """One request where the guess covers the header, else two."""
    start = _read(reader, path, 0, min(guess, size))
    length = read_header_length(start[:8], size, label)
    raw = start[8 : 8 + length]
    if len(raw) < length:
        raw += _read(reader, path, len(start), 8 + length - len(start))
    return parse_header(raw, size, label)


def _read(reader: HubReader, path: str, offset: int, nbytes: int) -> bytes:
    buffer = bytearray(nbytes)
    reader.read_into(path, offset, memoryview(buffer))
    return bytes(buffer)


def _tensors(
    ref: ModelRef, entries: Mapping[str, dict[str, HeaderEntry]], weight_map: dict[str, str] | None
) -> dict[str, TensorMeta]:
    tensors: dict[str, TensorMeta] = {}
    for shard, part in tensors_by_shard(entries, weight_map, str(ref)).items():
        tensors |= tensor_metas(part, shard)
    if not tensors:
        raise UnsupportedCheckpoint(str(ref), "the weight files hold no tensor", "Ask its author.")
    return tensors
