"""`forgepool inspect`: takes bytes apart for people and scripts."""
