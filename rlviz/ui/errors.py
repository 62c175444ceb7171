"""One handler: every `RlvizError` becomes the sentence it is, wherever on a page it was raised."""

from __future__ import annotations

import errno
import logging
from collections.abc import Generator
from contextlib import contextmanager

import streamlit as st

from rlviz.errors import Gated, NotFound, Offline, RlvizError
from rlviz.ui.text import escaped

_NOT_WRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES})
_TITLES: tuple[tuple[type[RlvizError], str], ...] = (
    (Gated, "Licence needed"),
    (NotFound, "Not found"),
    (Offline, "Hub not reachable"),
)


@contextmanager
def sentences_for_errors() -> Generator[None]:
    """Show an `RlvizError` as a sentence; anything else is a bug: logged in full, named to the reader in short."""
    try:
        yield
    except RlvizError as error:
        render_error(error)
    except Exception as error:  # Streamlit's own control flow derives from BaseException and passes through
        logging.getLogger("rlviz").exception("a page failed")
        if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
            st.error(f"The store of this host cannot be written ({error.strerror}). What it holds can still be read.")
            return
        st.error("Something went wrong on our side; the details are in the server's log. Reload the page to try again.")


def render_error(error: RlvizError) -> None:
    """One error as the reader sees it."""
    title = next((text for kind, text in _TITLES if isinstance(error, kind)), "")
    body = escaped(str(error))
    st.error(f"**{title}.** {body}" if title else body)
