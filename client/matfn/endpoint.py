"""Where a server is: http://host:port, https://host, or unix:///path of a socket."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Endpoint"]

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A parsed base URL; `socket_path` is set for a unix socket, `prefix` is what every target begins with."""

    scheme: str
    host: str
    port: int
    prefix: str = ""
    socket_path: str | None = None

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """The endpoint of a URL; ValueError says what is wrong with it."""
        from urllib.parse import unquote, urlsplit  # a LocalClient has no use for it

        parts = urlsplit(url)
        if parts.scheme == "unix":
            return cls._unix(url, unquote(parts.path), parts.netloc)
        if parts.scheme not in _PORTS:
            raise ValueError(f"{url!r} begins with neither http://, https:// nor unix:///")
        if not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ValueError(f"{url!r} is no base URL: it takes a host, a port and a path, nothing else")
        if parts.port == 0:
            raise ValueError(f"{url!r} names port 0, on which no server listens")
        return cls(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme], parts.path.rstrip("/"))

    @classmethod
    def _unix(cls, url: str, path: str, netloc: str) -> Endpoint:
        if netloc or not path.startswith("/"):
            raise ValueError(f"{url!r} needs three slashes and an absolute path: unix:///run/matfn.sock")
        return cls("http", "localhost", 80, socket_path=path)

    @property
    def authority(self) -> str:
        """The Host header's value."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        if self.socket_path is not None:
            return f"unix://{self.socket_path}"
        return f"{self.scheme}://{self.authority}{self.prefix}"
