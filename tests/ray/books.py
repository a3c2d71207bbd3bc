# SPDX-License-Identifier: Apache-2.0
"""What Ray's own books say that there is."""
from __future__ import annotations

from collections.abc import Callable

from ray._private import state
from ray._raylet import GcsClientOptions


# Ray Data's own, which outlive the program that uses it for as long as Ray likes.
OF_RAY_DATA = {"ActorLocationTracker", "AutoscalingCoordinator", "AutoscalingRequester",
               "datasets_stats_actor"}


def of_ray(asked: state.GlobalState = state.state) -> set[str]:
    """Actors that are not dead and groups that are not removed; for a driver of Ray's."""
    actors = asked.actor_table(None).values()
    groups = asked.placement_group_table()
    return {f"actor {a['Name'] or a['ActorID']}" for a in actors
            if a["State"] != "DEAD" and a["Name"] not in OF_RAY_DATA} | {
        f"placement group {key}" for key, group in groups.items() if group["state"] != "REMOVED"}


def of_gcs(address: str) -> Callable[[], set[str]]:
    """The same for who is no driver, and where no raylet lives."""
    asked = state.GlobalState()
    asked._initialize_global_state(  # pylint: disable=protected-access
        GcsClientOptions.create(address, None, True, False))
    return lambda: of_ray(asked)
