"""The release loop on one machine: it collects observations and alerts, asks the release machine, and carries the decision out.

May import `clickmill` and `monitoring.live`. The decisions themselves are `clickmill.release`'s.
"""

from monitoring.release.inbox import Inbox
from monitoring.release.listening import Tls, listening
from monitoring.release.observations import Observations, Spell
from monitoring.release.receiver import application
from monitoring.release.runner import Runner

__all__ = ["Inbox", "Observations", "Runner", "Spell", "Tls", "application", "listening"]
