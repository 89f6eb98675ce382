"""Worker processes: the supervisor that forks them, the frames between front and worker, the loop inside one."""
