"""What the stores say of themselves, from which the docs make their table."""

from __future__ import annotations

import pytest

from mpcache import backends, mutexes

NAMES = [name for name in backends.names() if name.startswith("mpcache.")]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_store_says_of_itself_is_what_its_mutex_and_configure_go_by(name: str) -> None:
    store = backends.load_backend(name)
    said, promised = store.keeping, mutexes.resolve(store.keeping.mutex).guarantees
    assert store.shared is promised.processes is (said.shared_by not in ("threads", "no process"))
    assert promised.hosts is (said.shared_by == "hosts")
    assert (said.outlives == "nothing") is not store.shared
    assert all(said)
