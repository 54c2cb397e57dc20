"""Running a learner's code out of process."""
