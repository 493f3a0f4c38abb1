"""Which chains and applications a sandbox has, from a few numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

from workers.sandbox_apps.application_host import ApplicationHost
from workers.sandbox_apps.application_kind import ApplicationKind
from workers.sandbox_apps.controller_application import ControllerApplication
from workers.sandbox_apps.sandbox_chain import sandbox_id, sandbox_owner
from workers.sandbox_apps.task_application import TaskApplication


class Worker(NamedTuple):
    """A worker chain and its owner."""

    chain_id: str
    owner: str


class Plan(NamedTuple):
    """Chains and applications by their ids, which are the same in each run."""

    chains: list[str]
    applications: list[str]
    controller_chain: str = ""
    controller: str = ""
    workers: list[Worker] = []  # noqa: RUF012
    without_ids: list[str] = []  # noqa: RUF012  # of the applications

    @classmethod
    def of(
        cls, *, chains: int = 1, applications: int = 1, workers: int = 0, without_ids: int = 0
    ) -> Plan:
        """So many of each; with workers there is a controller.

        Args:
            without_ids: how many of the applications, the last ones, have tasks without ids.
        """
        numbers = range(1, workers + 1)
        named = [sandbox_id("application", number) for number in range(applications)]
        return cls(
            [sandbox_id("chain", number) for number in range(chains)],
            named,
            sandbox_id("controller chain", 0) if workers else "",
            sandbox_id("controller", 0) if workers else "",
            [Worker(sandbox_id("worker chain", each), sandbox_owner(each)) for each in numbers],
            named[max(0, applications - without_ids) :],
        )

    def host(self, *, ids: bool = True, read_only: bool = False) -> ApplicationHost:
        """A host with all of it, where nothing has happened yet."""
        applications: dict[str, ApplicationKind] = {
            each: TaskApplication(ids=ids and each not in self.without_ids)
            for each in self.applications
        }
        chains = list(self.chains)
        owners = {worker.chain_id: worker.owner for worker in self.workers}
        if self.workers:
            applications[self.controller] = ControllerApplication(self.controller_chain, owners)
            chains += [self.controller_chain, *owners]
        return ApplicationHost(chains, applications, owners=owners, read_only=read_only)

    def described(self) -> dict[str, Any]:
        """The plan for people and scripts."""
        described: dict[str, Any] = {"chains": self.chains, "applications": self.applications}
        if self.workers:
            described["controller"] = f"{self.controller_chain}/{self.controller}"
            described["workers"] = [
                {"controller": f"{each.chain_id}/{self.controller}", "owner": each.owner}
                for each in self.workers
            ]
        return described
