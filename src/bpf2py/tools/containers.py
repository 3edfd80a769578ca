"""Containers by their control groups: names of docker, containerd, CRI-O, podman, LXC, Kubernetes pods and systemd units.

The kernel knows control groups (version 2), not containers. What a container is called stands in the path of its group, which its
runtime made, or in a file the runtime keeps.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

from bpf2py._typing import NamedTuple
from bpf2py.errors import BpfError
from bpf2py.kernel.cgroups import mount_point

__all__ = ["Container", "Containers", "find_container", "parse"]

_HEX = r"(?P<id>[0-9a-f]{64})"
# The part of a path that is a container, as each runtime writes it: with systemd as the manager of groups, and without.
_PARTS = {
    "docker": re.compile(rf"^(?:docker-)?{_HEX}(?:\.scope)?$"),
    "containerd": re.compile(rf"^(?:cri-containerd-|nerdctl-){_HEX}(?:\.scope)?$"),
    "cri-o": re.compile(rf"^crio-{_HEX}(?:\.scope)?$"),
    "podman": re.compile(rf"^libpod-{_HEX}(?:\.scope)?$"),
    "lxc": re.compile(r"^lxc\.payload\.(?P<name>.+)$"),
    "nspawn": re.compile(r"^systemd-nspawn@(?P<name>.+)\.service$|^machine-(?P<machine>.+)\.scope$"),
}
_POD = re.compile(r"pod(?P<uid>[0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})(?:\.slice)?$")
_UNIT = re.compile(r"\.(?:service|scope|socket|mount)$")
SHORT = 12  # characters of an id that people see
_NAME_FILE_MOST = 1 << 20


class Container(NamedTuple):
    """A container, or a unit of systemd.

    Attributes:
        path: of its control group, below the mount point.
        runtime: ``"docker"``, ``"containerd"``, ``"cri-o"``, ``"podman"``, ``"lxc"``, ``"nspawn"``; ``"pod"`` for a pod's own
            group, ``"systemd"`` for a unit.
        id: 64 hexadecimal digits; empty where the runtime has no ids.
        name: the unit's, or the one the runtime keeps; empty where it is not known.
        pod: the uid of the Kubernetes pod it belongs to; empty for none.
    """

    path: str
    runtime: str
    id: str = ""
    name: str = ""
    pod: str = ""

    @property
    def shown(self) -> str:
        """Its name, or the first 12 digits of its id, or of a pod's group the uid."""
        return self.name or self.id[:SHORT] or f"pod {self.pod}"


def parse(path: str) -> Container | None:
    """The innermost container in the path of a control group, else its unit of systemd; None for a group that is neither."""
    parts = path.strip("/").split("/")
    pod, unit = "", None
    found: Container | None = None
    for depth, part in enumerate(parts, 1):
        here = "/" + "/".join(parts[:depth])
        match = _POD.search(part)
        if match is not None:
            pod = match["uid"].replace("_", "-")
            found = Container(here, "pod", pod=pod)
            continue
        container = _container(part, parts[depth - 2] if depth > 1 else "")
        if container is not None:
            found = container._replace(path=here, pod=pod)
        elif _UNIT.search(part):
            unit = Container(here, "systemd", name=_unescaped(part))
    return found or unit


def _container(part: str, parent: str) -> Container | None:
    for runtime, pattern in _PARTS.items():
        match = pattern.match(part)
        if match is None:
            continue
        groups = match.groupdict()
        ident, name = groups.get("id") or "", groups.get("name") or groups.get("machine") or ""
        if runtime == "docker" and not part.startswith("docker-"):
            runtime = _runtime_of_parent(parent)
        return Container("", runtime, ident, _unescaped(name))
    if parent == "lxc" and part:
        return Container("", "lxc", name=part)
    return None


def _runtime_of_parent(parent: str) -> str:
    """Of a group whose name is an id alone: docker's are below ``docker``, those of Kubernetes below their pod."""
    if _POD.search(parent) or parent in ("k8s.io", "default", "moby"):
        return "containerd"
    return "podman" if parent.startswith("libpod") else "docker"


def _unescaped(unit: str) -> str:
    """A unit's name as systemd's users write it: ``\\x2d`` is a character."""
    return re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), unit)


class Containers:
    """The containers of the machine.

    Args:
        root: where cgroup2 is mounted; by default found.
        files: the root directory below which runtimes keep their files.
    """

    def __init__(self, root: str | None = None, files: str = "/") -> None:
        self._root = root or mount_point()
        self._files = files
        self._by_id: dict[int, Container | None] = {}
        self._named: dict[str, str] = {}
        self._podman: dict[str, str] | None = None
        self.refresh()

    def refresh(self) -> None:
        """Look at all control groups; those that have gone stay known."""
        if self._root is None:
            return
        for path, number in self._groups():
            if number not in self._by_id:
                self._by_id[number] = self._with_name(parse(path))

    def _groups(self) -> Iterator[tuple[str, int]]:
        """(path below the mount point, the kernel's number) of every control group."""
        assert self._root is not None
        for folder, _, _ in os.walk(self._root):
            try:
                yield folder[len(self._root.rstrip("/")) :] or "/", os.stat(folder).st_ino
            except OSError:
                continue  # it has gone

    def shown(self, cgroup: int) -> str | None:
        """How the container of a control group is called; None for one that is in none, or is not known."""
        if cgroup not in self._by_id:
            self.refresh()
            self._by_id.setdefault(cgroup, None)
        found = self._by_id[cgroup]
        return found.shown if found is not None else None

    def all(self) -> list[Container]:
        """Each once, pods too."""
        by_path = {each.path: each for each in self._by_id.values() if each is not None}
        return [by_path[path] for path in sorted(by_path)]

    # -- names that runtimes keep in files -----------------------------------------------------------------------

    def _with_name(self, found: Container | None) -> Container | None:
        if found is None or not found.id:
            return found
        if found.id not in self._named:
            self._named[found.id] = self._name_of(found.id)
        return found._replace(name=self._named[found.id])

    def _name_of(self, ident: str) -> str:
        config = self._read(f"var/lib/docker/containers/{ident}/config.v2.json")
        if isinstance(config, dict) and isinstance(name := config.get("Name"), str):
            return name.strip("/")
        for namespace in ("k8s.io", "default"):
            config = self._read(f"run/containerd/io.containerd.runtime.v2.task/{namespace}/{ident}/config.json")
            said = config.get("annotations") if isinstance(config, dict) else None
            if isinstance(said, dict):
                pod, name = said.get("io.kubernetes.cri.sandbox-name"), said.get("io.kubernetes.cri.container-name")
                own = name or said.get("nerdctl/name")
                if isinstance(own, str):
                    return f"{pod}/{own}" if isinstance(pod, str) else own
        return self._podman_names().get(ident, "")

    def _podman_names(self) -> dict[str, str]:
        if self._podman is None:
            self._podman = {}
            found = self._read("var/lib/containers/storage/overlay-containers/containers.json")
            for each in found if isinstance(found, list) else ():
                names = each.get("names") if isinstance(each, dict) else None
                if isinstance(names, list) and names and isinstance(names[0], str):
                    self._podman[str(each.get("id"))] = names[0]
        return self._podman

    def _read(self, path: str) -> object:
        """A file in JSON; None where there is none that can be read."""
        try:
            with open(os.path.join(self._files, path), "rb") as file:
                return json.loads(file.read(_NAME_FILE_MOST))
        except (OSError, ValueError, RecursionError):
            return None


def find_container(wanted: str, root: str | None = None, files: str = "/") -> str:
    """The directory of the control group of a container: by its name, the beginning of its id, a pod's uid, or a unit's name.

    Raises BpfError where there is none, or several.
    """
    root = root or mount_point()
    if root is None:
        raise BpfError("--container: no control groups of version 2 are mounted")
    known = Containers(root, files).all()
    exact = [each for each in known if wanted in (each.name, each.id, each.name.rpartition("/")[2])]
    exact += [each for each in known if each.runtime == "pod" and each.pod == wanted]
    exact += [each for each in known if not exact and each.name == f"{wanted}.service"]
    begins = [each for each in known if len(wanted) >= 3 and each.id.startswith(wanted)]
    found = exact or begins
    if len(found) == 1:
        return os.path.join(root, found[0].path.lstrip("/"))
    if found:
        raise BpfError(f"--container {wanted}: there are several: {', '.join(each.path for each in found)}")
    names = ", ".join(each.shown for each in known[:20]) or "none"
    raise BpfError(f"--container {wanted}: there is none; those in control groups of version 2 are: {names}")
