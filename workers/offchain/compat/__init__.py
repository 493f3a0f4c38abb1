"""The task processor as the source system has it, with its weaknesses: a pure core."""
