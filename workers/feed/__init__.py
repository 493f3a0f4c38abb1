"""The adapter between a real node and the quarantine: `forgepool quarantine feed`."""
