"""Changes that can be asked of a config: each checks that it makes sense and rewrites the text. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol as Interface

from l4lb.control.config import rewrite
from l4lb.control.config.config import Config
from l4lb.control.config.values import shown
from l4lb.model import Backend, Endpoint, Service


class NotFound(Exception):
    """What was named does not exist. The message is one line for people."""


class Conflict(Exception):
    """What was asked contradicts what is there. The message is one line for people.

    ``removal`` is the edit that would take away what is in the way, if there is one.
    """

    def __init__(self, message: str, removal: Edit | None = None) -> None:
        super().__init__(message)
        self.removal = removal


class Edit(Interface):
    """One change to a config."""

    def check(self, config: Config) -> None:
        """Find out whether the change makes sense for this config.

        Raises:
            NotFound: it is about something that does not exist.
            Conflict: it adds what is there already.
        """
        ...

    def written(self, text: str) -> str:
        """The text of a config that passed ``check``, with the change.

        Raises:
            ConfigError: the change cannot be written.
        """
        ...


@dataclass(frozen=True, slots=True)
class AddBackend:
    """A new backend at the end of a service's list."""

    service: str
    address: Endpoint
    weight: int

    def check(self, config: Config) -> None:
        """See Edit."""
        if any(backend.address == self.address for backend in find_service(config, self.service).backends):
            raise Conflict(
                f"service '{self.service}' already has backend {self.address}",
                RemoveBackend(self.service, self.address),
            )

    def written(self, text: str) -> str:
        """See Edit."""
        return rewrite.add_backend(text, self.service, self.address, self.weight)


@dataclass(frozen=True, slots=True)
class RemoveBackend:
    """A backend and its connections go."""

    service: str
    address: Endpoint

    def check(self, config: Config) -> None:
        """See Edit."""
        find_backend(config, self.service, self.address)

    def written(self, text: str) -> str:
        """See Edit."""
        return rewrite.remove_backend(text, self.service, self.address)


@dataclass(frozen=True, slots=True)
class SetWeight:
    """Another weight for a backend; 0 drains it."""

    service: str
    address: Endpoint
    weight: int

    def check(self, config: Config) -> None:
        """See Edit."""
        find_backend(config, self.service, self.address)

    def written(self, text: str) -> str:
        """See Edit."""
        return rewrite.set_weight(text, self.service, self.address, self.weight)


@dataclass(frozen=True, slots=True)
class AddService:
    """A new service; ``fields`` are the keys of its table in the config file."""

    fields: Mapping[str, object]

    def check(self, config: Config) -> None:
        """See Edit."""
        name = self.fields.get("name")
        if any(service.name == name for service in config.services):
            raise Conflict(f"there already is a service '{name}'", RemoveService(str(name)))

    def written(self, text: str) -> str:
        """See Edit."""
        return rewrite.add_service(text, self.fields)


@dataclass(frozen=True, slots=True)
class RemoveService:
    """A service, its backends and all its connections go."""

    service: str

    def check(self, config: Config) -> None:
        """See Edit."""
        find_service(config, self.service)

    def written(self, text: str) -> str:
        """See Edit."""
        return rewrite.remove_service(text, self.service)


def insist(edit: Edit, text: str, config: Config) -> str:
    """The text after ``edit``, where part of what it does may be done already.

    This is for the config in force after the same edit was made to the file, since the two differ
    by what was done with ``--runtime`` or by hand: what is there is replaced, what is gone stays away.

    Raises:
        NotFound: there is nothing to change.
    """
    try:
        edit.check(config)
    except NotFound:
        if isinstance(edit, RemoveBackend | RemoveService):
            return text
        raise
    except Conflict as conflict:
        if conflict.removal is not None:
            text = conflict.removal.written(text)
    return edit.written(text)


def find_service(config: Config, name: str) -> Service:
    """The service called ``name``.

    Raises:
        NotFound: with the names there are.
    """
    for service in config.services:
        if service.name == name:
            return service
    names = ", ".join(service.name for service in config.services) or "none"
    raise NotFound(f"there is no service {shown(name)} (services: {names})")


def find_backend(config: Config, name: str, address: Endpoint) -> Backend:
    """The backend of the service called ``name``.

    Raises:
        NotFound: no such service, or no such backend in it.
    """
    for backend in find_service(config, name).backends:
        if backend.address == address:
            return backend
    raise NotFound(f"service '{name}' has no backend {address}")


def find_in_any(config: Config, name: str | None, address: Endpoint) -> None:
    """See that the service called ``name``, or without a name some service, has this backend.

    Raises:
        NotFound: as for ``find_backend``, or no service has it.
    """
    if name is not None:
        find_backend(config, name, address)
    elif all(backend.address != address for service in config.services for backend in service.backends):
        raise NotFound(f"no service has a backend {address}")
