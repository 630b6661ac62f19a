"""Settings that every test runs under."""

from hypothesis import settings

# A time limit per example says more about the machine than about the code.
settings.register_profile("l4lb", deadline=None, print_blob=True)
settings.load_profile("l4lb")
