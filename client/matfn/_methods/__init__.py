"""The generated method surface of the clients."""
