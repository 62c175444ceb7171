"""Plans and runs comparisons: what to read in which order, under which memory, into which store."""

from rlviz.engine.bulletin import Progress
from rlviz.engine.plan import Plan, Step, plan
from rlviz.engine.request import Request
from rlviz.engine.run import run

__all__ = ["Plan", "Progress", "Request", "Step", "plan", "run"]
