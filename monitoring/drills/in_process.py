"""Where Prometheus and Alertmanager are not installed: the evidence of the rules that drills are about, looked at here, every second.

Not PromQL: the same series, thresholds, least numbers of clicks and the same memory of which bundle was good (decision 0016), for those
alerts only that a drill can wait for, with `for` as hurried. Alerts go to the same webhook, and what a stalled click log holds back is held back
here as well. The rules themselves are not shown by this.
"""

from __future__ import annotations
