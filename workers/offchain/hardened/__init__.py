"""The task processor as it should be: the default. A pure core and its nouns."""
