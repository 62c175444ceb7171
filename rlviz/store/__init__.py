"""Results on disk: content-addressed records (safetensors), manifests (JSON), tables (Parquet). No pickle."""

from rlviz.store.listing import Kept
from rlviz.store.store import Store, default_root

__all__ = ["Kept", "Store", "default_root"]
