"""Object paths, selectors, and where an object's files lie."""

import os

from . import env

KINDS = ("svc", "vol", "cfg", "sec", "usr", "ccfg", "nscfg")


def split(path):
    """``ns/kind/name``, ``kind/name`` or ``name`` -> (namespace or None, kind, name)."""
    parts = path.split("/")
    if path == "cluster":
        return None, "ccfg", "cluster"
    if len(parts) == 3:
        return (None if parts[0] == "root" else parts[0]), parts[1], parts[2]
    if len(parts) == 2:
        return None, parts[0], parts[1]
    return None, "svc", path


def join(namespace, kind, name):
    if kind == "ccfg":
        return "cluster"
    if namespace:
        return f"{namespace}/{kind}/{name}"
    return name if kind == "svc" else f"{kind}/{name}"


def config_file(path):
    namespace, kind, name = split(path)
    if kind == "ccfg":
        return env.cluster_conf()
    if namespace:
        return env.etc("namespaces", namespace, kind, f"{name}.conf")
    return env.etc(f"{name}.conf") if kind == "svc" else env.etc(kind, f"{name}.conf")


def var_dir(path):
    namespace, kind, name = split(path)
    if namespace:
        return env.var("namespaces", namespace, kind, name)
    return env.var(kind, name)


def log_path(path):
    namespace, kind, name = split(path)
    if namespace:
        return env.log_file("namespaces", namespace, kind, f"{name}.log")
    return env.log_file(f"{name}.log")


def exists(path):
    return os.path.exists(config_file(path))


def listed():
    """Every object with a configuration on this node, the cluster's own aside."""
    found = []
    base = env.etc("namespaces")
    for namespace in _listdir(base):
        for kind in _listdir(os.path.join(base, namespace)):
            if kind not in KINDS:
                continue
            for name in _listdir(os.path.join(base, namespace, kind)):
                if name.endswith(".conf"):
                    found.append(join(namespace, kind, name[:-5]))
    for name in _listdir(env.etc()):
        if name.endswith(".conf") and name not in ("cluster.conf", "node.conf"):
            found.append(name[:-5])
    return sorted(found)


def _listdir(path):
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []


def select(selector, kind="svc"):
    """The objects a selector (``ns/svc/name``, ``*/svc/*``, ``**``, comma separated) matches."""
    import fnmatch

    matched = []
    for one in selector.split(","):
        if one == "cluster":
            matched.append("cluster")
            continue
        pattern = {"*": f"*/{kind}/*", "**": "*/*/*"}.get(one, one)
        for path in listed():
            namespace, object_kind, name = split(path)
            full = f"{namespace or 'root'}/{object_kind}/{name}"
            parts = pattern.split("/")
            if len(parts) == 1:
                hit = object_kind == kind and fnmatch.fnmatchcase(name, pattern)
            elif len(parts) == 2 and parts[1] == "**":
                hit = fnmatch.fnmatchcase(namespace or "root", parts[0])
            elif len(parts) == 2:
                hit = fnmatch.fnmatchcase(f"{object_kind}/{name}", pattern)
            else:
                hit = all(
                    fnmatch.fnmatchcase(a, b) for a, b in zip(full.split("/"), parts, strict=False)
                )
            if hit and path not in matched:
                matched.append(path)
    return matched
