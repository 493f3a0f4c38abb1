"""From a request for a block to an unsigned header: in a child process that holds no key."""
