"""All services of the node in one directory."""

from __future__ import annotations

from workers.sandbox.directory import Directory
from workers.sandbox.node import SandboxNode
from workers.sandbox.services.blocks import BlockServices
from workers.sandbox.services.context import ContextServices
from workers.sandbox.services.forging import ForgeServices
from workers.sandbox.services.injection import InjectionServices
from workers.sandbox.services.mempool import MempoolServices
from workers.sandbox.services.monitor import MonitorServices
from workers.sandbox.services.node_facts import NodeServices
from workers.sandbox.services.preapply_block import PreapplyBlock
from workers.sandbox.services.rights import RightsServices
from workers.sandbox.services.simulation import SimulationServices
from workers.sandbox.services.statistics import StatisticsServices

_SERVICES = (
    NodeServices,
    BlockServices,
    ContextServices,
    RightsServices,
    ForgeServices,
    SimulationServices,
    PreapplyBlock,
    MempoolServices,
    InjectionServices,
    MonitorServices,
    StatisticsServices,
)


def services_of(node: SandboxNode) -> Directory:
    """Return every path that the node answers."""
    directory = Directory()
    for services in _SERVICES:
        services(node).add_to(directory)
    return directory
