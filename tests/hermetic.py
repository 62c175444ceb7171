"""Loaded for every test, doctests included: no test reads or writes the user's store, token or caches."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

_HOME = Path(tempfile.mkdtemp(prefix="rlviz-tests-"))
os.environ["RLVIZ_STORE"] = str(_HOME / "store")
os.environ["HF_HOME"] = str(_HOME / "hf")
# The discard port: a test that forgets to name the fake hub fails at once instead of reaching out.
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
for _name in (
    "HF_TOKEN",
    "HF_HUB_OFFLINE",
    "RLVIZ_MODE",
    "RLVIZ_TOKEN_REPOS",
    "OAUTH_CLIENT_ID",
    "RLVIZ_WORKERS",
    "RLVIZ_MEMORY_MB",
    "RLVIZ_PATIENCE",
    "RLVIZ_CONNECTIONS",
    "RLVIZ_DEVICE",
    "RLVIZ_BACKEND",
):
    os.environ.pop(_name, None)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
