"""Sylvester, Lyapunov and Riccati equations."""
