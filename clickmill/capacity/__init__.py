"""How many replicas a load takes: queues in closed form, measured figures in, a plan out.

May import `clickmill.errors`; numpy and scipy only, no clock and no file.
"""

from clickmill.capacity.measured import Loaded, Measured, Point
from clickmill.capacity.plan import Demand, Plan, plan
from clickmill.capacity.queueing import Replica, erlang_b, erlang_c

__all__ = ["Demand", "Loaded", "Measured", "Plan", "Point", "Replica", "erlang_b", "erlang_c", "plan"]
