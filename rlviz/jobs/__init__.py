"""Runs asked of a host: queued, watched, cancelled, resumed."""

from rlviz.jobs.registry import Jobs
from rlviz.jobs.work import ALIVE, UNDER_WAY, JobStatus, Kind, Limits, State, Work

__all__ = ["ALIVE", "UNDER_WAY", "JobStatus", "Jobs", "Kind", "Limits", "State", "Work"]
