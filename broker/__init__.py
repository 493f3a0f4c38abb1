"""Queues, routes and publishes: the process between clients and workers. Holds no key."""
