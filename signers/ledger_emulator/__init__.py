"""A device that is not there: the baking app's commands over TCP, for tests and for trying."""
