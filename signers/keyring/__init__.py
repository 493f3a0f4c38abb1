"""Keys, the client directory that they are kept in, and the commands that manage them."""
