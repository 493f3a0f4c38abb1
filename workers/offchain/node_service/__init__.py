"""The node service: questions, submissions, notifications, and what its replies mean."""
