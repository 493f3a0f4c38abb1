"""The RPC of an Octez or Mavryk node, and the shapes of its answers."""
