"""The child process: runs the user's code for one worker, and nothing else does."""
