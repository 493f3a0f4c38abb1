"""The sandbox node: a small honest Tenderbake chain that speaks the RPC of an Octez node."""
