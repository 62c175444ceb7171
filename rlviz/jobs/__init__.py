"""Runs asked of a host: queued, watched, cancelled, resumed."""

from rlviz.jobs.registry import UNDER_WAY, Job, Jobs, JobStatus, State

__all__ = ["UNDER_WAY", "Job", "JobStatus", "Jobs", "State"]
