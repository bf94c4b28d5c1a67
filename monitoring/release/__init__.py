"""Releases at work: what was seen of one, the loop that decides, the alerts that come in.

May import `clickmill` and `monitoring.live`. The decisions themselves are `clickmill.release`'s.
"""

from monitoring.release.inbox import Inbox
from monitoring.release.listening import Tls, listening
from monitoring.release.observations import Observations, Spell
from monitoring.release.receiver import application
from monitoring.release.runner import Runner

__all__ = ["Inbox", "Observations", "Runner", "Spell", "Tls", "application", "listening"]
