"""How long who is waited for, before he is taken for dead."""

from __future__ import annotations

from datetime import timedelta

HEARTBEAT_S = 30
"""Seconds between heartbeats, as PREFECT_FLOWS_HEARTBEAT_FREQUENCY in the deployments; the least that Prefect allows."""
SILENCE_S = 90.0
"""Seconds without a heartbeat after which a run's process is taken for dead."""
PENDING_S = 600.0
"""Seconds after which a run that a worker has taken but no process has begun is taken for dead."""
SETTLED_S = 60.0
"""Seconds that a crashed run is left alone. A worker reports the same crash twice, up to half a minute apart: an earlier start
would be taken for the one that crashed."""
MEMORY = timedelta(days=1)
"""How far back the janitor looks for crashed runs."""
