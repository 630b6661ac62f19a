"""What a backend says of itself: the agent that measures and answers. Who asks it: ``health/agents``."""
