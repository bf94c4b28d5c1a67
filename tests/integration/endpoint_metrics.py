"""What a running endpoint says of itself at /metrics."""

from __future__ import annotations

import httpx

from serving.process import Endpoint


def metric(endpoint: Endpoint, name: str, **labels: str) -> float:
    """Sum of the series of a metric with these labels; 0 where there is none."""
    lines = httpx.get(f"{endpoint.url}/metrics", timeout=60, trust_env=False).text.splitlines()
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    found = [line for line in lines if line.startswith(name + "{") and all(w in line for w in wanted)]
    return sum(float(line.split()[-1]) for line in found)
