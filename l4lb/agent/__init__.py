"""What a backend says of itself: the agent that measures and answers, and those who ask it."""
