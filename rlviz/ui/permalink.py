"""Links: from what a page shows to a short name in the store, and back.

A short link (``?r=<name>``) is opened by going to the page it names with every choice in the query. What a link asks
for and this release or this store does not have is said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn
from urllib.parse import urlencode, urlsplit, urlunsplit

import streamlit as st

from rlviz import api, links
from rlviz.bins import ETA_EDGES, TAU_EDGES
from rlviz.citation import measured_by, outdated
from rlviz.errors import RlvizError
from rlviz.links import View
from rlviz.metrics import METRICS
from rlviz.result import PairResult
from rlviz.sources import ModelRef
from rlviz.types import LENSES, ModelIdentity
from rlviz.ui.controls import ALL_RANKS, ALPHA_CHOICES
from rlviz.ui.loading import Pair, linked_keys, shelf, store
from rlviz.ui.state import BUDGETS_MIN, DEFAULTS, LINEAR, RESULT, choice, edge_texts, models
from rlviz.ui.text import escaped
from rlviz.ui.visitor import visitor

PARAMETER: Final = "r"
COMPARE: Final = "compare"  # the start page, whose own path is empty
_NOTES, _LOOKED, _PAGE = "link_notes", "link_looked_at", "page_path"
_RESULT_PREFIX = re.compile(r"[0-9a-f]{8,64}")
_BY_TITLE = {metric.title: key for key, metric in METRICS.items()}


def _never(value: str) -> bool:
    return not value


def _on_offer(key: str) -> bool:
    """Whether a map can be drawn of the metric: nulls, limits and intervals stand beside others only."""
    return key in METRICS and not METRICS[key].companion


# What a link may choose, apart from models: the word for it, and whether a value is known.
_KNOWN: Mapping[str, tuple[str, Callable[[str], bool]]] = {
    "metric": ("the metric", _on_offer),
    "lens": ("the lens", LENSES.__contains__),
    "coverage": ("the tensors", (DEFAULTS["coverage"], LINEAR).__contains__),
    "k": ("k", ALL_RANKS.__contains__),
    "alpha": ("α", ALPHA_CHOICES.__contains__),
    "budget": ("the time budget", BUDGETS_MIN.__contains__),
    "eta": ("η", edge_texts(ETA_EDGES).__contains__),
    "tau": ("τ", edge_texts(TAU_EDGES).__contains__),
    "tensor": ("the tensor", bool),  # the picker knows which there are
}


def open_link(pages: Sequence[Any], here: Any) -> None:
    """First thing of a run: open the short link in the URL, or look at what a long one asks for.

    `pages` are the `st.Page`s there are, `here` the one that was asked for.
    """
    st.session_state[_PAGE] = here.url_path or COMPARE
    by_path = {page.url_path or COMPARE: page for page in pages}
    if name := st.query_params.get(PARAMETER):
        _open_short(name.strip(), by_path, here)
    elif not st.session_state.get(_LOOKED):
        _look_at_long(here)
    st.session_state[_LOOKED] = True


def render_link_notes(pairs: Sequence[Pair]) -> None:
    """What the link that led here asked for and did not get, and which kept results are shown in place of new ones."""
    asked, notes = st.session_state.get(_NOTES, (models(), ()))
    if notes and asked == models():
        st.info("  \n".join(escaped(note) for note in notes), icon=":material/link:")
    shown = [pair for pair in pairs if pair.result is not None and pair.key in linked_keys()]
    for pair in shown:
        assert pair.result is not None
        st.info(escaped(_why_kept(pair.result)), icon=":material/history:")
    if shown:
        st.button("Measure with this release", key="measure_anew", on_click=_forget_kept)
    for key in linked_keys():
        if shelf().stamp(key) is None:
            st.info(f"The result {key[:12]} that this link names is not kept here.", icon=":material/link:")


def view_of(pairs: Sequence[Pair]) -> View:
    """What the page shows now, as a link keeps it."""
    identities = [_identities(pair) for pair in pairs]
    return View(
        page=st.session_state[_PAGE],
        base=identities[0][0],
        tuned=tuple(tuned for _, tuned in identities),
        results=tuple(pair.key if pair.result is not None else "" for pair in pairs),
        choices=chosen(),
    )


def chosen() -> dict[str, str]:
    """Every choice that is not the default, by stable key: a metric by its key."""
    texts = {key: choice(key) for key in _KNOWN if choice(key) != DEFAULTS[key]}
    return texts | ({"metric": _BY_TITLE[texts["metric"]]} if texts.get("metric") in _BY_TITLE else {})


def short_link(view: View) -> str:
    """The address that opens a kept view on this host; keeps it."""
    return _address("", [(PARAMETER, links.keep(store(), view))])


def long_link(view: View) -> str:
    """The address that opens the same on any host: everything is in the query."""
    path = "" if view.page == COMPARE else view.page
    return _address(path, [*_models_of(view), *view.choices.items(), *_kept_results(view)])


def opening(view: View) -> list[tuple[str, str]]:
    """What a page is given to show the view, in the words of its widgets."""
    texts, _ = understood(view.choices)
    return [*_models_of(view), *texts.items(), *_kept_results(view)]


def understood(choices: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Choices as widgets hold them, and a sentence on each that this release does not know."""
    texts: dict[str, str] = {}
    notes: list[str] = []
    for key, asked in choices.items():
        value = _BY_TITLE.get(asked, asked) if key == "metric" else asked
        word, known = _KNOWN.get(key, (key[:80], _never))
        if known(value):
            texts[key] = METRICS[value].title if key == "metric" else value
        else:
            instead = f"; shown instead: {DEFAULTS[key]}" if key in _KNOWN else ""
            notes.append(f"The link asks for {word} “{asked[:80]}”, which this release does not know{instead}.")
    return texts, notes


def take_over(query: Sequence[tuple[str, str]]) -> None:
    """Make these the choices of every page, and every other one its default; before any widget is drawn."""
    st.session_state["tuned"] = [value for key, value in query if key == "tuned"]
    st.session_state.update({**DEFAULTS, **{key: value for key, value in query if key in DEFAULTS}})


def view_of_result(result: PairResult) -> View:
    """A kept result with every choice at its default."""
    made_by = result.provenance.rlviz if result.provenance else links.__version__
    return View(COMPARE, result.base, (result.tuned,), (result.key,), {}, made_by, measured_by(result))


def _open_short(name: str, pages: Mapping[str, Any], here: Any) -> None:
    try:
        view = _found(name)
    except RlvizError as error:
        _stay([str(error)])
        return
    if view is None:
        _stay([f"No link {name[:64]} is kept here. Ask whoever sent it for the long link, or look in the Library."])
        return
    _, notes = understood(view.choices)
    target = pages.get(view.page)
    if target is None:
        notes.append(f"The link leads to a page “{view.page[:80]}”, which is no more; this is the start page.")
    if here.url_path:  # a page asked for by its own address is kept
        target = here
    notes += [note for tuned, key in zip(view.tuned, view.results, strict=False) if (note := _lost(view, tuned, key))]
    asked = (view.base.pinned_ref, tuple(tuned.pinned_ref for tuned in view.tuned))
    st.session_state[_NOTES] = (asked, tuple(notes))
    _go(target or pages[COMPARE], opening(view))


def _stay(notes: Sequence[str]) -> None:
    del st.query_params[PARAMETER]
    st.session_state[_NOTES] = (models(), tuple(notes))


def _found(name: str) -> View | None:
    """The view of that name, or of the one result whose key begins so, if this visitor may see its models."""
    kept = shelf()
    view = links.find(store(), name)
    if view is not None:
        return view if kept.visible(*view.identities) else None
    keys = kept.find(name) if _RESULT_PREFIX.fullmatch(name) else ()
    result = kept.result(keys[0]) if len(keys) == 1 else None
    return view_of_result(result) if result is not None else None


def _look_at_long(here: Any) -> None:
    """A long link may name a metric by its key, where the widget wants the title; and things nobody knows any more."""
    asked = {key: st.query_params[key] for key in _KNOWN if key in st.query_params}
    texts, notes = understood(asked)
    if notes:
        base, tuned = models()
        st.session_state[_NOTES] = ((base, tuned), tuple(notes))
    if any(texts.get(key, value) != value for key, value in asked.items()):
        others = [(k, v) for k in st.query_params if k not in asked for v in st.query_params.get_all(k)]
        _go(here, [*others, *texts.items()])


def _lost(view: View, tuned: ModelIdentity, key: str) -> str:
    """A sentence where the result a link was made of is not kept any more."""
    if not key or shelf().stamp(key) is not None:
        return ""
    now = links.versions()
    changed = [f"{name} v{then}" for name, then in view.probes.items() if now.get(name) != then]
    by = f"; it was measured by rlviz {view.rlviz} ({', '.join(changed)}), before how that is measured changed"
    return f"The result for {tuned.label} that this link shows is no longer kept here{by if changed else ''}."


def _why_kept(result: PairResult) -> str:
    changed = outdated(result)
    if not changed:
        return (
            f"{result.tuned.label}: the kept result {result.key[:12]}, measured with settings of its own "
            "(some tensors or probes only, or a time budget)."
        )
    release = result.provenance.rlviz if result.provenance else "an unfinished run"
    then = ", ".join(f"{name} v{version}" for name, (version, _) in changed.items())
    now = ", ".join(
        f"v{version}" if len(changed) == 1 else f"{name} v{version}" for name, (_, version) in changed.items()
    )
    return f"{result.tuned.label}: measured by rlviz {release} ({then}); this release measures with {now}."


def _forget_kept() -> None:
    st.session_state[RESULT] = ""


def _identities(pair: Pair) -> tuple[ModelIdentity, ModelIdentity]:
    known = pair.result or pair.preview
    return (known.base, known.tuned) if known else (_unread(pair.base), _unread(pair.tuned))


def _unread(text: str) -> ModelIdentity:
    """A model of which nothing was read yet: as typed, and not known to be anybody's to see."""
    ref = ModelRef.parse(text, look_here=False)
    return ModelIdentity(text, text, ref.revision or "", 0, ref.kind != "local", "private")


def _models_of(view: View) -> list[tuple[str, str]]:
    return [("base", view.base.pinned_ref), *(("tuned", tuned.pinned_ref) for tuned in view.tuned)]


def _kept_results(view: View) -> list[tuple[str, str]]:
    """The results to show as they are kept: those that asking for the pair would not find."""
    keys = [
        key
        for tuned, key in zip(view.tuned, view.results, strict=False)
        if key and key != _located(view, tuned) and shelf().stamp(key) is not None
    ]
    return [(RESULT, ",".join(keys))] if keys else []


def _located(view: View, tuned: ModelIdentity) -> str:
    """The key that a page finds the pair under; empty where a model cannot be reached any more."""
    wanted = api.request(budget_minutes=BUDGETS_MIN.get(view.choices.get("budget", "")))
    try:
        return api.locate(view.base.pinned_ref, tuned.pinned_ref, wanted, visitor())
    except RlvizError:
        return ""


def _go(page: Any, query: Sequence[tuple[str, str]]) -> NoReturn:
    """Show a page with these choices, every other one at its default.

    At the start of a session through the query, which its widgets take over. Later they are bound to it, and it may
    not be set: then through the session's state, and on the page where the reader is.
    """
    if not st.session_state.get(_LOOKED):
        st.session_state[_LOOKED] = True
        asked = {key: [value for other, value in query if other == key] for key, _ in query}
        st.switch_page(page, query_params=asked)
    take_over(query)
    if PARAMETER in st.query_params:
        del st.query_params[PARAMETER]
    st.rerun()


def _address(path: str, query: Sequence[tuple[str, str]]) -> str:
    here = urlsplit(st.context.url or "")
    page = "" if st.session_state[_PAGE] == COMPARE else st.session_state[_PAGE]
    root = here.path.removesuffix("/").removesuffix(page).removesuffix("/")
    return urlunsplit((here.scheme, here.netloc, f"{root}/{path}", urlencode(query), ""))
