"""The paths that a published event carries in its data, which `path_prefix` compares with."""

from streamhub.core.view import View, elements_of, members_of, string_of


def paths_in(event: View) -> tuple[str, ...]:
    """`data.path` and each `data.entries[].path`, as far as they are strings. A change has none."""
    data = members_of(event.raw("data"))
    entries = elements_of(data["entries"]) if "entries" in data else ()
    holders = [data, *(members_of(each) for each in entries)]
    found = [string_of(holder["path"]) for holder in holders if "path" in holder]
    return tuple(path for path in found if path is not None)
