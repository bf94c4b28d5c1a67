"""What watches a served model: live quality, dashboards, the release machine at work, and the rules that alert (`alerts/`, `runbooks/`: no Python). May import `clickmill` only.

docs/architecture.md says what is in place and what is not.
"""

__all__: list[str] = []
