"""Start-up of a host: app.py with sign-in, runs taken up again. `make serve` and the Dockerfile start this."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import streamlit as st

from rlviz.ui import hosting
from rlviz.ui.loading import jobs

if not os.environ.get("RLVIZ_MODE"):  # empty, as `-e RLVIZ_MODE=` makes it, must not open the host's folders either
    os.environ["RLVIZ_MODE"] = "hosted"


@asynccontextmanager
async def lifespan(_: st.App) -> AsyncGenerator[None]:
    """Go on with what a stopped server left, without waiting for a visitor."""
    jobs()
    yield


app = st.App(
    "app.py",
    secrets=hosting.sign_in_settings(os.environ),
    middleware=hosting.middleware(),
    lifespan=lifespan,
)
