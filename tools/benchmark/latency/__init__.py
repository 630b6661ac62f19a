"""How long requests take when servers are not alike: real HTTP servers whose speed is under control,
clients that come whether or not they are answered, and balancers between them, in turns.
"""
