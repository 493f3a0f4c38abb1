"""The sandbox application host: what a node service of Linera serves, without any chain behind it.

docs/sandbox-apps.md tells how to use it. It answers as `linera service` does, over HTTP and over
the notification stream, and can be told to misbehave.
"""
