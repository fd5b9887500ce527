"""What one worker does for all: evaluations published, promotions by rule, trainings started."""
