"""High watermarks as the files of other signers hold them: reading, writing, comparing."""
