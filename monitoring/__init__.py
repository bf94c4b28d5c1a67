"""What watches a served model: drift jobs, live metrics, alert rules, dashboards. May import `clickmill` only.

Empty so far but for this line; docs/architecture.md says what is in place and what is not.
"""

__all__: list[str] = []
