"""The worker: runs the trials that a server assigns, the user's code in a child process."""
